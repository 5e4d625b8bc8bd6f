package policy

import (
	"bytes"
	"cmp"
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
	f := newFlow(o, scale, prewarm.Terms{})
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
		if p.Calls != counted || p.Cold < 0 || p.Cold > 1 || p.Warm <= 0 {
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
	var text strings.Builder
	if err := first.WriteText(&text); err != nil || !strings.Contains(text.String(), "single calls with their durations: 25 functions") {
		t.Errorf("%v\n%s", err, &text)
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
