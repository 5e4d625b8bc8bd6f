package gateway

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
	"github.com/polder/polder/prewarm/instance"
)

func (w *world) Pause(id polder.InstanceID, _ string) error {
	w.log("pause " + string(id))
	w.rested(id, polder.Paused)
	return nil
}

func (w *world) Resume(id polder.InstanceID) error {
	w.log("resume " + string(id))
	w.rested(id, polder.Ready)
	return nil
}

// rested tells, a moment later, that an instance was paused or resumed.
func (w *world) rested(id polder.InstanceID, state polder.InstanceState) {
	service, _, _ := strings.Cut(string(id), "-")
	time.AfterFunc(time.Millisecond, func() {
		w.r.InstanceChanged(w.ctx, instance.Event{Instance: polder.Instance{
			ID: id, Service: polder.ServiceName(service), Region: "fr", State: state}})
	})
}

// TestPauseAndGoOn: an instance that was idle for scale.pause is taken out of
// service and frozen; the next caller gets the same one, and nothing is started.
func TestPauseAndGoOn(t *testing.T) {
	spec := started("billing", time.Minute)
	spec.Scale.Pause = 10 * time.Second
	inWorld(t, []polder.Service{spec}, func(w *world) {
		w.r.do(w.ctx, func(time.Time) { w.r.pausing = prewarm.Pausing{Possible: true, Share: 1} })
		first, err := w.wake("billing")
		if err != nil {
			t.Fatal(err)
		}
		after(20 * time.Second)
		if got := w.state("billing-1"); got != polder.Paused {
			t.Fatalf("it is %q, want paused; %v", got, w.journal())
		}
		w.mu.Lock()
		w.done = nil
		w.mu.Unlock()
		again, err := w.wake("billing")
		if err != nil || again.Instance != first.Instance {
			t.Fatalf("woke %v, %v; want the paused instance", again, err)
		}
		w.r.do(w.ctx, func(now time.Time) {
			if got := w.r.terms(w.r.services["billing"], now).Pausing.Resume; got != time.Millisecond {
				t.Errorf("the next pause is weighed with %s until it goes on, and this one took a millisecond", got)
			}
		})
		want := []string{"resume billing-1", "publish endpoints of service/billing"}
		if !slices.Equal(w.journal()[:2], want) {
			t.Errorf("order: %v, want %v", w.journal(), want)
		}
		after(2 * time.Minute)
		if journal := w.journal(); !slices.Contains(journal, "stop billing-1") || w.starts != 1 {
			t.Errorf("after its keep-alive: %v, %d starts", journal, w.starts)
		}
	})
}

// TestPausedAtItsMeasuredCost: what a paused instance costs is what paging it out was seen
// to leave, the dearest of the last times.
func TestPausedAtItsMeasuredCost(t *testing.T) {
	spec := started("billing", time.Minute)
	spec.Scale.Pause = 10 * time.Second
	inWorld(t, []polder.Service{spec}, func(w *world) {
		w.r.do(w.ctx, func(time.Time) { w.r.pausing = prewarm.Pausing{Possible: true, Share: 0.25, Resume: pagedTime} })
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		after(20 * time.Second)
		paged := func(left int64) {
			w.r.InstanceChanged(w.ctx, instance.Event{
				Instance: polder.Instance{ID: "billing-1", Service: "billing", Region: "fr", State: polder.Paused},
				Paging:   instance.Paging{Before: 100, After: left},
			})
		}
		share := func() (share float64) {
			w.r.do(w.ctx, func(now time.Time) { share = w.r.terms(w.r.services["billing"], now).Pausing.Share })
			return share
		}
		if got := share(); got != 0.25 {
			t.Errorf("before anything is known: %v, want what the machine lets expect", got)
		}
		paged(40)
		paged(10)
		if got := share(); got != 0.4 {
			t.Errorf("after two: %v, want the dearer", got)
		}
		for range restsKept {
			paged(10)
		}
		if got := share(); got != 0.1 {
			t.Errorf("after many: %v, want the dearest of the last %d", got, restsKept)
		}
		if got := w.state("billing-1"); got != polder.Paused {
			t.Errorf("it is %q, want paused as before", got)
		}
		// It may be asked to end before the news of its paging comes.
		w.r.do(w.ctx, func(time.Time) { w.r.services["billing"].running["billing-1"].State = polder.Draining })
		paged(10)
		if got := w.state("billing-1"); got != polder.Draining {
			t.Errorf("it is %q, and was asked to end", got)
		}
	})
}

// TestCallWhileItIsPaused: whoever calls between the freezing and its end waits
// for the same instance.
func TestCallWhileItIsPaused(t *testing.T) {
	spec := started("billing", time.Minute)
	spec.Scale.Pause = 10 * time.Second
	inWorld(t, []polder.Service{spec}, func(w *world) {
		w.r.do(w.ctx, func(time.Time) { w.r.pausing = prewarm.Pausing{Possible: true, Share: 1} })
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		w.r.do(w.ctx, func(now time.Time) {
			i := w.r.services["billing"].running["billing-1"]
			i.State, i.rests, i.asked = polder.Draining, true, true
			if err := w.r.instances.Pause("billing-1", "idle"); err != nil {
				t.Error(err)
			}
		})
		if target, err := w.wake("billing"); err != nil || target.Instance != "billing-1" || w.starts != 1 {
			t.Errorf("woke %v, %v, %d starts; want the one that was being paused", target, err, w.starts)
		}
	})
}

// state is that of an instance of the one service.
func (w *world) state(id polder.InstanceID) (state polder.InstanceState) {
	w.r.do(w.ctx, func(time.Time) {
		if i := w.r.services["billing"].running[id]; i != nil {
			state = i.State
		}
	})
	return state
}
