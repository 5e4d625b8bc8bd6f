package activator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polder/polder"
)

// eventsRequest asks for a stream of events.
func eventsRequest(t *testing.T, id string) *http.Request {
	r := newRequest(t, t.Context(), "GET", "/events", nil)
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("X-Request-Id", id)
	return r
}

func upgradeRequest(t *testing.T, id string) *http.Request {
	r := newRequest(t, t.Context(), "GET", "/socket", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("X-Request-Id", id)
	return r
}

func wantMoved(t *testing.T, got result) {
	t.Helper()
	if got.err != nil || got.StatusCode != http.StatusMisdirectedRequest || got.Header.Get("X-Polder-Reason") != "moved" || got.text != "" {
		t.Errorf("got %+v, want it moved", got)
	}
}

// A stream is moved once Envoy knows the instance, and nothing of it reaches the
// instance from here. If it comes again, Envoy did not find the instance: it stays.
func TestStreamIsMovedOnce(t *testing.T) {
	for name, request := range map[string]func(*testing.T, string) *http.Request{"events": eventsRequest, "upgrade": upgradeRequest} {
		t.Run(name, func(t *testing.T) {
			w, known := newWakes(), make(chan struct{})
			o := options(w.wake)
			o.Published = func(ctx context.Context, s polder.ServiceName) error {
				if s != "svc" {
					t.Errorf("asked about %s", s)
				}
				select {
				case <-known:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			r := newRig(t, o)
			var reached atomic.Int32
			to := instance(t, polder.HTTP1, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
			got := start(r.client(polder.HTTP1), request(t, "req-1"))
			w.next(t).succeed(to)
			close(known)
			wantMoved(t, receive(t, got, "the answer"))
			r.idle()
			if n := reached.Load(); n != 0 {
				t.Errorf("the instance saw %d requests", n)
			}
			if s := r.stats("svc"); s.Moved != 1 || s.Forwarded != 0 || len(s.Failed) != 0 {
				t.Errorf("counted %+v", s)
			}
			if c := r.ColdRequests(); len(c) != 1 || !c[0].Moved || c[0].Reason != "" || c[0].Phases.Published <= 0 || c[0].Phases.Forwarded != 0 || c[0].Phases.FirstByte != 0 {
				t.Errorf("remembered %+v", c)
			}
			again := start(r.client(polder.HTTP1), request(t, "req-1"))
			w.next(t).succeed(to)
			receive(t, again, "the answer").ok(t, "")
			if s := r.stats("svc"); s.Moved != 1 || s.Forwarded != 1 {
				t.Errorf("counted %+v", s)
			}
			r.idle()
		})
	}
}

// posted asks for a stream of events with a body, of a length that is told or,
// with -1, not.
func posted(t *testing.T, body string, length int64) *http.Request {
	r := eventsRequest(t, "req-1")
	r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(strings.NewReader(body)), length
	return r
}

// A request with a body moves where Envoy has surely kept the body: when it is
// short, and over HTTP/2 always. Nothing of it reaches the instance from here.
func TestBodiesMove(t *testing.T) {
	large := strings.Repeat("x", 1<<20)
	call := posted(t, large, -1)
	call.Header.Del("Accept")
	call.Header.Set("Content-Type", "application/grpc+proto")
	for name, test := range map[string]struct {
		protocol polder.Protocol
		request  *http.Request
	}{
		"a short one":             {polder.HTTP1, posted(t, "short", 5)},
		"a short one over HTTP/2": {polder.HTTP2, posted(t, "short", 5)},
		"an endless one":          {polder.HTTP2, posted(t, large, -1)},
		"a long one over HTTP/2":  {polder.HTTP2, posted(t, large, int64(len(large)))},
		"a gRPC call":             {polder.HTTP2, call},
	} {
		t.Run(name, func(t *testing.T) {
			var reached atomic.Int32
			o := options(at(instance(t, test.protocol, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))))
			o.Published = func(context.Context, polder.ServiceName) error { return nil }
			r := newRig(t, o)
			wantMoved(t, send(r.client(test.protocol), test.request))
			r.idle()
			if n := reached.Load(); n != 0 {
				t.Errorf("the instance saw %d requests", n)
			}
		})
	}
}

// What has a body that Envoy may not have kept, no name, or no end to tell it by,
// stays; and so does all while it is not known whether Envoy knows the instance.
func TestWhatStays(t *testing.T) {
	large := strings.Repeat("x", 20<<10)
	for name, test := range map[string]struct {
		request *http.Request
		err     error
	}{
		"an ordinary request":           {newRequest(t, t.Context(), "GET", "/", nil), nil},
		"an endless body":               {posted(t, large, -1), nil},
		"a long body":                   {posted(t, large, int64(len(large))), nil},
		"no identifier":                 {eventsRequest(t, ""), nil},
		"an Envoy that does not answer": {eventsRequest(t, "req-1"), errors.New("no acknowledgement")},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(at(instance(t, polder.HTTP1, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "here") }))))
			o.Published = func(context.Context, polder.ServiceName) error { return test.err }
			r := newRig(t, o)
			send(r.client(polder.HTTP1), test.request).ok(t, "here")
			r.idle()
		})
	}
}

// Not all of a crowd of streams are moved: Envoy repeats only so many at a time,
// and what it does not repeat would be an error.
func TestMovesAreBounded(t *testing.T) {
	const streams = 2500 // more than two minutes may move, if one ends meanwhile
	o := options(at(instance(t, polder.HTTP1, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))))
	o.Published = func(context.Context, polder.ServiceName) error { return nil }
	r := newRig(t, o)
	client := r.client(polder.HTTP1)
	moved := 0
	for i := range streams {
		if got := send(client, eventsRequest(t, fmt.Sprint("req-", i))); got.err == nil && got.Header.Get("X-Polder-Reason") == "moved" {
			moved++
		} else if got.err != nil || got.StatusCode != 200 {
			t.Fatalf("got %+v", got)
		}
	}
	if s := r.stats("svc"); moved < 1000 || moved > 2048 || s.Moved != uint64(moved) || s.Forwarded != uint64(streams-moved) || strings.Contains(r.log.String(), "not answered") {
		t.Errorf("%d were moved: %+v", moved, s)
	}
}
