package gateway

import (
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/regions/law"
)

// TestGlassWhenTheClockIsSet breaks a glass for an hour and sets the machine's clock
// in the meantime: it never holds for longer than the owner said, and what has ended
// does not begin again.
func TestGlassWhenTheClockIsSet(t *testing.T) {
	for _, c := range []struct {
		why   string
		at    time.Duration // after the glass was broken
		step  time.Duration
		ends  time.Duration // by when it is over
		lasts time.Duration // until when it holds
	}{
		{"nobody sets it", 0, 0, time.Hour, 59 * time.Minute},
		{"an hour back", 30 * time.Minute, -time.Hour, time.Hour, 59 * time.Minute},
		{"a day back", 30 * time.Minute, -24 * time.Hour, time.Hour, 59 * time.Minute},
		{"an hour forwards: the owner's instant has passed", 30 * time.Minute, time.Hour, 31 * time.Minute, 30 * time.Minute},
		{"a minute forwards", 30 * time.Minute, time.Minute, 59 * time.Minute, 58 * time.Minute},
		{"back, once it is over", 61 * time.Minute, -time.Hour, time.Hour, 59 * time.Minute},
	} {
		t.Run(c.why, func(t *testing.T) {
			glass := started("glass", time.Minute)
			glass.Residency.Allow = []polder.Place{"nl"}
			inWorld(t, []polder.Service{glass}, func(w *world) {
				step := time.Duration(0)
				w.r.do(w.ctx, func(time.Time) { w.r.wall = func() time.Time { return time.Now().Add(step) } })
				broken := glass
				broken.Residency.Failover = polder.Failover{Class: polder.FailoverBreakGlass, Regions: []polder.RegionName{"fr"},
					Broken: &polder.BrokenGlass{From: time.Now().UTC().Round(0), Until: time.Now().UTC().Round(0).Add(time.Hour), Reason: "the region is lost"}}
				w.r.SetSurroundings(w.ctx, surroundings{health: polder.RegionHealth{"fr": true}})
				w.r.SetModel(w.ctx, &polder.Model{Regions: testRegions, Services: []polder.Service{broken}})
				for passed := time.Duration(0); passed < 3*time.Hour; passed += time.Minute {
					if passed == c.at {
						w.r.do(w.ctx, func(time.Time) { step = c.step })
					}
					if passed%(10*time.Minute) == 0 { // a change lets the law be asked again
						w.r.SetSurroundings(w.ctx, surroundings{health: polder.RegionHealth{"fr": true}, leaving: polder.RegionHealth{"nl": passed%(20*time.Minute) == 0}})
					}
					after(time.Second) // for the reconciler to look at the clock
					var verdict law.Verdict
					w.r.do(w.ctx, func(time.Time) { verdict = w.r.services["glass"].approved.Verdict() })
					if holds := verdict == law.Serve; holds && passed >= c.ends || !holds && passed < c.lasts {
						t.Fatalf("%v after it was broken the service is served: %v", passed, holds)
					}
					after(time.Minute - time.Second)
				}
			})
		})
	}
}

// TestKeepAliveWhenTheClockIsSet: an idle instance is kept for its time, no more and
// no less, and calls are answered, whatever the machine's clock is set to.
func TestKeepAliveWhenTheClockIsSet(t *testing.T) {
	for _, step := range []time.Duration{-time.Hour, time.Hour} {
		inWorld(t, []polder.Service{started("billing", 10*time.Minute)}, func(w *world) {
			if _, err := w.wake("billing"); err != nil {
				t.Fatal(err)
			}
			after(5 * time.Minute)
			w.r.do(w.ctx, func(time.Time) { w.r.wall = func() time.Time { return time.Now().Add(step) } })
			after(4 * time.Minute)
			if n := w.alive.Load(); n != 1 {
				t.Errorf("step of %v: %d instances nine minutes after a call, want one", step, n)
			}
			after(2 * time.Minute)
			if n := w.alive.Load(); n != 0 {
				t.Errorf("step of %v: %d instances eleven minutes after a call, want none", step, n)
			}
			target, err := w.r.Wake(w.ctx, "billing", activator.Cause{Kind: activator.CauseRequest})
			if err != nil {
				t.Errorf("step of %v: a call is not answered: %v", step, err)
			}
			target.Release()
		})
	}
}

func TestClocks(t *testing.T) {
	began := time.Now()
	s := steady{began}
	for _, passed := range []time.Duration{0, time.Second, time.Hour} {
		got := s.at(began.Add(passed))
		if got.Sub(began) != passed || got.Round(0).Sub(began.Round(0)) != passed {
			t.Errorf("after %v the steady clock shows %v later, on the wall %v", passed, got.Sub(began), got.Round(0).Sub(began.Round(0)))
		}
	}
	var l lawful
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ clock, want time.Duration }{{0, 0}, {time.Minute, time.Minute}, {-time.Hour, time.Minute}, {time.Hour, time.Hour}, {2 * time.Minute, time.Hour}} {
		if got := l.at(noon.Add(c.clock)); !got.Equal(noon.Add(c.want)) {
			t.Errorf("the law's clock shows %v, want %v after noon", got, c.want)
		}
	}
}
