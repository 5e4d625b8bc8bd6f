package trace

import (
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// stream yields functions as a reader does.
func stream(functions []Function) iter.Seq2[Function, error] {
	return func(yield func(Function, error) bool) {
		for _, f := range functions {
			if !yield(f, nil) {
				return
			}
		}
	}
}

func names(functions []Function) []string {
	var out []string
	for _, f := range functions {
		out = append(out, f.Name)
	}
	return out
}

// Whatever is asked for: every picked function was offered, has a call in the
// window, is trimmed to it; the row order does not matter; and picks nest.
func TestSelectProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := slices.Collect(Synthetic{Functions: rapid.IntRange(1, 120).Draw(t, "functions"), Minutes: 90, Seed: rapid.Uint64().Draw(t, "trace")}.All())
		s := Selection{
			From: rapid.IntRange(0, 60).Draw(t, "from"), Minutes: rapid.IntRange(1, 60).Draw(t, "minutes"),
			Seed: rapid.Uint64().Draw(t, "seed"),
		}
		if rapid.Bool().Draw(t, "limited") {
			s.MaxRate = 2
		}
		active := make(map[string]Function)
		for _, f := range all {
			w := f.Window(s.From, s.Minutes)
			if n := w.Total(); n > 0 && (s.MaxRate == 0 || float64(n) <= s.MaxRate*float64(len(w.Counts))) {
				active[f.Name] = w
			}
		}
		n := rapid.IntRange(1, 150).Draw(t, "n")
		got, err := Select(stream(all), n, s)
		if len(active) == 0 {
			if err == nil {
				t.Fatal("no function is active, and Select said nothing")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if got.Read != len(all) || got.Eligible != len(active) || len(got.Functions) != min(n, len(active)) {
			t.Fatalf("read %d of %d, eligible %d of %d, picked %d", got.Read, len(all), got.Eligible, len(active), len(got.Functions))
		}
		seen := make(map[string]bool)
		for _, f := range got.Functions {
			if want, ok := active[f.Name]; !ok || !equal(f, want) || seen[f.Name] {
				t.Fatalf("picked %+v; active %v, already picked %v", f, ok, seen[f.Name])
			}
			seen[f.Name] = true
		}

		rand.New(rand.NewPCG(1, 2)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		shuffled, err := Select(stream(all), n, s)
		if err != nil || !slices.Equal(names(shuffled.Functions), names(got.Functions)) {
			t.Fatalf("in another order: %v %v, want %v", names(shuffled.Functions), err, names(got.Functions))
		}
		fewer := rapid.IntRange(1, n).Draw(t, "fewer")
		nested, err := Select(stream(all), fewer, s)
		if err != nil || !slices.Equal(names(nested.Functions), names(got.Functions[:min(fewer, len(got.Functions))])) {
			t.Fatalf("the pick of %d is no prefix of the pick of %d: %v", fewer, n, err)
		}
	})
}

// A pick has the rate mix of its trace: the share below any rate is within three
// seats of fifty, whatever the seed. A plain draw is off by more in a third of
// all cases (its standard deviation is up to 3.5 seats).
func TestSelectIsRepresentative(t *testing.T) {
	const n = 50
	all := slices.Collect(Synthetic{Functions: 500, Minutes: MinutesPerDay, Seed: 3}.All())
	below := func(functions []Function, calls uint64) float64 {
		count := 0
		for _, f := range functions {
			if f.Total() < calls {
				count++
			}
		}
		return float64(count) / float64(len(functions))
	}
	for seed := range uint64(10) {
		got, err := Select(stream(all), n, Selection{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		for _, calls := range []uint64{4, 16, 64, 256, 1024} {
			if d := below(got.Functions, calls) - below(all, calls); d > 3.0/n || d < -3.0/n {
				t.Errorf("seed %d: share below %d calls is off by %.3f", seed, calls, d)
			}
		}
	}
}

// Different seeds pick differently, and each eligible function has its chance.
func TestSelectDependsOnSeed(t *testing.T) {
	all := slices.Collect(Synthetic{Functions: 40, Minutes: 600, Seed: 3}.All())
	picked := make(map[string]int)
	for seed := range uint64(200) {
		got, err := Select(stream(all), 10, Selection{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range got.Functions {
			picked[f.Name]++
		}
	}
	for _, f := range all {
		if picked[f.Name] == 0 {
			t.Errorf("function %s with %d calls was never picked in 200 draws", f.Name, f.Total())
		}
	}
}

// A group too small for a sure seat gets one as often as its share says: of a
// hundred functions five are busy, so that four picks meet a busy one in a
// fifth of all draws.
func TestSelectIsFairToSmallGroups(t *testing.T) {
	var all []Function
	for i := range 100 {
		f := Function{Name: strings.Repeat("x", i+1), Counts: []uint32{1}}
		if i < 5 {
			f.Counts[0] = 1000
		}
		all = append(all, f)
	}
	busy := 0
	const draws = 800
	for seed := range uint64(draws) {
		got, err := Select(stream(all), 4, Selection{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range got.Functions {
			if f.Total() > 1 {
				busy++
			}
		}
	}
	if share := float64(busy) / draws; share < 0.16 || share > 0.24 {
		t.Errorf("%.3f busy functions a pick, want 0.2", share)
	}
}

// With weights a row that stands for many is picked about that much more often.
func TestSelectByWeight(t *testing.T) {
	var all []Function
	for i := range 100 {
		all = append(all, Function{Name: strings.Repeat("x", i+1), Counts: []uint32{1}})
	}
	weight := func(f Function) float64 {
		switch {
		case len(f.Name) <= 10:
			return 9 // ten rows that stand for ninety functions
		case len(f.Name) <= 20:
			return 0
		}
		return 1
	}
	heavy := 0
	const draws = 800
	for seed := range uint64(draws) {
		got, err := Select(stream(all), 1, Selection{Seed: seed, Weight: weight})
		if err != nil {
			t.Fatal(err)
		}
		if got.Eligible != 90 {
			t.Fatalf("%d eligible, want 90: weight 0 is left out", got.Eligible)
		}
		if len(got.Functions[0].Name) <= 10 {
			heavy++
		}
	}
	// 90 of 170: 0.529; the draws are seeded, so that this is the same each time.
	if share := float64(heavy) / draws; share < 0.48 || share > 0.58 {
		t.Errorf("rows with 90 of 170 of the weight were picked in a share of %.3f", share)
	}
}

func TestSelectFaults(t *testing.T) {
	one := []Function{{Name: "f", Counts: []uint32{0, 5}}}
	broken := &SyntaxError{File: "t.csv", Line: 3, Column: 1, Reason: "bad"}
	for _, c := range []struct {
		name string
		in   iter.Seq2[Function, error]
		n    int
		s    Selection
		want string
	}{
		{"none asked for", stream(one), 0, Selection{}, "ask for at least 1"},
		{"negative window", stream(one), 1, Selection{Minutes: -1}, "the window has -1 minutes"},
		{"negative start", stream(one), 1, Selection{From: -1}, "the window begins at minute -1"},
		{"negative rate", stream(one), 1, Selection{MaxRate: -1}, "rate is below 0"},
		{"silent window", stream(one), 1, Selection{Minutes: 1}, "none of the 1 functions has a call in the window of minutes 0 to 0"},
		{"behind the end", stream(one), 1, Selection{From: 7}, "minute 7 to the end"},
		{"broken row", func(yield func(Function, error) bool) { yield(Function{}, broken) }, 1, Selection{}, "t.csv:3:1: bad"},
	} {
		_, err := Select(c.in, c.n, c.s)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
	if _, err := Select(func(yield func(Function, error) bool) { yield(Function{}, broken) }, 1, Selection{}); !errors.As(err, &broken) {
		t.Errorf("the place of a broken row is lost: %v", err)
	}
}

func TestWindow(t *testing.T) {
	f := Function{Counts: []uint32{1, 2, 3, 4}}
	for _, c := range []struct {
		from, minutes int
		want          []uint32
	}{
		{0, 4, []uint32{1, 2, 3, 4}}, {1, 2, []uint32{2, 3}}, {3, 9, []uint32{4}}, {4, 1, nil}, {9, 1, nil},
		{-3, 2, []uint32{1, 2}}, {0, -1, nil}, {1, int(^uint(0) >> 1), []uint32{2, 3, 4}},
	} {
		if got := f.Window(c.from, c.minutes).Counts; !slices.Equal(got, c.want) {
			t.Errorf("Window(%d, %d) = %v, want %v", c.from, c.minutes, got, c.want)
		}
	}
}

// Dealing loses and doubles nothing, and is even.
func TestAssign(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		functions := slices.Collect(Synthetic{Functions: rapid.IntRange(0, 40).Draw(t, "functions"), Minutes: 5, Seed: 1}.All())
		targets := rapid.IntRange(1, 9).Draw(t, "targets")
		dealt := Assign(functions, targets)
		if len(dealt) != targets {
			t.Fatalf("%d hands for %d targets", len(dealt), targets)
		}
		for i, f := range functions {
			if got := dealt[i%targets][i/targets]; got.Name != f.Name {
				t.Fatalf("function %d went elsewhere", i)
			}
		}
		total := 0
		for _, hand := range dealt {
			total += len(hand)
		}
		if total != len(functions) {
			t.Fatalf("dealt %d of %d", total, len(functions))
		}
	})
}
