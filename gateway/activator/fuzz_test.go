package activator_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// FuzzHeaders sends any header that the server's parser lets through.
func FuzzHeaders(f *testing.F) {
	for _, seed := range []string{
		"X-Polder-Service: svc",
		"X-Polder-Service: svc\r\nX-POLDER-Other: 1\r\nx_polder_cold: 1",
		"X-Polder-Service: svc\r\nX-Polder-Service: svc",
		"X-Polder-Service: \r\n",
		"X-Polder-Service: svc\r\nConnection: X-Polder-Service, X-Forwarded-For\r\nX-Forwarded-For: 1.2.3.4",
		"X-Polder-Service: svc\r\nTransfer-Encoding: chunked\r\nTrailer: X-Polder-T, X-T",
		"X-Polder-Service: svc\r\nContent-Length: 3",
		"X-Polder-Service: svc\r\nConnection: upgrade\r\nUpgrade: websocket",
		"X-Polder-Service: svc\r\nConnection: upgrade\r\nUpgrade: \x80",
		"X-Polder-Service: svc\r\nX-Request-Id: \x01\r\nExpect: 100-continue\r\nTe: trailers, gzip",
		"x-polder-service: nobody\r\nUser-Agent:",
	} {
		f.Add(seed, "/a?b=c", "3\r\nabc\r\n0\r\nX-T: 1\r\nX-Polder-T: 2\r\n\r\n")
	}
	var leaked atomic.Value // the name of a header that the instance must not see
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for _, h := range []http.Header{r.Header, r.Trailer} {
			for name := range h {
				if strings.HasPrefix(strings.ToLower(strings.ReplaceAll(name, "_", "-")), "x-polder-") {
					leaked.Store(name)
				}
			}
		}
		w.Header()["Seen-For"] = r.Header["X-Forwarded-For"]
	}))
	f.Cleanup(server.Close)
	to := target(server.Listener.Addr(), polder.HTTP1)
	woken := false
	o := options(func(context.Context, polder.ServiceName, activator.Cause) (activator.Target, error) {
		woken = true
		return to, nil
	})
	o.Log = slog.New(slog.DiscardHandler)
	a, err := activator.New(o)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, header, uri, body string) {
		in, err := http.ReadRequest(bufio.NewReader(strings.NewReader("POST " + uri + " HTTP/1.1\r\nHost: h\r\n" + header + "\r\n\r\n" + body)))
		if err != nil {
			return
		}
		service, forwarded := in.Header["X-Polder-Service"], in.Header.Values("X-Forwarded-For")
		woken = false
		w := httptest.NewRecorder()
		aborted := func() (aborted bool) {
			defer func() { aborted = recover() == http.ErrAbortHandler }()
			a.ServeHTTP(w, in)
			return false
		}()
		if woken != (len(service) == 1 && service[0] != "" && !strings.HasPrefix(service[0], "nobody") && strings.Trim(service[0], "abcdefghijklmnopqrstuvwxyz0123456789-") == "" &&
			len(service[0]) < 64 && !strings.HasPrefix(service[0], "-") && !strings.HasSuffix(service[0], "-")) {
			t.Errorf("woken is %v for %q", woken, service)
		}
		for _, s := range a.Stats().Services {
			if s.Held != 0 || s.Forwarding != 0 {
				t.Errorf("left behind: %+v", s)
			}
		}
		if name := leaked.Load(); name != nil {
			t.Fatalf("the instance sees %s", name)
		}
		switch {
		case aborted || w.Header().Get("X-Polder-Reason") != "" || w.Code == http.StatusBadRequest:
		case w.Code == http.StatusOK:
			if seen := w.Header()["Seen-For"]; !slices.Equal(seen, forwarded) {
				t.Errorf("X-Forwarded-For is %q, was %q", seen, forwarded)
			}
		default:
			t.Errorf("%d %v does not say why", w.Code, w.Header())
		}
	})
}
