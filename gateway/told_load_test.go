package gateway

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polder/polder/regions"
)

// TestToldLoad: what is told rises at once, and falls once the load has been lower
// for a while, to the most that it was meanwhile.
func TestToldLoad(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var l toldLoad
	for _, c := range []struct {
		at         time.Duration
		load, want uint8
	}{
		{0, 0, 0}, {time.Second, 100, 100}, {2 * time.Second, 40, 100}, {4 * time.Second, 80, 100}, {6 * time.Second, 10, 100},
		{7 * time.Second, 10, 80}, {8 * time.Second, 10, 80}, {13 * time.Second, 0, 10}, {14 * time.Second, 90, 90},
	} {
		if got := l.measure(c.load, start.Add(c.at)); got != c.want {
			t.Errorf("after %v, with %d measured: %d is told, want %d", c.at, c.load, got, c.want)
		}
	}
}

// TestToldLoadIsCalm: whatever is measured, a peer never tells less than it measures,
// and does not cease to be saturated twice within loadFalls.
func TestToldLoadIsCalm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l toldLoad
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		var relieved time.Time
		before := uint8(0)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 2000).Draw(t, "ms")) * time.Millisecond)
			load := rapid.SampledFrom([]uint8{0, 50, 80, 90, 100}).Draw(t, "load")
			told := l.measure(load, now)
			if told < load {
				t.Fatalf("%d is measured, and %d told", load, told)
			}
			if before >= regions.Saturated && told < regions.Saturated {
				if !relieved.IsZero() && now.Sub(relieved) < loadFalls {
					t.Fatalf("saturated no more after %v, for the second time", now.Sub(relieved))
				}
				relieved = now
			}
			before = told
		}
	})
}
