package cold

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"time"
)

// call sends one GET. Anything but 200 is an error.
func (s *site) call(ctx context.Context, client *http.Client, host string) (reply, error) {
	var r reply
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { r.reused = c.Reused }})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+s.port()+"/", nil)
	if err != nil {
		return r, err
	}
	began := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return r, err
	}
	r.took = time.Since(began)
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20)); err != nil {
		return r, err
	}
	if response.StatusCode != http.StatusOK {
		return r, fmt.Errorf("%d %s", response.StatusCode, response.Header.Get("x-polder-reason"))
	}
	r.cold = response.Header.Get("x-polder-cold") != ""
	r.start = serverTiming(response.Header.Get("server-timing"), "start")
	return r, nil
}

// serverTiming reads one metric of a Server-Timing header; 0 when it is not there.
func serverTiming(header, name string) time.Duration {
	for part := range strings.SplitSeq(header, ",") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(part), name+";dur="); ok {
			ms, err := strconv.ParseFloat(value, 64)
			if err == nil {
				return time.Duration(ms * float64(time.Millisecond))
			}
		}
	}
	return 0
}
