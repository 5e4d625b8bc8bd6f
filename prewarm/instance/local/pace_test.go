package local

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestPaceIsLateByAPartOfTheStart: in fake terms of a start that takes any time,
// the look that finds it ready comes at most 1/part later, and the looks of a
// thousand starts together stay below what one processor can do.
func TestPaceIsLateByAPartOfTheStart(t *testing.T) {
	for _, took := range []time.Duration{0, time.Millisecond, 50 * time.Millisecond, time.Second, 5 * time.Second} {
		p := pace{part: lookPart, awaited: new(atomic.Int64)}
		p.awaited.Store(1)
		looks, at := 0, time.Duration(0)
		for ; at < took; looks++ {
			at += p.after(at)
		}
		if late, most := at-took, max(soonest, took/lookPart); late > most {
			t.Errorf("a start of %s is noticed %s late, want at most %s", took, late, most)
		}
		if most := 4000; looks > most {
			t.Errorf("a start of %s takes %d looks", took, looks)
		}
	}
	for n, most := range map[int64]float64{1: 2000, 10: 4000, 100: 4000, 400: 4000, 10_000: 100_000} {
		p := pace{part: lookPart, awaited: new(atomic.Int64)}
		p.awaited.Store(n)
		if looks := float64(n) / p.after(0).Seconds(); looks > most {
			t.Errorf("%d starts take %.0f looks a second, want at most %.0f", n, looks, most)
		}
	}
	if p := (&pace{part: lookPart, awaited: new(atomic.Int64)}); p.after(time.Hour) != latest {
		t.Errorf("after an hour it looks every %s", p.after(time.Hour))
	}
}
