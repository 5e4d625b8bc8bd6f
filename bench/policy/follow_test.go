package policy

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/loadtest/trace"
	"github.com/polder/polder/prewarm"
)

// TestFollow holds the walk of one function against the one that asks
// prewarm.Step, and what is learned on the way against the state that it leaves.
func TestFollow(t *testing.T) {
	for f := range (trace.Synthetic{Functions: 20, Minutes: 400, Seed: 3}).All() {
		for _, s := range []polder.Scale{oneInstance(polder.AutoKeepAlive, polder.PrewarmAuto), oneInstance(10*time.Minute, polder.PrewarmOff)} {
			if got, want := Follow(f.Counts, s, prewarm.Terms{}), slowStep(f.Counts, s, prewarm.Terms{}); !slices.Equal(got, want) {
				t.Errorf("%s at keep-alive %s: warm in other slots", f.Name, s.KeepAlive)
			}
		}
		var state prewarm.State
		for m, c := range f.Counts {
			prewarm.Step(&state, polder.Service{Scale: oneInstance(0, polder.PrewarmOff)}, prewarm.Observation{Now: slotStart(m)}, prewarm.Terms{})
			if c > 0 {
				prewarm.Step(&state, polder.Service{Scale: oneInstance(0, polder.PrewarmOff)}, prewarm.Observation{Now: slotCall(m), Arrivals: int(c)}, prewarm.Terms{})
			}
		}
		prewarm.Step(&state, polder.Service{Scale: oneInstance(0, polder.PrewarmOff)}, prewarm.Observation{Now: slotStart(len(f.Counts))}, prewarm.Terms{})
		got, err := Learn(f.Counts).MarshalBinary()
		want, _ := state.MarshalBinary()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: another state, %v", f.Name, err)
		}
	}
}
