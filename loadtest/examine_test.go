package loadtest

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A plan may open its own connections and look at answers.
func TestDialAndExamine(t *testing.T) {
	server := newTLSServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Place", "here")
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, strings.Repeat("x", MaxExamined+1000))
	}))
	var dialled atomic.Int64
	o := DefaultOptions()
	o.Roots = server.roots
	o.Examine = func(target string, answer *http.Response, body []byte) string {
		if len(body) != MaxExamined {
			t.Errorf("examines %d bytes, want %d", len(body), MaxExamined)
		}
		return target + " " + answer.Header.Get("X-Place")
	}
	var results []Result
	o.Results = func(r Result) error { results = append(results, r); return nil }
	_, err := Run(t.Context(), Plan{Targets: []Target{{
		Name: "teapot", URL: "https://billing.example.com/", Arrivals: Constant{Rate: 100, For: 30 * time.Millisecond},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != "billing.example.com:443" {
				t.Errorf("dials %s", address)
			}
			dialled.Add(1)
			return new(net.Dialer).DialContext(ctx, network, server.address)
		},
	}}}, o)
	if err != nil || len(results) == 0 || dialled.Load() == 0 {
		t.Fatalf("%v: %d results over %d connections", err, len(results), dialled.Load())
	}
	for _, r := range results {
		if r.Outcome != Answered || r.Status != http.StatusTeapot || r.Note != "teapot here" || r.Bytes != MaxExamined+1000 {
			t.Errorf("%+v", r)
		}
	}
}
