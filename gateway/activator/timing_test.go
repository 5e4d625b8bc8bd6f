package activator_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// started is a target whose start passed its steps just now.
func started(to activator.Target) activator.Target {
	to.Start.Decided = time.Now()
	to.Start.Started = time.Now()
	to.Start.Listening = time.Now()
	to.Start.Ready = time.Now()
	return to
}

func TestColdRequestIsInTheLedger(t *testing.T) {
	to := instance(t, polder.HTTP1, echo)
	r := newRig(t, options(func(context.Context, polder.ServiceName, activator.Cause) (activator.Target, error) {
		return started(to), nil
	}))
	before := time.Now()
	client := r.client(polder.HTTP1)
	for i := range 3 {
		request := newRequest(t, t.Context(), "GET", "/", nil)
		request.Header.Set("X-Request-Id", fmt.Sprint("req-", i))
		send(client, request).ok(t, "")
	}
	after := time.Now()
	cold := r.ColdRequests()
	if len(cold) != 3 {
		t.Fatalf("the ledger has %+v", cold)
	}
	for i, c := range cold {
		if want := fmt.Sprint("req-", 2-i); c.ID != want {
			t.Errorf("entry %d is %s, want %s: the latest comes first", i, c.ID, want)
		}
		if c.Service != "svc" || c.Region != "fr" || c.Instance != "svc-1" || c.Class != activator.Cold ||
			c.Wakes != 1 || c.Status != 200 || c.Reason != "" {
			t.Errorf("entry %d: %+v", i, c)
		}
		if c.Noticed.Before(before) || c.Noticed.Add(c.Phases.Total()).After(after) {
			t.Errorf("entry %d lies outside of its request: %+v", i, c)
		}
		for _, step := range c.Phases.Steps() {
			if published := step.Name == "published"; step.Took < 0 || (step.Took == 0) != published { // nobody waits for that
				t.Errorf("entry %d: %s took %s", i, step.Name, step.Took)
			}
		}
	}
}

func TestRequestThatFindsAWarmInstanceIsLateAndNotCold(t *testing.T) {
	to := instance(t, polder.HTTP1, echo)
	to.Warm = true
	o := options(at(to))
	o.ServerTiming = true
	r := newRig(t, o)
	got := send(r.client(polder.HTTP1), newRequest(t, t.Context(), "GET", "/", nil))
	got.ok(t, "")
	if got.Header.Get("Server-Timing") != "" || got.Header.Get("X-Polder-Cold") != "" {
		t.Errorf("it is told that it was cold: %v", got.Header)
	}
	r.idle()
	if s := r.stats("svc"); s.Late != 1 || s.Cold != 0 || len(r.ColdRequests()) != 0 {
		t.Errorf("counted %+v, ledger %+v", s, r.ColdRequests())
	}
}

func TestServerTimingOnlyIfAskedFor(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		to := instance(t, p, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Server-Timing", "db;dur=7")
			io.WriteString(w, "x")
		}))
		for _, on := range []bool{false, true} {
			o := options(func(context.Context, polder.ServiceName, activator.Cause) (activator.Target, error) {
				return started(to), nil
			})
			o.ServerTiming = on
			r := newRig(t, o)
			got := send(r.client(p), newRequest(t, t.Context(), "GET", "/", nil))
			got.ok(t, "x")
			timing := got.Header.Values("Server-Timing")
			if !on {
				if len(timing) != 1 || got.Header.Get("X-Polder-Cold") != "" {
					t.Errorf("off, but %v", got.Header)
				}
				continue
			}
			if len(timing) != 2 || timing[0] != "db;dur=7" || got.Header.Get("X-Polder-Cold") != "1" {
				t.Fatalf("on: %v", got.Header)
			}
			var cold, queued, begin float64
			if _, err := fmt.Sscanf(timing[1], "cold;dur=%g, queued;dur=%g, start;dur=%g", &cold, &queued, &begin); err != nil {
				t.Fatalf("%q: %v", timing[1], err)
			}
			phases := r.ColdRequests()[0].Phases
			if want := fmt.Sprintf("%.3f", float64(phases.Total())/1e6); fmt.Sprintf("%.3f", cold) != want || queued+begin > cold {
				t.Errorf("%q does not agree with the ledger's %+v", timing[1], phases)
			}
		}
	})
}
