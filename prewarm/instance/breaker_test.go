package instance

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polder/polder"
)

// A service that cannot start is tried ever more rarely, one start at a time.
func TestFailingServiceIsNotStartedInAStorm(t *testing.T) {
	inFakeTime(t, nil, func(w *world) {
		service := sample("billing")
		began, starts := time.Now(), 0
		var delays []time.Duration
		for time.Since(began) < time.Hour {
			_, h := w.start(service)
			starts++
			h.end(&Died{Exit: "exited with code 3"})
			synctest.Wait()
			b := w.refused(service)
			if b.Failures != starts || b.Trial != "" || !strings.Contains(b.Error(), "code 3") || !strings.Contains(b.Error(), "billing") {
				t.Fatalf("after %d starts: %+v, %v", starts, b, b)
			}
			delays = append(delays, time.Until(b.Until))
			pass(time.Until(b.Until) - time.Nanosecond)
			w.refused(service)
			pass(time.Nanosecond)
		}
		if starts > 80 {
			t.Errorf("%d starts in an hour", starts)
		}
		for i, low := range []time.Duration{800 * time.Millisecond, 1600 * time.Millisecond, 3200 * time.Millisecond} {
			if delays[i] < low || delays[i] > low*3/2 {
				t.Errorf("delay %d is %v", i+1, delays[i])
			}
		}
		if last := delays[len(delays)-1]; last < 48*time.Second || last > 72*time.Second {
			t.Errorf("the last delay is %v", last)
		}
		if _, err := w.Start(w.Context(), sample("catalog"), "another service"); err != nil {
			t.Errorf("another service: %v", err)
		}
	})
}

func TestOneTrialAtATime(t *testing.T) {
	inFakeTime(t, nil, func(w *world) {
		service := sample("billing")
		_, h := w.start(service)
		h.end(&Died{Exit: "exited with code 3"})
		synctest.Wait()
		pass(time.Until(w.refused(service).Until))
		trial, h := w.start(service)
		if b := w.refused(service); b.Trial != trial || !strings.Contains(b.Error(), string(trial)) {
			t.Errorf("while the trial is under way: %+v", b)
		}
		h.ready <- nil
		synctest.Wait()
		_, second := w.start(service) // the trial is ready, so others may follow
		second.ready <- nil
		synctest.Wait()

		// But it has not held yet: a crash now is the second failure in a row.
		h.end(&Died{Exit: "exited with code 4"})
		synctest.Wait()
		if b := w.refused(service); b.Failures != 2 || !strings.Contains(b.Reason, "crashed: exited with code 4") {
			t.Errorf("after the crash: %+v", b)
		}
	})
}

func TestTrialThatIsStoppedMakesRoomForAnother(t *testing.T) {
	inFakeTime(t, nil, func(w *world) {
		service := sample("billing")
		_, h := w.start(service)
		h.end(&Died{Exit: "exited with code 3"})
		synctest.Wait()
		pass(time.Until(w.refused(service).Until))
		trial, _ := w.start(service)
		if err := w.Stop(trial, "no longer wanted"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.start(service)
	})
}

func TestServiceThatHoldsIsForgiven(t *testing.T) {
	inFakeTime(t, nil, func(w *world) {
		service := sample("billing")
		_, h := w.start(service)
		h.end(&Died{Exit: "exited with code 3"})
		synctest.Wait()
		pass(time.Until(w.refused(service).Until))
		_, good := w.ready(service)
		pass(DefaultTiming().Stable)
		w.start(service)
		w.start(service) // two at once: no trial any more
		good.end(&Died{Exit: "exited with code 5"})
		synctest.Wait()
		_, h = w.start(service) // a crash after long service is none of a start
		h.end(&Died{Exit: "exited with code 3"})
		synctest.Wait()
		if b := w.refused(service); b.Failures != 1 {
			t.Errorf("failures are counted from before: %+v", b)
		}
	})
}

// An old instance that serves on must not excuse a new release that cannot start.
func TestOldInstanceDoesNotExcuseNewFailures(t *testing.T) {
	inFakeTime(t, nil, func(w *world) {
		service := sample("billing")
		_, old := w.ready(service)
		pass(time.Hour)
		for i := range 5 {
			_, h := w.start(service)
			h.end(&Died{Exit: "exited with code 3"})
			synctest.Wait()
			b := w.refused(service)
			if b.Failures != i+1 {
				t.Fatalf("failure %d: %+v", i+1, b)
			}
			pass(time.Until(b.Until))
		}
		old.end(&Died{Exit: "exited with code 0"})
		synctest.Wait()
		_, h := w.start(service)
		h.end(&Died{Exit: "exited with code 3"})
		synctest.Wait()
		if b := w.refused(service); b.Failures != 6 {
			t.Errorf("after the old one's end: %+v", b)
		}
	})
}

func TestFailuresTogetherAreOne(t *testing.T) {
	inFakeTime(t, nil, func(w *world) {
		service := sample("billing")
		var handles []*fakeHandle
		for range 20 {
			_, h := w.start(service)
			handles = append(handles, h)
		}
		for _, h := range handles {
			h.end(&Died{Exit: "exited with code 3"})
			synctest.Wait()
			pass(time.Millisecond)
		}
		if b := w.refused(service); b.Failures != 1 {
			t.Errorf("20 at once: %+v", b)
		}
	})
}

func TestStatesNeverGoBack(t *testing.T) {
	order := map[polder.InstanceState]int{polder.Starting: 1, polder.Ready: 2, polder.Draining: 3, polder.Stopped: 4}
	inFakeTime(t, func(_ *Options, p *fakeProvider) { p.slow = 500 * time.Microsecond }, func(w *world) {
		for i := range 300 { // all interleavings of ready, death and stop that the scheduler finds
			id, err := w.Start(w.Context(), sample("billing"), "a test")
			if err != nil {
				pass(time.Minute)
				continue
			}
			pass(500 * time.Microsecond)
			h := w.provider.last()
			go func() { h.ready <- nil }()
			if i%3 != 0 {
				go func() { _ = w.Stop(id, "a test") }()
			}
			if i%3 != 1 {
				go h.end(&Died{Exit: "exited with code 0"})
			}
			synctest.Wait()
		}
		last := map[polder.InstanceID]int{}
		for _, e := range w.told() {
			if order[e.State] <= last[e.ID] {
				t.Errorf("%s is %s after state %d", e.ID, e.State, last[e.ID])
			}
			last[e.ID] = order[e.State]
		}
		for id, state := range last {
			if state != order[polder.Stopped] {
				t.Errorf("%s ended in state %d", id, state)
			}
		}
	})
}
