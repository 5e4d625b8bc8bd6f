package regions

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDampingFollowsRFC2439(t *testing.T) {
	d := DefaultDamping()
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	tests := map[string]struct {
		faults []float64 // seconds
		damped bool      // right after the last
		until  float64   // seconds; at which instant it is steady again
	}{
		"one fault is free":               {[]float64{0}, false, 0},
		"two in quick succession":         {[]float64{0, 1}, true, 1 + 30*math.Log2((1+math.Exp2(-1.0/30))/0.75)},
		"two, half a minute apart":        {[]float64{0, 29.9}, true, 29.9 + 30*math.Log2((1+math.Exp2(-29.9/30))/0.75)},
		"two, more than half a minute":    {[]float64{0, 30.1}, false, 0},
		"twenty stop counting at ceiling": {[]float64{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, true, 30 * math.Log2(4/0.75)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var p penalty
			for _, s := range tt.faults {
				p = p.settle(d, at(s)).fault(d, at(s))
			}
			if p.damped != tt.damped {
				t.Fatalf("damped %t, want %t", p.damped, tt.damped)
			}
			if !tt.damped {
				return
			}
			if !p.settle(d, at(tt.until-0.01)).damped || p.settle(d, at(tt.until+0.01)).damped {
				t.Errorf("not steady again at %.2f s; ends says %v", tt.until, p.ends(d).Sub(start))
			}
			if off := p.ends(d).Sub(at(tt.until)).Abs(); off > 2*time.Millisecond {
				t.Errorf("ends is off by %v", off)
			}
		})
	}
}

// However often a peer fails, the damping ends within the ceiling's time.
func TestDampingAlwaysEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := DefaultDamping()
		longest := time.Duration(d.HalfLife.Seconds()*math.Log2(d.Ceiling/d.Reuse)*float64(time.Second)) + 2*time.Millisecond
		var p penalty
		now := start
		for range rapid.IntRange(1, 30).Draw(t, "faults") {
			now = now.Add(time.Duration(rapid.IntRange(-1000, 60000).Draw(t, "ms")) * time.Millisecond)
			p = p.settle(d, now).fault(d, now)
			if p.value > d.Ceiling {
				t.Fatalf("penalty %f above the ceiling", p.value)
			}
		}
		if p.settle(d, now.Add(longest)).damped {
			t.Fatalf("still damped %v after the last fault", longest)
		}
	})
}
