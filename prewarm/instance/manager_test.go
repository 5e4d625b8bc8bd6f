package instance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polder/polder"
)

func TestLifeIsToldInOrder(t *testing.T) {
	inFakeTime(t, func(_ *Options, p *fakeProvider) { p.slow = 3 * time.Millisecond }, func(w *world) {
		asked := time.Now()
		id, err := w.Start(w.Context(), sample("billing"), "a request waits")
		if err != nil {
			t.Fatal(err)
		}
		if all := w.Instances(); len(all) != 1 || all[0].ID != id || all[0].State != polder.Starting || all[0].Address.IsValid() {
			t.Errorf("while it is made: %+v", all)
		}
		pass(3 * time.Millisecond)
		h := w.provider.last()
		pass(40 * time.Millisecond)
		h.ready <- nil
		synctest.Wait()
		if all := w.Instances(); len(all) != 1 || all[0].State != polder.Ready || all[0].Address != h.id.Address {
			t.Errorf("when ready: %+v", all)
		}
		pass(time.Minute)
		if err := w.Stop(id, "idle for a minute"); err != nil {
			t.Fatal(err)
		}
		if err := w.Stop(id, "again"); err != nil && len(w.Instances()) > 0 {
			t.Errorf("second stop: %v", err)
		}
		events := w.states(id, polder.Starting, polder.Ready, polder.Draining, polder.Stopped)
		if t.Failed() {
			return
		}
		want := polder.Instance{ID: id, Service: "billing", Region: "nl", State: polder.Starting, Address: h.id.Address, Started: asked, Reason: "a request waits"}
		if events[0].Instance != want {
			t.Errorf("starting: %+v, want %+v", events[0].Instance, want)
		}
		spawned, ready := asked.Add(3*time.Millisecond), asked.Add(43*time.Millisecond)
		if got := events[1]; got.Instance.Ready != ready || got.Phases != (Phases{Asked: asked, Spawned: spawned, Listening: ready, Ready: ready}) {
			t.Errorf("ready: %+v", got)
		}
		if got := events[3]; got.Reason != "idle for a minute" || got.Failed || got.LastLines != nil {
			t.Errorf("stopped: %+v", got)
		}
		if len(w.Instances()) != 0 {
			t.Errorf("left: %+v", w.Instances())
		}
		if len(h.graces) != 1 || h.graces[0] != DefaultTiming().Grace {
			t.Errorf("stopped with graces %v", h.graces)
		}
	})
}

func TestStopWhileStarting(t *testing.T) {
	inFakeTime(t, nil, func(w *world) {
		id, _ := w.start(sample("billing"))
		if err := w.Stop(id, "no longer wanted"); err != nil {
			t.Fatal(err)
		}
		events := w.states(id, polder.Starting, polder.Draining, polder.Stopped)
		if got := events[len(events)-1]; got.Failed || got.Reason != "no longer wanted" {
			t.Errorf("stopped: %+v", got)
		}
		w.start(sample("billing")) // it is no failure
	})
}

func TestStopWhileBeingMade(t *testing.T) {
	inFakeTime(t, func(_ *Options, p *fakeProvider) { p.slow = time.Second }, func(w *world) {
		id, err := w.Start(w.Context(), sample("billing"), "a test")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := w.Stop(id, "no longer wanted"); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		w.states(id, polder.Draining, polder.Stopped)
	})
}

func TestStopOfNobody(t *testing.T) {
	inFakeTime(t, nil, func(w *world) {
		if err := w.Stop("billing-x", "?"); err == nil || !strings.Contains(err.Error(), "billing-x") {
			t.Errorf("error = %v", err)
		}
	})
}

func TestProviderThatRefuses(t *testing.T) {
	inFakeTime(t, func(_ *Options, p *fakeProvider) { p.refuse = errors.New("no such program") }, func(w *world) {
		id, err := w.Start(w.Context(), sample("billing"), "a test")
		if err != nil {
			t.Fatal(err)
		}
		events := w.states(id, polder.Stopped)
		if got := events[0]; !got.Failed || got.Reason != "start failed: no such program" {
			t.Errorf("stopped: %+v", got)
		}
		w.refused(sample("billing"))
	})
}

func TestEarlyDeathIsTold(t *testing.T) {
	inFakeTime(t, nil, func(w *world) {
		id, h := w.start(sample("billing"))
		h.end(&Died{Exit: "exited with code 3", LastLines: []string{"no database"}})
		events := w.states(id, polder.Starting, polder.Stopped)
		if got := events[1]; !got.Failed || got.Reason != "start failed: exited with code 3" || got.LastLines[0] != "no database" {
			t.Errorf("stopped: %+v", got)
		}
	})
}

func TestStartHasADeadline(t *testing.T) {
	for name, c := range map[string]struct{ timeout, want time.Duration }{
		"ours":         {time.Second, time.Minute},
		"the services": {5 * time.Minute, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, nil, func(w *world) {
				service := sample("billing")
				service.Timeout = c.timeout
				asked := time.Now()
				id, h := w.start(service)
				<-h.done
				if took := time.Since(asked); took != c.want {
					t.Errorf("given up after %v", took)
				}
				events := w.states(id, polder.Starting, polder.Stopped)
				if got := events[1]; !got.Failed || !strings.Contains(got.Reason, fmt.Sprintf("not ready after %v", c.want)) {
					t.Errorf("stopped: %+v", got)
				}
				if h.graces[0] != 0 {
					t.Errorf("grace %v for a failed start", h.graces[0])
				}
			})
		})
	}
}

func TestNoMoreThanTheServicesMaximum(t *testing.T) {
	inFakeTime(t, nil, func(w *world) {
		service := sample("billing")
		service.Scale.Max = 2
		first, _ := w.ready(service)
		w.start(service)
		_, err := w.Start(w.Context(), service, "one too many")
		if full := (*Full)(nil); !errors.As(err, &full) || full.Max != 2 || !strings.Contains(err.Error(), "billing") {
			t.Errorf("error = %v", err)
		}
		if err := w.Stop(first, "to make room"); err != nil {
			t.Fatal(err)
		}
		w.start(service)
	})
}

func TestStartRefusesWhatCannotBe(t *testing.T) {
	inFakeTime(t, nil, func(w *world) {
		if _, err := w.Start(w.Context(), polder.Service{Name: "legacy"}, "?"); err == nil || !strings.Contains(err.Error(), "legacy") {
			t.Errorf("service without run: %v", err)
		}
		ended, cancel := context.WithCancel(w.Context())
		cancel()
		if _, err := w.Start(ended, sample("billing"), "?"); !errors.Is(err, context.Canceled) {
			t.Errorf("ended context: %v", err)
		}
		w.cancel()
		synctest.Wait()
		if _, err := w.Start(w.Context(), sample("billing"), "?"); !errors.Is(err, ErrNotServing) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestManyStartsAreMadeAFewAtATime(t *testing.T) {
	inFakeTime(t, func(_ *Options, p *fakeProvider) { p.slow = time.Millisecond }, func(w *world) {
		for range 100 {
			if _, err := w.Start(w.Context(), sample("billing"), "a crowd"); err != nil {
				t.Fatal(err)
			}
		}
		pass(time.Second)
		w.provider.mu.Lock()
		defer w.provider.mu.Unlock()
		if len(w.provider.handles) != 100 || w.provider.most != spawns {
			t.Errorf("%d made, %d at one time", len(w.provider.handles), w.provider.most)
		}
	})
}

func TestEndStopsAllAtOnce(t *testing.T) {
	inFakeTime(t, func(_ *Options, p *fakeProvider) { p.stubborn = true }, func(w *world) {
		ready, _ := w.ready(sample("billing"))
		starting, _ := w.start(sample("catalog"))
		w.told()
		began := time.Now()
		w.cancel()
		if err := <-w.ended; err != nil {
			t.Error(err)
		}
		w.ended <- nil
		if took := time.Since(began); took != DefaultTiming().Grace {
			t.Errorf("it took %v, with a grace of %v", took, DefaultTiming().Grace)
		}
		stopped := map[polder.InstanceID]bool{}
		for _, e := range w.told() {
			if e.State == polder.Stopped {
				stopped[e.ID] = e.Reason == "Polder stops" && !e.Failed
			}
		}
		if !stopped[ready] || !stopped[starting] || len(w.Instances()) != 0 {
			t.Errorf("stopped %v, left %v", stopped, w.Instances())
		}
	})
}

func TestEndIsBounded(t *testing.T) {
	inFakeTime(t, func(o *Options, p *fakeProvider) { p.stubborn, o.Timing.Grace = true, time.Hour }, func(w *world) {
		w.ready(sample("billing"))
		began := time.Now()
		w.cancel()
		w.ended <- <-w.ended
		if took := time.Since(began); took != DefaultTiming().Shutdown {
			t.Errorf("it took %v", took)
		}
	})
}

func TestEndCanKeepInstancesRunning(t *testing.T) {
	inFakeTime(t, func(o *Options, _ *fakeProvider) { o.Keep = true }, func(w *world) {
		_, ready := w.ready(sample("billing"))
		_, starting := w.start(sample("catalog"))
		stopping, h := w.ready(sample("legacy"))
		h.stubborn = true
		if err := w.Stop(stopping, "idle"); err != nil {
			t.Fatal(err)
		}
		w.told()
		w.cancel()
		w.ended <- <-w.ended
		if !ready.released || !starting.released || h.released {
			t.Errorf("released: ready %t, starting %t, stopping %t", ready.released, starting.released, h.released)
		}
		if len(ready.graces)+len(starting.graces) > 0 {
			t.Error("it was stopped")
		}
		events := w.told()
		if len(events) != 1 || events[0].ID != stopping || events[0].State != polder.Stopped {
			t.Errorf("told %+v", events)
		}
	})
}

func TestAdoption(t *testing.T) {
	var up, mute *fakeHandle
	inFakeTime(t, func(_ *Options, p *fakeProvider) {
		up = newFake(Identity{ID: "billing-1", Service: "billing", Region: "nl", Reason: "before"})
		mute = newFake(Identity{ID: "catalog-1", Service: "catalog", Region: "nl"})
		p.adoptable = []Handle{up, mute}
	}, func(w *world) {
		if all := w.Instances(); len(all) != 2 || all[0].ID != "billing-1" || all[1].ID != "catalog-1" {
			t.Errorf("table at Adopted: %+v", all)
		}
		up.ready <- nil
		events := w.states("billing-1", polder.Starting, polder.Ready)
		if got := events[1]; !got.Adopted || got.Instance.Reason != "before" {
			t.Errorf("ready: %+v", got)
		}
		<-mute.done
		events = w.states("catalog-1", polder.Stopped)
		if !events[0].Failed || !events[0].Adopted {
			t.Errorf("stopped: %+v", events[0])
		}
	})
}

func TestOwnerMayActInEvents(t *testing.T) {
	restarts := 0
	var m *Manager
	inFakeTime(t, func(o *Options, _ *fakeProvider) {
		o.Events = func(e Event) {
			switch {
			case e.State == polder.Ready:
				if err := m.Stop(e.ID, "enough"); err != nil {
					t.Error(err)
				}
			case e.State == polder.Stopped && restarts == 0:
				restarts++
				if _, err := m.Start(context.Background(), sample("billing"), "again"); err != nil {
					t.Error(err)
				}
			}
		}
	}, func(w *world) {
		m = w.Manager
		w.ready(sample("billing"))
		if len(w.Instances()) != 1 || restarts != 1 {
			t.Errorf("restarts %d, instances %v", restarts, w.Instances())
		}
	})
}

func TestManagerRunsOnceAndAlone(t *testing.T) {
	inFakeTime(t, nil, func(w *world) {
		if err := w.Manager.Run(w.Context()); err == nil {
			t.Error("it ran twice")
		}
		o := w.o
		o.Region = "fr"
		other, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Run(w.Context()); err == nil || !strings.Contains(err.Error(), o.StateDir) || !strings.Contains(err.Error(), "region fr") {
			t.Errorf("two in one folder: %v", err)
		}
	})
}

func TestNewChecksItsOptions(t *testing.T) {
	good := Options{Region: "nl", Provider: &fakeProvider{}, StateDir: "x", Log: slog.New(slog.DiscardHandler), Timing: DefaultTiming(), Logs: DefaultLogLimits()}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Options){
		"region": func(o *Options) { o.Region = "" }, "provider": func(o *Options) { o.Provider = nil },
		"state": func(o *Options) { o.StateDir = "" }, "log": func(o *Options) { o.Log = nil },
		"grace": func(o *Options) { o.Timing.Grace = 0 }, "stable": func(o *Options) { o.Timing.Stable = -1 },
		"logs": func(o *Options) { o.Logs.Files = 0 },
	} {
		bad := good
		spoil(&bad)
		if _, err := New(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
