package loadtest

import (
	"context"
	"testing"
	"time"
)

// Both waiters wait until the instant and not less, take no time for a past
// one, and end a wait under way when their context does.
func TestWaiters(t *testing.T) {
	for name, newWaiter := range map[string]func(context.Context) waiter{"exact": newWaiter, "timer": newTimerWaiter} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			w := newWaiter(ctx)
			defer w.stop()
			for range 3 {
				until := time.Now().Add(3 * time.Millisecond)
				if !w.wait(until) {
					t.Fatal("the context has not ended")
				}
				if left := time.Until(until); left > 0 {
					t.Errorf("woke %v too early", left)
				}
			}
			if !w.wait(time.Now().Add(-time.Hour)) {
				t.Error("a past instant was not met")
			}
			ended := inBackground(func() bool { return w.wait(time.Now().Add(time.Hour)) })
			cancel()
			select {
			case met := <-ended:
				if met {
					t.Error("an hour has not passed")
				}
			case <-time.After(30 * time.Second):
				t.Fatal("the end of the context did not end the wait")
			}
			if w.wait(time.Now()) {
				t.Error("a waiter goes on after its context")
			}
		})
	}
}

// inBackground runs f in a goroutine of its own and hands its result over.
func inBackground(f func() bool) <-chan bool {
	c := make(chan bool, 1)
	go func() { c <- f() }()
	return c
}
