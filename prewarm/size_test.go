package prewarm

import (
	"testing"
	"time"

	"github.com/polder/polder"
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

// TestSwingingLoadDoesNotFlap: the number of instances follows a load that swings
// about a boundary up, and not down and up with each swing.
func TestSwingingLoadDoesNotFlap(t *testing.T) {
	service := polder.Service{Scale: polder.Scale{Max: 10, Concurrency: 1, KeepAlive: time.Hour, Prewarm: polder.PrewarmOff}}
	var s State
	ready, starts := 0, 0
	for i := range 1200 { // two minutes
		busy := 1 + i/7%2*(i/50%3)
		d := Step(&s, service, Observation{Now: noon.Add(time.Duration(i) * 100 * time.Millisecond), Arrivals: 1, InProgress: busy,
			Instances: Instances{Ready: ready}}, Terms{})
		starts += max(d.Desired-ready, 0)
		ready = d.Desired
	}
	most := ready
	if starts > 6 || starts < 2 {
		t.Errorf("%d instances were started for a load of at most three requests", starts)
	}
	for i := range 200 { // twenty seconds of little: what was needed stays
		ready = Step(&s, service, Observation{Now: noon.Add(120*time.Second + time.Duration(i)*100*time.Millisecond), InProgress: 1,
			Instances: Instances{Ready: ready}}, Terms{}).Desired
	}
	if ready != most {
		t.Errorf("%d of %d instances are left after twenty seconds", ready, most)
	}
	d := Step(&s, service, Observation{Now: noon.Add(4 * time.Minute), InProgress: 1, Instances: Instances{Ready: ready}}, Terms{})
	if d.Desired >= most {
		t.Errorf("after two minutes of one request there are still %d", d.Desired)
	}
}

func TestHold(t *testing.T) {
	second := int64(time.Second)
	var h held
	for _, tt := range []struct {
		at         int64
		want, left int
	}{{0, 1, 1}, {1, 5, 5}, {2, 2, 5}, {30, 3, 5}, {31, 3, 3}, {32, 4, 4}, {33, 0, 4}, {62, 0, 0}, {63, 1, 1}, {64, 0, 0}} {
		var left int
		if left, h = hold(tt.want, h, tt.at*second); left != tt.left {
			t.Errorf("at %d s, with %d asked for: got %d, want %d", tt.at, tt.want, left, tt.left)
		}
	}
}
