package prewarm

import (
	"testing"

	"pgregory.net/rapid"
)

const sec = int64(1e9)

// TestSizeWorkedExample is the example of size's comment, step by step.
func TestSizeWorkedExample(t *testing.T) {
	steps := []struct {
		at     int64
		demand Demand
		ready  int
		want   int
		why    string
	}{
		{100, Demand{20, 20, 20}, 3, 3, "steady: ceil(20/7)"},
		{102, Demand{60, 22, 45}, 3, 7, "ceil(45/7) = 7 is at least twice 3: a burst"},
		{104, Demand{60, 24, 50}, 7, 8, "a burst goes on growing"},
		{110, Demand{20, 26, 20}, 8, 8, "the burst window has calmed down, the number stays"},
		{161, Demand{20, 20, 20}, 8, 8, "59 s after the last excess: stays"},
		{162, Demand{20, 20, 20}, 8, 4, "60 s after it: 3, but one step halves at most"},
		{164, Demand{20, 20, 20}, 4, 3, "steady again"},
	}
	var b burst
	for _, s := range steps {
		var got int
		if got, b = size(s.demand, 10, s.ready, b, s.at*sec); got != s.want {
			t.Fatalf("at %d s: got %d, want %d: %s", s.at, got, s.want, s.why)
		}
	}
}

func TestSize(t *testing.T) {
	tests := []struct {
		name        string
		demand      Demand
		concurrency int
		ready       int
		want        int
	}{
		{"from zero, one caller", Demand{Now: 1}, 80, 0, 1},
		{"from zero, one caller, one at a time", Demand{Now: 1}, 1, 0, 1},
		{"from zero, a crowd", Demand{Now: 161}, 80, 0, 3},
		{"the means of the time without instances do not multiply", Demand{Now: 1, Stable: 300, Burst: 300}, 80, 0, 1},
		{"steady load fills 70 %", Demand{56, 56, 56}, 80, 1, 1},
		{"a little more needs a second", Demand{57, 57, 56}, 80, 1, 2},
		{"at most halve", Demand{0, 1, 0}, 80, 9, 4},
		{"nothing asks for nothing, slowly", Demand{}, 80, 5, 2},
		{"concurrency of zero counts as one", Demand{Now: 2}, 0, 0, 2},
	}
	for _, tt := range tests {
		if got, _ := size(tt.demand, tt.concurrency, tt.ready, burst{}, 100*sec); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestSizeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b burst
		peak := 0
		at := sec
		for range 50 {
			d := Demand{
				Now:    rapid.IntRange(0, 10000).Draw(t, "now"),
				Stable: rapid.Float64Range(0, 10000).Draw(t, "stable"),
				Burst:  rapid.Float64Range(0, 10000).Draw(t, "burst"),
			}
			ready := rapid.IntRange(0, 1000).Draw(t, "ready")
			was := b
			var got int
			got, b = size(d, rapid.IntRange(1, 100).Draw(t, "concurrency"), ready, b, at)
			if got < ready/2 {
				t.Fatalf("%d ready, asks for %d: less than half", ready, got)
			}
			if b.over != 0 && was.over != 0 && at-was.over < stableSeconds*sec && got < peak {
				t.Fatalf("in a burst that asked for %d, now asks for %d", peak, got)
			}
			if peak = got; b.over == 0 {
				peak = 0
			}
			at += rapid.Int64Range(0, 90*sec).Draw(t, "dt")
		}
	})
}
