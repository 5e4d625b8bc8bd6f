package regions

import (
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestWeights(t *testing.T) {
	now := start.Add(time.Hour)
	for name, tt := range map[string]struct {
		change func(peers []Peer)
		want   map[string]uint32
	}{
		"all alike":        {func([]Peer) {}, nil},
		"all came at once": {func(p []Peer) { p[0].Since, p[1].Since = now, now }, nil},
		"one is loaded":    {func(p []Peer) { p[0].Row.Load = 70 }, map[string]uint32{"fr-1": 30, "fr-2": 100}},
		"one is saturated": {func(p []Peer) { p[1].Row.Load = 100 }, map[string]uint32{"fr-1": 100, "fr-2": 1}},
		"one came back":    {func(p []Peer) { p[0].Since = now.Add(-time.Second) }, map[string]uint32{"fr-1": 33, "fr-2": 100}},
		"some time ago":    {func(p []Peer) { p[0].Since = now.Add(-15 * time.Second) }, map[string]uint32{"fr-1": 66, "fr-2": 100}},
		"long ago":         {func(p []Peer) { p[0].Since = now.Add(-returning) }, nil},
	} {
		peers := crowd("fr-1", "fr-2")
		peers[0].Since, peers[1].Since = start, start
		tt.change(peers)
		if got := Weights(peers, now); !maps.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// A small change of one peer's load is a small change of its share, and none of
// anybody else's; nobody is left without.
func TestWeightsChangeLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		peers := crowd("fr-1", "fr-2", "fr-3")
		for i := range peers {
			peers[i].Row.Load = uint8(10 * rapid.IntRange(0, 10).Draw(t, "load"))
			peers[i].Since = start.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "since")) * time.Second)
		}
		now := start.Add(time.Minute)
		weigh := func() map[string]uint32 {
			if w := Weights(peers, now); w != nil {
				return w
			}
			return map[string]uint32{"fr-1": 1, "fr-2": 1, "fr-3": 1}
		}
		before := Weights(peers, now)
		for peer, w := range weigh() {
			if w < 1 || w > fullWeight {
				t.Fatalf("%s has %d", peer, w)
			}
		}
		peers[0].Row.Load = min(100, peers[0].Row.Load+10)
		after := Weights(peers, now)
		if before == nil || after == nil {
			return // alike before or after: shares are relative
		}
		if d := int(before["fr-1"]) - int(after["fr-1"]); d < 0 || d > 10 || before["fr-2"] != after["fr-2"] || before["fr-3"] != after["fr-3"] {
			t.Fatalf("%v became %v by ten percent of load", before, after)
		}
	})
}
