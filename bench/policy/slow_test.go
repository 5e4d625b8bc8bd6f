package policy

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/loadtest/trace"
	"github.com/polder/polder/prewarm"
)

// slow is the simulator written a second time, the dull way: one policy, one
// function, one list of warm minutes, and no sharing of anything.
func slow(counts []uint32, warm []bool, from, to int) tally {
	var t tally
	for m := from; m < to; m++ {
		before := m > 0 && (warm[m-1] || counts[m-1] > 0)
		t.calls += uint64(counts[m])
		switch {
		case counts[m] > 0 && warm[m]:
			t.active++
		case counts[m] > 0:
			t.active++
			t.cold++
			t.loads++
		case warm[m]:
			t.idle++
		}
		if warm[m] && !before {
			t.loads++
		}
	}
	return t
}

// slowKeep is warm if there was a call in the minutes before.
func slowKeep(counts []uint32, minutes int) []bool {
	warm := make([]bool, len(counts))
	for m := range counts {
		for back := 1; back <= minutes && back <= m; back++ {
			if counts[m-back] > 0 {
				warm[m] = true
			}
		}
	}
	return warm
}

// slowStep asks prewarm.Step itself, as the gateway does, a service at a time.
func slowStep(counts []uint32, s polder.Scale, terms prewarm.Terms) []bool {
	var state prewarm.State
	warm := make([]bool, len(counts))
	instances := prewarm.Instances{}
	for m, c := range counts {
		d := prewarm.Step(&state, polder.Service{Scale: s}, prewarm.Observation{Now: slotStart(m), Instances: instances}, terms)
		warm[m] = d.Desired > 0
		instances.Ready = d.Desired
		if c > 0 {
			d = prewarm.Step(&state, polder.Service{Scale: s}, prewarm.Observation{Now: slotCall(m), Arrivals: int(c), Instances: instances}, terms)
			instances.Ready = d.Desired
		}
	}
	return warm
}

// slowHistogram follows the paper with lists instead of bins.
func slowHistogram(counts []uint32, h hybrid) []bool {
	warm := make([]bool, len(counts))
	var idles []int
	last := -1
	for m, c := range counts {
		if last >= 0 {
			from, to := 1, h.fallback
			var in []int
			for _, i := range idles {
				if i <= h.span {
					in = append(in, i)
				}
			}
			slices.Sort(in)
			var mean, square float64
			for bin := 1; bin <= h.span; bin++ {
				n := 0.
				for _, i := range in {
					if i == bin {
						n++
					}
				}
				mean += n / float64(h.span)
				square += n * n / float64(h.span)
			}
			steady := len(in) > 0 && math.Sqrt(max(square-mean*mean, 0))/mean < h.cv
			if len(in) > 0 && len(idles)-len(in) <= len(idles)/2 && !steady {
				rank := func(q float64) int { return in[max(0, int(math.Ceil(q*float64(len(in))))-1)] }
				to = int(math.Ceil(float64(rank(h.tail)) * 1.1))
				if h.head > 0 {
					from = max(1, int(float64(rank(h.head))*0.9))
				}
			}
			warm[m] = m-last >= from && m-last <= to
		}
		if c > 0 {
			if last >= 0 {
				idles = append(idles, m-last)
			}
			last = m
		}
	}
	return warm
}

// slowGreedy is greedy-dual with a list and a search.
func slowGreedy(functions [][]uint32, room int) [][]bool {
	type entry struct{ f, frequency, priority int }
	var cache []entry
	clock := 0
	warm := make([][]bool, len(functions))
	for f := range functions {
		warm[f] = make([]bool, len(functions[f]))
	}
	for m := range functions[0] {
		for _, e := range cache {
			warm[e.f][m] = true
		}
		for f := range functions {
			if functions[f][m] == 0 {
				continue
			}
			i := slices.IndexFunc(cache, func(e entry) bool { return e.f == f })
			if i >= 0 {
				cache[i].frequency++
				cache[i].priority = clock + cache[i].frequency
				continue
			}
			warm[f][m] = false // it may have been taken from it in this very minute
			if len(cache) == room {
				low := 0
				for j, e := range cache {
					if e.priority < cache[low].priority || e.priority == cache[low].priority && e.f < cache[low].f {
						low = j
					}
				}
				clock = cache[low].priority
				cache = slices.Delete(cache, low, low+1)
			}
			cache = append(cache, entry{f, 1, clock + 1})
		}
	}
	return warm
}

// small is a trace with steady, periodic, rare, bursty and broken rows.
func small(n, minutes int) []trace.Function {
	r := rand.New(rand.NewPCG(1, 2))
	var all []trace.Function
	for i := range n {
		f := trace.Function{Name: fmt.Sprint("f", i), Counts: make([]uint32, minutes)}
		period, burst := 2+r.IntN(90), 1+r.IntN(10)
		for m := range f.Counts {
			var hit bool
			switch i % 4 {
			case 0:
				hit = m%period == 0
			case 1:
				hit = r.IntN(period) == 0
			case 2:
				hit = m/burst%period == 0 && r.IntN(3) > 0
			case 3:
				hit = r.IntN(10) > 0
			}
			if hit {
				f.Counts[m] = 1 + uint32(r.IntN(5))
			}
		}
		all = append(all, f)
	}
	return all
}

// TestAgainstSlow holds every policy of the fast simulator against the slow one.
func TestAgainstSlow(t *testing.T) {
	o := DefaultOptions()
	o.From, o.To, o.Thresholds, o.KeepAlives = 100, 300, []float64{.2, .02, .004}, []int{1, 5, 10}
	all := families(o)
	for _, f := range small(8, o.To) {
		got := simulateOne(o, all, f)
		for i, family := range all {
			for s, setting := range family.settings {
				var warm []bool
				switch family.name {
				case "none":
					warm = make([]bool, o.To)
				case "keep-alive":
					if i == 0 {
						warm = slowKeep(f.Counts, referenceMinutes)
					} else {
						warm = slowKeep(f.Counts, o.KeepAlives[s])
					}
				case "hybrid histogram":
					warm = slowHistogram(f.Counts, hybrids()[s])
				case "KPA-like window":
					warm = slowKeep(f.Counts, []int{1, 5, 10}[s])
				case "polder auto":
					warm = slowStep(f.Counts, oneInstance(polder.AutoKeepAlive, polder.PrewarmAuto), priced(o.Thresholds[s]))
				case "polder sparing":
					walk := sparing().start(f, &replay{}).(*productionWalk)
					warm = slowStep(f.Counts, walk.scales[s], walk.terms[s])
				case "oracle":
					warm = make([]bool, o.To)
					for m, c := range f.Counts {
						warm[m] = c > 0
					}
				default:
					t.Fatalf("policy %q has no slow twin", family.name)
				}
				if want := slow(f.Counts, warm, o.From, o.To); got.tallies[i][s] != want {
					t.Errorf("%s: %s, %s: got %+v, want %+v", f.Name, family.name, setting, got.tallies[i][s], want)
				}
			}
		}
	}
}

// TestFixedKeepAliveIsProduction: the baseline called "keep 10" and the
// production code with scale.keep-alive: 10m are the same policy.
func TestFixedKeepAliveIsProduction(t *testing.T) {
	for _, f := range small(20, 500) {
		for _, minutes := range []int{1, 2, 10, 60} {
			scale := oneInstance(time.Duration(minutes)*time.Minute, polder.PrewarmOff)
			if got, want := slowStep(f.Counts, scale, prewarm.Terms{}), slowKeep(f.Counts, minutes); !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %d minutes: production and definition differ", f.Name, minutes)
			}
		}
	}
}

func TestGreedyDualAgainstSlow(t *testing.T) {
	o := DefaultOptions()
	o.From, o.To = 100, 500
	functions := small(24, o.To)
	var spells []*spell
	var counts [][]uint32
	for i, f := range functions {
		s := newSpell(o, f)
		s.index, s.weight = i, 1
		spells = append(spells, s)
		counts = append(counts, f.Counts)
	}
	for _, room := range []int{1, 3, 6, 12, 24} {
		warm := slowGreedy(counts, room)
		err := greedyDual(context.Background(), spells, float64(room)/24, o.From, o.To, func(s *spell) {
			want := slow(counts[s.index], warm[s.index], o.From, o.To)
			want.loads = want.cold // a cache loads nothing ahead
			if s.tally != want {
				t.Errorf("room %d, %s: got %+v, want %+v", room, functions[s.index].Name, s.tally, want)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
