package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/loadtest/trace"
	"github.com/polder/polder/prewarm"
)

// through puts calls through a policy.
func through(o Options, scale polder.Scale, calls ...call) callTally {
	f := newFlow(o, stepping(o, scale, prewarm.Terms{}))
	for _, c := range calls {
		f.take(c)
	}
	f.finish()
	return f.tally
}

func singleOptions() Options {
	o := DefaultOptions()
	o.From, o.To, o.StartUp, o.Concurrency = 0, 300, time.Second, 1
	return o
}

func kept10() polder.Scale { return oneInstance(10*time.Minute, polder.PrewarmOff) }

// TestSingleCalls tells what one instance costs and whom it keeps waiting.
func TestSingleCalls(t *testing.T) {
	const s, m = time.Second, time.Minute
	o := singleOptions()
	o.Concurrency = 10
	// The first waits for the start, the second for nobody; after the second the
	// instance is kept for ten minutes, reckoned from when it was last seen busy: at
	// most two seconds before its call ended.
	got := through(o, kept10(), call{m, 5 * s}, call{5 * m, 10 * s})
	most := callTally{calls: 2, cold: 1, starts: 1, waited: s, warm: 14*m + 10*s, idle: 14*m + 10*s - s - 15*s}
	early := most.warm - got.warm
	if most.warm, most.idle = most.warm-early, most.idle-early; got != most || early < 0 || early > 2*s {
		t.Errorf("two calls: %+v, want %+v and no more than 2 s less", got, most)
	}
	o.Concurrency = 1
	// While a call is in progress its instance has no place for another. One call
	// fills more than 70 % of an instance, so that a second one starts by itself.
	if got := through(o, kept10(), call{m, 60 * s}, call{m + 3*s/2, s}); got.cold != 2 || got.starts < 2 || got.waited != s+s/2 {
		t.Errorf("a call while another is in progress: %+v", got)
	}
	if got := through(o, kept10(), call{m, 60 * s}, call{m + 3*s, s}); got.cold != 1 || got.starts != 2 {
		t.Errorf("a call when the second instance is ready: %+v", got)
	}
	o.Concurrency = 10
	if got := through(o, kept10(), call{m, 60 * s}, call{m + 30*s, s}); got.cold != 1 || got.starts != 1 {
		t.Errorf("a call beside another: %+v", got)
	}
	o.From, o.To = 3, 7
	if got := through(o, kept10(), call{m, 5 * s}, call{5 * m, 10 * s}); got.calls != 1 || got.cold != 0 || got.starts != 0 || got.warm != 4*m || got.idle != 4*m-10*s {
		t.Errorf("only minutes 3 to 7 count: %+v", got)
	}
}

// TestSingleCallsAgainstGaps: of calls that follow each other with time between,
// those are cold whose gap is longer than the keep-alive, whatever the durations.
func TestSingleCallsAgainstGaps(t *testing.T) {
	o := singleOptions()
	o.To, o.Concurrency = 2000, 10
	for seed := range uint64(4) {
		random := rand.New(rand.NewPCG(seed, 1))
		var calls []call
		var at time.Duration
		cold, busy := uint64(1), time.Duration(0)
		for i := range 100 {
			takes := time.Duration(random.ExpFloat64() * float64(20*time.Second))
			calls = append(calls, call{at, takes})
			busy += takes
			gap := 2*time.Second + time.Duration(random.ExpFloat64()*float64(8*time.Minute))
			if began := o.StartUp; i == 99 {
				break
			} else if gap > 10*time.Minute {
				cold++
			} else if gap < began+time.Second {
				gap += began + time.Second // whoever waits for a start ends later by it
			}
			at += o.StartUp + takes + gap
		}
		got := through(o, kept10(), calls...)
		// A call that waited ends later by the start, and its gap is shorter by it; and
		// an instance is seen busy for the last time up to two seconds before it is idle.
		if got.calls != 100 || got.cold > cold+3 || got.cold+3 < cold || got.starts != got.cold {
			t.Errorf("seed %d: %+v, want %d cold", seed, got, cold)
		}
		if rest := got.warm - got.idle - busy - time.Duration(got.starts)*o.StartUp; rest < -time.Millisecond || rest > time.Millisecond {
			t.Errorf("seed %d: instance time is off by %s", seed, rest)
		}
	}
}

// TestSinglesOverATrace: neither workers nor the order of the file change what comes
// out, calls are conserved, and a longer keep-alive is less often cold for more.
func TestSinglesOverATrace(t *testing.T) {
	calls := slices.Collect((trace.Synthetic{Functions: 25, Minutes: 180, Seed: 9}).Invocations())
	o := options(t)
	o.From, o.To, o.Thresholds, o.KeepAlives = 60, 180, []float64{.02}, []int{1, 10, 60}
	o.Trace = filepath.Join(t.TempDir(), "single.csv")
	var first Report
	for n, order := range []func(a, b trace.Invocation) int{
		func(a, b trace.Invocation) int { return cmp.Compare(a.Start(), b.Start()) },
		func(a, b trace.Invocation) int { return cmp.Compare(a.End, b.End) },
	} {
		slices.SortStableFunc(calls, order)
		var text bytes.Buffer
		if err := trace.WriteInvocations(&text, slices.Values(calls)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(o.Trace, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		o.Workers = 1 + 2*n
		r, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			first = r
		} else if !reflect.DeepEqual(r.Singles, first.Singles) {
			t.Errorf("another order and number of workers:\n%+v\n%+v", r.Singles, first.Singles)
		}
	}
	counted := uint64(0)
	for _, c := range calls {
		if c.Start() >= time.Hour {
			counted++
		}
	}
	at := map[string]SinglePoint{}
	for _, p := range first.Singles.Points {
		at[p.Policy+" "+p.Setting] = p
		if p.Calls != float64(counted) || p.Cold < 0 || p.Cold > 1 || p.Warm <= 0 {
			t.Errorf("%+v: %d calls were counted", p, counted)
		}
	}
	if first.Singles.Disorder != 0 || first.Singles.Functions != first.Functions {
		t.Errorf("%d out of order, %d functions of %d", first.Singles.Disorder, first.Singles.Functions, first.Functions)
	}
	short, reference, long := at["keep-alive 1m0s"], at["keep-alive 10m0s"], at["keep-alive 1h0m0s"]
	if reference.Waste != 1 || short.Waste >= 1 || long.Waste <= 1 || short.Cold <= reference.Cold || reference.Cold <= long.Cold {
		t.Errorf("1, 10 and 60 minutes:\n%+v\n%+v\n%+v", short, reference, long)
	}
	if best := at["oracle knows the future"]; best.Calls == 0 || best.Cold != 0 || best.Waste != 0 || best.Waited != 0 {
		t.Errorf("the oracle: %+v", best)
	}
	if all, few := at["greedy-dual "+greedyName(.95)], at["greedy-dual "+greedyName(.4)]; all.Calls == 0 || all.Cold >= few.Cold || all.Waste <= few.Waste {
		t.Errorf("greedy-dual with much and with little room:\n%+v\n%+v", all, few)
	}
	var text strings.Builder
	if err := first.WriteText(&text); err != nil || !strings.Contains(text.String(), "single calls with their durations: 25 functions") {
		t.Errorf("%v\n%s", err, &text)
	}
}

// TestSingleOracle neither misses nor wastes, and pays for starts and calls alone.
func TestSingleOracle(t *testing.T) {
	o := singleOptions()
	run := func(calls ...call) callTally {
		f := newFlow(o, nil)
		for _, c := range calls {
			f.take(c)
		}
		f.finish()
		return f.tally
	}
	const s, m = time.Second, time.Minute
	calls := []call{{m, 20 * s}, {m + 5*s, 30 * s}, {m + 20*s, s}, {9 * m, 2 * s}}
	// The third finds the place that the first has just left, or a new one.
	if got := run(calls...); got.cold != 0 || got.idle != 0 || got.waited != 0 || got.warm != 53*s+time.Duration(got.starts)*o.StartUp || got.starts < 3 || got.starts > 4 {
		t.Errorf("one call at a time: %+v", got)
	}
	o.Concurrency = 2
	if got := run(calls...); got.cold != 0 || got.idle != 0 || got.starts != 2 || got.warm != 35*s+2*s+2*o.StartUp {
		t.Errorf("two at a time: %+v", got)
	}
}

// TestSingleHybridHistogram: once it has seen a gap it has the instance just before
// the next call, and not between.
func TestSingleHybridHistogram(t *testing.T) {
	const s, m = time.Second, time.Minute
	o := singleOptions()
	o.To, o.Concurrency = 2000, 10
	f := newFlow(o, keepingHybrid(o, hybrid{60, .05, .99, 2, 10}))
	const n = 20
	for i := range time.Duration(n) {
		f.take(call{10*m + i*30*m, 6 * s})
	}
	f.run(10*m + (n-1)*30*m + m)
	// The gap between the end of a call and the next one is 29.9 minutes: the window
	// is from nine tenths of 29 minutes to eleven tenths of 30. The first two calls are
	// cold, and after the first the fallback keeps it for ten minutes.
	if f.tally.cold != 2 || f.tally.starts != n {
		t.Errorf("%+v: want 2 cold calls, and a start for each", f.tally)
	}
	warmed := 29*m + 54*s - time.Duration(.9*29*float64(m)) - o.StartUp
	want := 10*m + (n-2)*warmed
	if d := f.tally.idle - want; d < -n*3*s || d > n*3*s { // an idle instance is seen to be it some seconds later
		t.Errorf("idle for %s, want %s", f.tally.idle, want)
	}
	// Nobody comes any more: the instance goes with the window.
	f.run(10*m + (n-1)*30*m + 34*m)
	if len(f.list) != 0 {
		t.Errorf("%d instances after the window", len(f.list))
	}
}

// TestSingleGreedyDual: an idle instance goes when another function needs its room,
// that of the seldom called one first.
func TestSingleGreedyDual(t *testing.T) {
	const s, m = time.Second, time.Minute
	a, b, c := [2]string{"", "a"}, [2]string{"", "b"}, [2]string{"", "c"}
	cold := func(room float64, order ...[2]string) map[[2]string]uint64 {
		g := newGreedyCalls(singleOptions(), room)
		for i, f := range order {
			g.take(f, 1, call{time.Duration(i+1) * m, s})
		}
		g.finish()
		cold, starts := map[[2]string]uint64{}, uint64(0)
		for name, f := range g.functions {
			cold[name] = f.tally.cold
			starts += f.tally.starts
			if f.tally.waited != time.Duration(f.tally.cold)*g.o.StartUp {
				t.Errorf("%v: %+v", name, f.tally)
			}
		}
		if g.used > g.room || len(g.idle) != int(g.used) || starts != cold[a]+cold[b]+cold[c] {
			t.Errorf("room %g: %g is used by %d, after %d starts: %v", room, g.used, len(g.idle), starts, cold)
		}
		return cold
	}
	for name, k := range map[string]struct {
		room  float64
		order [][2]string
		want  map[[2]string]uint64
	}{
		"one room for two":     {1, [][2]string{a, b, a, b}, map[[2]string]uint64{a: 2, b: 2}},
		"room for both":        {2, [][2]string{a, b, a, b}, map[[2]string]uint64{a: 1, b: 1}},
		"the seldom one goes":  {2, [][2]string{a, a, a, b, c, a, b}, map[[2]string]uint64{a: 1, b: 2, c: 1}},
		"what was once, fades": {2, [][2]string{a, a, b, c, b, c, b, c, b, a}, map[[2]string]uint64{a: 2, b: 2, c: 1}},
	} {
		if got := cold(k.room, k.order...); !maps.Equal(got, k.want) {
			t.Errorf("%s: %v, want %v", name, got, k.want)
		}
	}
	// A start beyond the room, because nobody is idle, goes when its call has ended.
	g := newGreedyCalls(singleOptions(), 1)
	g.take(a, 1, call{m, 60 * s})
	g.take(b, 1, call{m + 10*s, s})
	g.run(m + 30*s)
	if g.used != 1 || len(g.functions[b].list) != 0 || len(g.functions[a].list) != 1 {
		t.Errorf("%g is used: %+v", g.used, g.functions[b])
	}
}

// TestSinglesAreWeighted: a weight counts a function as often as it says, and not at
// all at 0.
func TestSinglesAreWeighted(t *testing.T) {
	made := trace.Synthetic{Functions: 20, Minutes: 120, Seed: 4}
	var text, weights bytes.Buffer
	if err := trace.WriteInvocations(&text, made.Invocations()); err != nil {
		t.Fatal(err)
	}
	var want float64
	weights.WriteString("HashFunction,weight\n")
	for i, f := range slices.Collect(made.All()) {
		fmt.Fprintf(&weights, "%s,%d\n", f.Name, i%3)
		want += float64(i%3) * float64(f.Total())
	}
	o := singleOptions()
	o.To, o.Thresholds, o.KeepAlives = 120, []float64{.02}, []int{5}
	o.Trace, o.Weights = filepath.Join(t.TempDir(), "single.csv"), filepath.Join(t.TempDir(), "weights.csv")
	if err := errors.Join(os.WriteFile(o.Trace, text.Bytes(), 0o600), os.WriteFile(o.Weights, weights.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Singles.Points {
		if p.Calls != want || r.Calls != want {
			t.Errorf("%s, %s: %g calls and %g by minutes, want %g", p.Policy, p.Setting, p.Calls, r.Calls, want)
		}
	}
}

// TestInOrderIsBounded: calls that come too late for their place are counted, and
// no more wait than may.
func TestInOrderIsBounded(t *testing.T) {
	at := func(minute int) trace.Invocation {
		return trace.Invocation{App: "a", Function: "f", End: time.Duration(minute) * time.Minute}
	}
	in := []trace.Invocation{at(10), at(0), at(40), at(25), at(5), at(61)}
	disorder := 0
	var got []int
	for c := range inOrder(func(yield func(trace.Invocation, error) bool) {
		for _, c := range in {
			if !yield(c, nil) {
				return
			}
		}
	}, &disorder) {
		got = append(got, int(c.End.Minutes()))
	}
	if want := []int{0, 10, 5, 25, 40, 61}; !slices.Equal(got, want) || disorder != 1 {
		t.Errorf("order %v with %d late, want %v with 1", got, disorder, want)
	}
}
