package gateway

import (
	"errors"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

func (w *world) rouse() (activator.State, error) {
	o, err := w.r.Rouse(w.ctx, "billing", activator.Cause{Kind: activator.CauseRequest})
	return o.State, err
}

func (w *world) look() activator.State {
	w.t.Helper()
	o, err := w.r.Look(w.ctx, "billing")
	if err != nil {
		w.t.Fatal(err)
	}
	return o.State
}

// TestRouseKeepsForThoseWhoComeBack: a caller who was told to come back finds the
// instance, however short the keep-alive and however long the start; and it
// sleeps again if nobody comes.
func TestRouseKeepsForThoseWhoComeBack(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", time.Second)}, func(w *world) {
		w.startUp = 45 * time.Second
		if w.look() != activator.StateAsleep {
			t.Fatal("not asleep at first")
		}
		for range 5 { // however many ask
			if state, err := w.rouse(); err != nil || state != activator.StateStarting {
				t.Fatalf("roused: %s, %v", state, err)
			}
		}
		if n := w.started(); n != 1 {
			t.Fatalf("%d starts", n)
		}
		after(44 * time.Second)
		if got := w.look(); got != activator.StateStarting {
			t.Fatalf("a slow start is %s", got)
		}
		after(21 * time.Second) // 20 s after it is ready
		if got := w.look(); got != activator.StateReady {
			t.Fatalf("who comes back finds it %s", got)
		}
		after(time.Minute) // looking keeps nothing awake
		if got := w.look(); got != activator.StateAsleep {
			t.Errorf("when nobody came it is %s", got)
		}
		if n := w.started(); n != 1 {
			t.Errorf("%d starts", n)
		}
	})
}

func TestRouseTellsOfFailures(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", time.Second)}, func(w *world) {
		w.startUp, w.breaker = -1, 1
		if state, err := w.rouse(); err != nil || state != activator.StateStarting {
			t.Fatalf("the first: %s, %v", state, err)
		}
		after(time.Second)
		_, err := w.rouse()
		var failure *activator.Failure
		if !errors.As(err, &failure) || failure.RetryAfter <= 0 {
			t.Fatalf("the second: %v", err)
		}
		if got := w.look(); got != activator.StateFailed {
			t.Errorf("state %s", got)
		}
		after(5 * time.Minute)
		if n := w.started(); n != 1 {
			t.Errorf("%d starts, though nobody waits", n)
		}
	})
}

func TestRouseOfNobody(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		_, err := w.rouse()
		var failure *activator.Failure
		if !errors.As(err, &failure) || failure.Reason != activator.UnknownService {
			t.Errorf("got %v", err)
		}
	})
}
