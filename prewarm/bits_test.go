package prewarm

import (
	"testing"

	"pgregory.net/rapid"
)

// dull is history written as a list, newest first.
type dull []bool

func (d dull) at(lag int) bool { return lag >= 1 && lag <= len(d) && d[lag-1] }

func TestHistoryAgainstAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h history
		var d dull
		for range rapid.IntRange(1, 12).Draw(t, "pieces") {
			if rapid.Bool().Draw(t, "skip") {
				n := rapid.IntRange(0, 200).Draw(t, "n")
				h.skip(int64(n))
				d = append(make(dull, n), d...)
				continue
			}
			for _, b := range rapid.SliceOfN(rapid.Bool(), 1, 150).Draw(t, "bits") {
				h.push(b)
				d = append(dull{b}, d...)
			}
		}
		d = d[:min(len(d), historyMinutes)]
		for lag := -1; lag <= historyMinutes+2; lag++ {
			if h.at(lag) != d.at(lag) {
				t.Fatalf("lag %d: got %v", lag, h.at(lag))
			}
		}
		n := rapid.IntRange(0, historyMinutes+5).Draw(t, "count")
		want := 0
		for lag := 1; lag <= n; lag++ {
			if d.at(lag) {
				want++
			}
		}
		if got := h.count(n); got != want {
			t.Fatalf("count(%d): got %d, want %d", n, got, want)
		}
		checkEcho(t, &h, d)
		checkMatch(t, &h, d)
	})
}

func checkEcho(t *rapid.T, h *history, d dull) {
	lag := rapid.IntRange(1, historyMinutes-1).Draw(t, "lag")
	var want [4]int
	for s := 1; s <= len(d); s++ {
		before, twice := d.at(s+lag), d.at(s+lag) && d.at(s+2*lag)
		for i, hit := range []bool{before && d.at(s), before, twice && d.at(s), twice} {
			if hit {
				want[i]++
			}
		}
	}
	var e echoer
	e.take(h, historyWords)
	both, thrice, two := e.twice(lag)
	if again := e.once(lag); again != both {
		t.Fatalf("echo(%d): %d and %d", lag, both, again)
	}
	if got := [4]int{both, h.count(historyMinutes) - h.count(lag), thrice, two}; got != want {
		t.Fatalf("echo(%d): got %v, want %v", lag, got, want)
	}
}

func checkMatch(t *rapid.T, h *history, d dull) {
	var wantN, wantHit [len(matched)]int
	n, hit := h.match(historyWords, len(d))
	for i, length := range matched {
		for s := 2; s <= len(d); s++ { // the slot of lag s-1 followed the context that begins at s
			same := true
			for j := range length {
				same = same && d.at(s+j) == d.at(1+j)
			}
			if same {
				wantN[i]++
				if d.at(s - 1) {
					wantHit[i]++
				}
			}
		}
	}
	if n != wantN || hit != wantHit {
		t.Fatalf("match: got %v of %v, want %v of %v", hit, n, wantHit, wantN)
	}
}
