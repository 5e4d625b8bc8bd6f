package policy

import (
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/loadtest/trace"
	"github.com/polder/polder/prewarm"
)

// TestShadowScoresAsTheSimulatorDoes drives a service under a keep-alive, with the
// predictor as its shadow, and holds both scores against the simulator's: what a
// shadow says of a policy is what polder bench policy says of it.
func TestShadowScoresAsTheSimulatorDoes(t *testing.T) {
	colds := uint64(0)
	for f := range (trace.Synthetic{Functions: 40, Minutes: 900, Seed: 5}).All() {
		acting, other := oneInstance(10*time.Minute, polder.PrewarmOff), oneInstance(polder.AutoKeepAlive, polder.PrewarmAuto)
		service := polder.Service{Scale: acting}
		var state prewarm.State
		var shadow prewarm.Shadow
		var have prewarm.Instances
		step := func(obs prewarm.Observation) {
			obs.Instances = have
			d := prewarm.Step(&state, service, obs, prewarm.Terms{})
			shadow.Step(&state, service, other, obs, prewarm.Terms{})
			if d.Desired != have.Ready { // an instance that came or went is told, as the reconciler does
				have.Ready = d.Desired
				told := prewarm.Observation{Now: obs.Now, Instances: have}
				prewarm.Step(&state, service, told, prewarm.Terms{})
				shadow.Step(&state, service, other, told, prewarm.Terms{})
			}
		}
		for m, c := range f.Counts {
			step(prewarm.Observation{Now: slotStart(m)})
			if c > 0 {
				step(prewarm.Observation{Now: slotCall(m), Arrivals: int(c)})
			}
		}
		step(prewarm.Observation{Now: slotStart(len(f.Counts))}) // closes the last slot
		for _, p := range []struct {
			name  string
			scale polder.Scale
			got   prewarm.Score
		}{{"acting", acting, shadow.Acting}, {"shadow", other, shadow.Other}} {
			want := slow(f.Counts, Follow(f.Counts, p.scale, prewarm.Terms{}), 0, len(f.Counts))
			if p.got.Active != uint64(want.active) || p.got.Cold != uint64(want.cold) {
				t.Errorf("%s, %s: %d cold of %d, and %d of %d in the simulator", f.Name, p.name, p.got.Cold, p.got.Active, want.cold, want.active)
			}
			// Idle minutes are whole ones: decisions fall on their begin.
			if got := p.got.Idle.Minutes(); got < float64(want.idle)-1 || got > float64(want.idle)+1 {
				t.Errorf("%s, %s: %.1f minutes warm in vain, and %d in the simulator", f.Name, p.name, got, want.idle)
			}
			colds += p.got.Cold
		}
	}
	if colds < 100 {
		t.Errorf("only %d cold minutes: this shows nothing", colds)
	}
}
