package activator_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// TestRoomIsGivenBackOnce: whatever becomes of a request, the room that it was
// given at an instance is given back, and not twice.
func TestRoomIsGivenBackOnce(t *testing.T) {
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	breaks := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	half := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	for name, test := range map[string]struct {
		to      activator.Target
		request *http.Request
		given   int32
	}{
		"answered":          {instance(t, polder.HTTP1, ok), newRequest(t, t.Context(), "GET", "/", nil), 1},
		"over HTTP/2":       {instance(t, polder.HTTP2, ok), newRequest(t, t.Context(), "GET", "/", nil), 1},
		"not accepted":      {nobody(t), newRequest(t, t.Context(), "GET", "/", nil), 2},
		"broken":            {instance(t, polder.HTTP1, breaks), newRequest(t, t.Context(), "GET", "/", nil), 1},
		"broken in between": {instance(t, polder.HTTP1, half), newRequest(t, t.Context(), "GET", "/", nil), 1},
		"moved":             {instance(t, polder.HTTP1, ok), eventsRequest(t, "req-1"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			var given, back atomic.Int32
			o := options(func(context.Context, polder.ServiceName, activator.Cause) (activator.Target, error) {
				to := test.to
				given.Add(1)
				to.Release = func() { back.Add(1) }
				return to, nil
			})
			o.Published = func(context.Context, polder.ServiceName) error { return nil }
			r := newRig(t, o)
			send(r.client(polder.HTTP1), test.request)
			r.idle()
			eventually(t, "the room is given back", func() bool { return back.Load() == test.given && given.Load() == test.given })
		})
	}
}

// TestWaitingForABusyInstance is remembered and counted as what it is.
func TestWaitingForABusyInstance(t *testing.T) {
	to := instance(t, polder.HTTP1, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "x") }))
	to.Busy = true
	o := options(at(to))
	o.ServerTiming = true
	r := newRig(t, o)
	got := send(r.client(polder.HTTP1), newRequest(t, t.Context(), "GET", "/", nil))
	got.ok(t, "x")
	if timing := got.Header.Get("Server-Timing"); !strings.HasPrefix(timing, "saturated;dur=") || got.Header.Get("X-Polder-Cold") != "" {
		t.Errorf("the caller is told %q", timing)
	}
	r.idle()
	if s := r.stats("svc"); s.Saturated != 1 || s.Cold != 0 || s.Late != 0 {
		t.Errorf("counted %+v", s)
	}
	if c := r.ColdRequests(); len(c) != 1 || c[0].Class != activator.Saturation || c[0].Phases.Total() <= 0 {
		t.Errorf("remembered %+v", c)
	}
}

// TestSaturatedForTooLong: a request that began to wait for a start, and waits for
// a busy instance in the end, is refused for that.
func TestSaturatedForTooLong(t *testing.T) {
	var busy atomic.Bool
	o := options(func(ctx context.Context, _ polder.ServiceName, _ activator.Cause) (activator.Target, error) {
		busy.Store(true)
		<-ctx.Done()
		return activator.Target{}, ctx.Err()
	})
	o.Saturated = func(polder.ServiceName) bool { return busy.Load() }
	o.Limits.Cold.Wait = 50 * time.Millisecond
	r := newRig(t, o)
	send(r.client(polder.HTTP1), newRequest(t, t.Context(), "GET", "/", nil)).refused(t, http.StatusServiceUnavailable, activator.Saturated)
	r.idle()
	if c := r.ColdRequests(); len(c) != 1 || c[0].Class != activator.Saturation || c[0].Reason != activator.Saturated {
		t.Errorf("remembered %+v", c)
	}
}

// TestBudgetsChangeWhileRequestsAreHeld: what is held stays, what comes is held to
// the new budget, and a budget that makes no sense changes nothing.
func TestBudgetsChangeWhileRequestsAreHeld(t *testing.T) {
	w := newWakes()
	r := newRig(t, options(w.wake))
	client := r.client(polder.HTTP1)
	var held []*wake
	var answers []<-chan result
	for range 4 {
		answers = append(answers, start(client, newRequest(t, t.Context(), "GET", "/", nil)))
		held = append(held, w.next(t))
	}
	limits := activator.DefaultLimits()
	if err := r.SetBudgets(activator.Budget{}, limits.Saturated); err == nil || !strings.Contains(err.Error(), "cold: Held is 0") {
		t.Errorf("an empty budget: %v", err)
	}
	narrow := limits.Cold
	narrow.Held = 2
	if err := r.SetBudgets(narrow, limits.Saturated); err != nil {
		t.Fatal(err)
	}
	send(client, newRequest(t, t.Context(), "GET", "/", nil)).refused(t, http.StatusServiceUnavailable, activator.ActivatorFull)
	to := instance(t, polder.HTTP1, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") }))
	for i, one := range held {
		one.succeed(to)
		receive(t, answers[i], "the answer").ok(t, "x")
	}
	r.idle()
	for _, c := range r.Stats().Classes {
		if c.Held != 0 || c.Bytes != 0 {
			t.Errorf("left: %+v", c)
		}
	}
	again := start(client, newRequest(t, t.Context(), "GET", "/", nil))
	w.next(t).succeed(to)
	receive(t, again, "the answer").ok(t, "x")
}
