package prewarm

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestWindowMean compares the ring with the integral over a list of levels.
func TestWindowMean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		type change struct {
			at    int64
			level float32
		}
		var changes []change
		now := rapid.Int64Range(1, 4e18).Draw(t, "start")
		for range rapid.IntRange(1, 40).Draw(t, "n") {
			level := float32(rapid.IntRange(0, 500).Draw(t, "level"))
			w.advance(now, 0, level)
			changes = append(changes, change{now, level})
			now += rapid.OneOf(rapid.Int64Range(0, 3e9), rapid.Int64Range(0, 2e11)).Draw(t, "dt")
		}
		w.advance(now, 0, 0)
		changes = append(changes, change{now, 0})
		for _, span := range []int{1, burstSeconds, stableSeconds} {
			from := (now/1e9 - int64(span) + 1) * 1e9
			from = max(from, changes[0].at)
			var area float64
			for i := 0; i+1 < len(changes); i++ {
				a, b := max(changes[i].at, from), changes[i+1].at
				if b > a {
					area += float64(changes[i].level) * float64(b-a)
				}
			}
			want := float64(w.level)
			if now > from {
				want = area / float64(now-from)
			}
			if got := w.mean(span); math.Abs(got-want) > 1e-2*(1+want) && now-from > 1e6 {
				t.Fatalf("mean over %d s at %d: got %g, want %g", span, now, got, want)
			}
		}
	})
}

func TestWindowBusyCountsShortRequests(t *testing.T) {
	var s State
	base := time.Unix(1000, 0)
	s.Observe(Observation{Now: base})
	// 300 requests of 20 ms in one second: six in progress on average, though
	// the gauge says zero at both ends.
	s.Observe(Observation{Now: base.Add(time.Second), Arrivals: 300, Busy: 6 * time.Second})
	s.Observe(Observation{Now: base.Add(2 * time.Second)})
	if got := s.window.mean(burstSeconds); math.Abs(got-3) > 1e-6 {
		t.Errorf("mean over two seconds, one of them with six in progress: got %g, want 3", got)
	}
}

func TestStartUpP95(t *testing.T) {
	var s startUps
	if d, ok := s.p95(); ok || d != defaultStartUp {
		t.Errorf("nothing measured: got %v %v, want the default and false", d, ok)
	}
	for i := 1; i <= 20; i++ {
		s.add(time.Duration(i) * time.Millisecond)
	}
	if d, _ := s.p95(); d != 19*time.Millisecond {
		t.Errorf("p95 of 1..20 ms: got %v, want 19 ms (nearest rank)", d)
	}
	s.add(-time.Second)
	for range 1000 {
		s.add(7 * time.Millisecond)
	}
	if d, ok := s.p95(); !ok || d != 7*time.Millisecond {
		t.Errorf("after 1000 starts of 7 ms: got %v %v, want 7 ms: old ones are forgotten", d, ok)
	}
}
