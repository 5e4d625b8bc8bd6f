package prewarm

import (
	"testing"

	"pgregory.net/rapid"
)

// TestTalliesAgainstAList: gaps compared four at a time are counted as gaps
// compared one by one, oldest first.
func TestTalliesAgainstAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r rhythm
		var gaps []int
		longest := rapid.SampledFrom([]uint16{3, 20, 100, 1<<15 - 1, maxGap}).Draw(t, "longest")
		for _, g := range rapid.SliceOfN(rapid.Uint16Range(1, longest), 0, 3*gapRing).Draw(t, "gaps") {
			r.record(g)
			gaps = append(gaps, int(g))
		}
		gaps = gaps[max(0, len(gaps)-gapRing):]
		n, age := len(gaps), rapid.IntRange(1, int(longest)).Draw(t, "age")
		last := func(i int) int {
			if i <= n {
				return gaps[n-i]
			}
			return 0
		}
		alike := func(i, back int) bool {
			if i < back {
				return false
			}
			d := gaps[i-back] - last(back)
			return max(d, -d)*16 <= last(back)
		}
		var want [6]tally
		for i, gap := range gaps {
			one := alike(i, 1)
			two := one && alike(i, 2)
			for k, counts := range []bool{true, i >= n-32, i >= n-8, one, two, two && alike(i, 3)} {
				if !counts || gap < age {
					continue
				}
				w := &want[k]
				w.reached++
				if gap == age {
					w.now++
				}
				if gap-age <= 1+age/16 {
					w.near++
				}
				if gap-age < lookAhead {
					w.soon++
				}
			}
		}
		if got := r.tallies(age, last(1), last(2), last(3)); got != want {
			t.Fatalf("at age %d of %v: got %v, want %v", age, gaps, got, want)
		}
	})
}
