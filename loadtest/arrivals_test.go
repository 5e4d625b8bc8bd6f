package loadtest

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polder/polder/loadtest/trace"
)

func seconds(from, to float64) *rapid.Generator[time.Duration] {
	return rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.Float64Range(from, to).Draw(t, "seconds") * float64(time.Second))
	})
}

// shape is an Arrivals with its integral.
type shape interface {
	Arrivals
	Expected(time.Duration) float64
	Validate() error
}

var genShape = rapid.Custom(func(t *rapid.T) shape {
	length := seconds(0.001, 30).Draw(t, "length")
	rate := rapid.Float64Range(0.01, 300)
	switch rapid.IntRange(0, 2).Draw(t, "shape") {
	case 0:
		return Constant{Rate: rate.Draw(t, "rate"), For: length}
	case 1:
		from, to := rate.Draw(t, "from"), rate.Draw(t, "to")
		switch rapid.IntRange(0, 3).Draw(t, "zero") {
		case 0:
			from = 0
		case 1:
			to = 0
		}
		return Ramp{From: from, To: to, For: length}
	default:
		mean := rate.Draw(t, "mean")
		return Sine{Mean: mean, Depth: mean * rapid.Float64Range(0, 1).Draw(t, "depth"), Period: seconds(0.01, 60).Draw(t, "period"), For: length}
	}
})

// Every shape is in order, below its length, as many as it says, and follows
// its integral to within one request at every moment.
func TestShapesFollowTheirIntegral(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genShape.Draw(t, "arrivals")
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		times := slices.Collect(s.Times())
		if uint64(len(times)) != s.Count() {
			t.Fatalf("%d times, Count says %d", len(times), s.Count())
		}
		if want := s.Expected(s.Length()); math.Abs(float64(len(times))-want) > 1 {
			t.Fatalf("%d times, the integral is %v", len(times), want)
		}
		if !slices.IsSorted(times) {
			t.Fatal("times go backwards")
		}
		for k, at := range times {
			if at < 0 || at >= s.Length() {
				t.Fatalf("request %d at %v of %v", k, at, s.Length())
			}
			// Request k leaves when the integral reaches k; a nanosecond of
			// rounding weighs at most 600 requests a second.
			if got := s.Expected(at); math.Abs(got-float64(k)) > 1e-5 && at < s.Length()-1 {
				t.Fatalf("request %d leaves at %v, when the integral is %v", k, at, got)
			}
		}
	})
}

func TestShapes(t *testing.T) {
	ms := func(n ...int) (out []time.Duration) {
		for _, n := range n {
			out = append(out, time.Duration(n)*time.Millisecond)
		}
		return out
	}
	for _, c := range []struct {
		name string
		a    Arrivals
		want []time.Duration
		text string
	}{
		{"ten a second, exactly", Constant{Rate: 10, For: 500 * time.Millisecond}, ms(0, 100, 200, 300, 400), "10/s for 500ms"},
		{"a rest counts as one", Constant{Rate: 10, For: 410 * time.Millisecond}, ms(0, 100, 200, 300, 400), "10/s for 410ms"},
		{"rounding makes none", Constant{Rate: 0.1, For: 30 * time.Second}, ms(0, 10_000, 20_000), "6/min for 30s"},
		{"seldom", Constant{Rate: 1.0 / 3600, For: time.Minute}, ms(0), "1/h for 1m0s"},
		// 2t² = k
		{"upwards from nothing", Ramp{From: 0, To: 4, For: time.Second}, []time.Duration{0, 707106781}, "0/s to 4/s within 1s"},
		// 4t - 2t² = k; the mirror image
		{"downwards to nothing", Ramp{From: 4, To: 0, For: time.Second}, []time.Duration{0, 292893219}, "4/s to 0/s within 1s"},
		{"a flat ramp", Ramp{From: 10, To: 10, For: 300 * time.Millisecond}, ms(0, 100, 200), "10/s to 10/s within 300ms"},
		{"a flat sine", Sine{Mean: 10, Period: time.Second, For: 300 * time.Millisecond}, ms(0, 100, 200), "10/s ± 0/s every 1s for 300ms"},
	} {
		if got := slices.Collect(c.a.Times()); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if got := c.a.String(); got != c.text {
			t.Errorf("%s: reads %q, want %q", c.name, got, c.text)
		}
	}
}

// Iterators stop when their loop does.
func TestTimesCanBeLeft(t *testing.T) {
	functions := slices.Collect(trace.Synthetic{Functions: 5, Minutes: 600, Seed: 1}.All())
	for _, a := range []Arrivals{
		Constant{Rate: 10, For: time.Second}, Ramp{From: 5, To: 9, For: time.Second}, Sine{Mean: 10, Period: time.Second, For: time.Second},
		Replay{Functions: functions, Speed: 1, Spread: Poisson},
		ReplayCalls{Sequences: []trace.Sequence{{Starts: make([]time.Duration, 9)}}, Window: time.Second, Speed: 1},
	} {
		seen := 0
		for range a.Times() {
			if seen++; seen == 3 {
				break
			}
		}
		if seen != 3 {
			t.Errorf("%v: %d times before the break", a, seen)
		}
	}
}

func TestShapeFaults(t *testing.T) {
	for _, c := range []struct {
		a    interface{ Validate() error }
		want string
	}{
		{Constant{Rate: 0, For: time.Second}, "the rate is 0; it must be above 0"},
		{Constant{Rate: math.NaN(), For: time.Second}, "the rate is NaN"},
		{Constant{Rate: 2e6, For: time.Second}, "at most 1000000 a second"},
		{Constant{Rate: 1}, "the schedule is 0s long"},
		{Constant{Rate: 1, For: 365 * 24 * time.Hour}, "at most 744h0m0s"},
		{Ramp{From: -1, To: 1, For: time.Second}, "the first rate is -1; it must be 0 or more"},
		{Ramp{From: 1, To: math.Inf(1), For: time.Second}, "the last rate is +Inf"},
		{Ramp{For: time.Second}, "the rate is 0 from the beginning to the end"},
		{Sine{Mean: 1, Depth: 2, Period: time.Second, For: time.Second}, "the depth 2 is above the mean 1"},
		{Sine{Mean: 1, Period: 0, For: time.Second}, "the period is 0s"},
		{Replay{Speed: 0, Spread: Even}, "speed is 0; it must be from 0.001"},
		{Replay{Speed: 1, Spread: "random"}, `spread is "random"; write "poisson" or "even"`},
		{ReplayCalls{Speed: math.Inf(1)}, "speed is +Inf"},
		{ReplayCalls{Speed: 1, Window: -1}, "the window is -1ns long"},
	} {
		if err := c.a.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one with %q", c.a, err, c.want)
		}
	}
}

var genReplay = rapid.Custom(func(t *rapid.T) Replay {
	minutes := rapid.IntRange(1, 20).Draw(t, "minutes")
	r := Replay{
		Speed:  rapid.SampledFrom([]float64{0.1, 1, 60, 3600, 7.3}).Draw(t, "speed"),
		Seed:   rapid.Uint64().Draw(t, "seed"),
		Spread: rapid.SampledFrom([]Spread{Poisson, Even}).Draw(t, "spread"),
	}
	for i := range rapid.IntRange(1, 6).Draw(t, "functions") {
		r.Functions = append(r.Functions, trace.Function{
			Name:   string(rune('a' + i)),
			Counts: rapid.SliceOfN(rapid.Uint32Range(0, 40), minutes, minutes).Draw(t, "counts"),
		})
	}
	return r
})

// A replay conserves the calls: the whole has as many, each minute has as many
// as were counted in it, in order, and speed only divides time.
func TestReplayConservesCalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genReplay.Draw(t, "replay")
		if err := r.Validate(); err != nil {
			t.Fatal(err)
		}
		minutes := len(r.Functions[0].Counts)
		want := make([]int, minutes)
		for _, f := range r.Functions {
			for m, c := range f.Counts {
				want[m] += int(c)
			}
		}
		got := make([]int, minutes)
		last := time.Duration(0)
		total := uint64(0)
		for at := range r.Times() {
			if at < last || at >= r.Length() {
				t.Fatalf("a call at %v after %v, of %v", at, last, r.Length())
			}
			last = at
			total++
			// Truncation to nanoseconds of the run may move a call back over a
			// minute's edge by less than one of them.
			m := int((float64(at) + 0.999) * r.Speed / float64(time.Minute))
			got[min(m, minutes-1)]++
		}
		if total != r.Count() {
			t.Fatalf("%d calls of %d", total, r.Count())
		}
		if r.Speed <= 60 && !slices.Equal(got, want) { // at 3600 a nanosecond is 3.6 µs of the trace
			t.Fatalf("calls per minute %v, want %v", got, want)
		}
		if wantLength := time.Duration(float64(minutes) * float64(time.Minute) / r.Speed); r.Length() != wantLength {
			t.Fatalf("length %v, want %v", r.Length(), wantLength)
		}
	})
}

// A function's calls do not depend on which others are replayed with it, so
// dealing functions out to targets changes no time.
func TestReplayIsIndependentOfCompany(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genReplay.Draw(t, "replay")
		for i, f := range r.Functions { // one length for all, whatever each holds
			f.Counts = append(slices.Clone(f.Counts), 0)
			r.Functions[i] = f
		}
		together := slices.Collect(r.Times())
		var apart []time.Duration
		for _, f := range r.Functions {
			alone := r
			alone.Functions = []trace.Function{f}
			apart = slices.AppendSeq(apart, alone.Times())
		}
		slices.Sort(apart)
		if !slices.Equal(together, apart) {
			t.Fatalf("together %v, apart %v", together, apart)
		}
		if again := slices.Collect(r.Times()); !slices.Equal(again, together) {
			t.Fatal("the same value gave two schedules")
		}
	})
}

// Poisson is what it says: given its count the places in a minute are uniform
// (their mean and their variance), and the gaps are those of a Poisson process.
// The draw is seeded, so that the figures are the same in every run.
func TestPoissonSpread(t *testing.T) {
	const minutes, calls = 2000, 10
	f := trace.Function{Name: "f", Counts: slices.Repeat([]uint32{calls}, minutes)}
	var places, gaps []float64
	last := -1.0
	for at := range (Replay{Functions: []trace.Function{f}, Speed: 1, Spread: Poisson, Seed: 7}).Times() {
		m := at.Minutes()
		places = append(places, m-math.Floor(m))
		if last >= 0 {
			gaps = append(gaps, m-last)
		}
		last = m
	}
	if mean, variance := moments(places); math.Abs(mean-0.5) > 0.01 || math.Abs(variance-1.0/12) > 0.004 {
		t.Errorf("places have mean %.4f and variance %.4f; uniform ones have 0.5 and 0.0833", mean, variance)
	}
	// Of an exponential distribution mean and deviation are the same; a minute's
	// fixed count takes a little off the deviation.
	if mean, variance := moments(gaps); math.Abs(mean-0.1) > 0.001 || math.Sqrt(variance)/mean < 0.85 || math.Sqrt(variance)/mean > 1.05 {
		t.Errorf("gaps have mean %.4f and deviation %.4f", mean, math.Sqrt(variance))
	}
}

// Even calls have equal gaps within their minute, and begin at an offset of its
// own in each.
func TestEvenSpread(t *testing.T) {
	const minutes, calls = 50, 4
	f := trace.Function{Name: "f", Counts: slices.Repeat([]uint32{calls}, minutes)}
	times := slices.Collect(Replay{Functions: []trace.Function{f}, Speed: 60, Spread: Even, Seed: 7}.Times())
	gap := time.Second / calls
	offsets := make(map[time.Duration]bool)
	for m := range minutes {
		minute := times[m*calls : (m+1)*calls]
		offset := minute[0] - time.Duration(m)*time.Second
		offsets[offset] = true
		if offset < 0 || offset >= gap {
			t.Errorf("minute %d begins with an offset of %v", m, offset)
		}
		for i := range minute[1:] {
			if d := minute[i+1] - minute[i] - gap; d < -2 || d > 2 {
				t.Errorf("minute %d has a gap of %v, want %v", m, minute[i+1]-minute[i], gap)
			}
		}
	}
	if len(offsets) < minutes {
		t.Errorf("only %d offsets in %d minutes", len(offsets), minutes)
	}
}

func moments(x []float64) (mean, variance float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		variance += (v - mean) * (v - mean) / float64(len(x))
	}
	return mean, variance
}

func TestReplayCalls(t *testing.T) {
	at := func(ms ...int) (starts []time.Duration) {
		for _, ms := range ms {
			starts = append(starts, time.Duration(ms)*time.Millisecond)
		}
		return starts
	}
	r := ReplayCalls{
		Sequences: []trace.Sequence{{Function: "f", Starts: at(-5, 0, 700, 1000)}, {Function: "g", Starts: at(200, 700, 999)}},
		Window:    time.Second, Speed: 10,
	}
	got := slices.Collect(r.Times())
	want := []time.Duration{0, 20 * time.Millisecond, 70 * time.Millisecond, 70 * time.Millisecond, 99900 * time.Microsecond}
	if !slices.Equal(got, want) || r.Count() != 5 || r.Length() != 100*time.Millisecond {
		t.Errorf("times %v (count %d, length %v), want %v", got, r.Count(), r.Length(), want)
	}
}

// The plan's schedule is the union of its targets', in order of time.
func TestScheduleMergesTargets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var targets []Target
		var want []job
		for i, s := range rapid.SliceOfN(genShape, 1, 4).Draw(t, "targets") {
			targets = append(targets, Target{Arrivals: s})
			for at := range s.Times() {
				want = append(want, job{i, at})
			}
		}
		slices.SortStableFunc(want, func(a, b job) int { return int(a.intended - b.intended) })
		s := newSchedule(targets)
		defer s.stop()
		var got []job
		for j, ok := s.next(); ok; j, ok = s.next() {
			got = append(got, j)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}
