package loadtest

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/polder/polder/internal/faketime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The tests of this file run the engine in fake time with a server that is a
// function: what they state, they state to the microsecond.

func constantPlan(rate float64, length time.Duration) Plan {
	return Plan{Targets: []Target{{Name: "a", URL: "http://a.example/", Arrivals: Constant{Rate: rate, For: length}}}}
}

func smallOptions(inProgress, backlog int) Options {
	o := DefaultOptions()
	o.InProgress, o.Backlog = inProgress, backlog
	return o
}

func mustRun(t *testing.T, ctx context.Context, plan Plan, o Options, send sender) Report {
	t.Helper()
	if err := errors.Join(plan.Validate(), o.Validate()); err != nil {
		t.Fatal(err)
	}
	r, err := run(ctx, plan, o, send, newTimerWaiter)
	if err != nil {
		t.Fatal(err)
	}
	checkBalance(t, r)
	return r
}

// checkBalance holds a report against the equations that doc.go promises.
func checkBalance(t interface{ Fatalf(string, ...any) }, r Report) {
	sum := uint64(0)
	all := []Summary{r.Total}
	for _, target := range r.Targets {
		all = append(all, target.Summary)
		sum += target.Scheduled
	}
	for _, s := range all {
		if s.Scheduled != s.Sent+s.Dropped+s.Abandoned || s.Sent != s.Answered+s.Failed+s.Interrupted {
			t.Fatalf("arrivals of %s disappeared: %+v", s.Name, s)
		}
		if s.Latency.Count != s.Answered || s.Warm.Count+s.Cold.Count != s.Answered || s.Lag.Count != s.Sent || s.Failure.Count != s.Failed {
			t.Fatalf("times of %s disappeared: %+v", s.Name, s)
		}
	}
	if sum != r.Total.Scheduled {
		t.Fatalf("the targets have %d arrivals, the total %d", sum, r.Total.Scheduled)
	}
	points := uint64(0)
	for _, p := range r.Series {
		points += p.Scheduled
	}
	if points != r.Total.Scheduled {
		t.Fatalf("the series has %d arrivals, the total %d", points, r.Total.Scheduled)
	}
}

// sleep waits in fake time, or until the context ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A server that stalls for three seconds delays every request of those seconds,
// and the report says so: no coordinated omission. With only ten places a
// closed-loop tool would see ten slow requests; three hundred callers waited.
func TestStallShowsInEveryDelayedRequest(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		begin := time.Now()
		stall := func(ctx context.Context, _ int) answer {
			wait := time.Millisecond
			if at := time.Since(begin); at >= 2*time.Second && at < 5*time.Second {
				wait += 5*time.Second - at
			}
			return answer{status: 200, err: sleep(ctx, wait)}
		}
		var slowFromSending, slowFromIntended int
		o := smallOptions(10, 10_000)
		o.Results = func(r Result) error {
			if r.Done-r.Sent >= time.Second {
				slowFromSending++
			}
			if r.Latency() >= time.Second {
				slowFromIntended++
			}
			return nil
		}
		r := mustRun(t, t.Context(), constantPlan(100, 10*time.Second), o, stall)
		if slowFromSending != 10 {
			t.Errorf("%d requests took a second from their sending, want 10: the places", slowFromSending)
		}
		if slowFromIntended < 200 || slowFromIntended > 203 { // intended in [2 s, 4 s], and the queue's tail
			t.Errorf("%d callers waited a second or more, want some 200", slowFromIntended)
		}
		if r.Total.Answered != 1000 || r.Total.Dropped != 0 {
			t.Errorf("answered %d, dropped %d of 1000", r.Total.Answered, r.Total.Dropped)
		}
		if got := r.Total.Latency.Max; got != 3_001_000 {
			t.Errorf("the longest wait is %d µs, want the whole stall and 1 ms", got)
		}
		// A uniform wait of 0 to 3 s for 30 % of the requests.
		if p90 := r.Total.Latency.P90; p90 < 1_900_000 || p90 > 2_100_000 {
			t.Errorf("p90 is %d µs, want some 2 s", p90)
		}
		if r.Total.Late < 280 || r.Total.Late > 300 {
			t.Errorf("%d left late, want the 290 that found no place", r.Total.Late)
		}
	})
}

// Beyond places and backlog arrivals are dropped and counted; none is dropped
// while there is room.
func TestOverflowIsCounted(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		o := smallOptions(2, 3)
		var dropped []time.Duration
		o.Results = func(r Result) error {
			if r.Outcome == Dropped {
				dropped = append(dropped, r.Intended)
			}
			return nil
		}
		r := mustRun(t, t.Context(), constantPlan(100, time.Second), o, func(ctx context.Context, _ int) answer {
			return answer{status: 200, err: sleep(ctx, 10*time.Second)}
		})
		if r.Total.Sent != 5 || r.Total.Dropped != 95 || r.Total.Late != 3 {
			t.Errorf("sent %d, dropped %d, late %d; want 5, 95, 3", r.Total.Sent, r.Total.Dropped, r.Total.Late)
		}
		if len(dropped) != 95 || dropped[0] != 50*time.Millisecond {
			t.Errorf("%d dropped, the first at %v; want 95 from 50ms on", len(dropped), dropped[:1])
		}
		if got := r.Total.Latency.Max; got != 30_000_000-40_000 {
			t.Errorf("the fifth waited %d µs, want two others' 20 s and its own 10 s", got)
		}
	})
}

// Exactly as many as there are places leave at once, with no backlog at all.
func TestNoDropWhilePlacesAreFree(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		burst := atOnce(50)
		plan := Plan{Targets: []Target{{Name: "a", URL: "http://a.example/", Arrivals: burst}}}
		r := mustRun(t, t.Context(), plan, smallOptions(50, 0), func(ctx context.Context, _ int) answer {
			return answer{status: 200, err: sleep(ctx, time.Second)}
		})
		if r.Total.Sent != 50 || r.Total.Late != 0 || r.Total.Latency.Max != 1_000_000 {
			t.Errorf("sent %d, late %d, longest %d µs", r.Total.Sent, r.Total.Late, r.Total.Latency.Max)
		}
	})
}

// atOnce are n arrivals at time 0, as another package may make them.
type atOnce int

func (n atOnce) Times() iter.Seq[time.Duration] {
	return func(yield func(time.Duration) bool) {
		for range int(n) {
			if !yield(0) {
				return
			}
		}
	}
}
func (n atOnce) Count() uint64         { return uint64(n) }
func (n atOnce) Length() time.Duration { return time.Second }
func (n atOnce) String() string        { return "a burst" }

// A stop lets what is under way finish, abandons what waits, and sends nothing
// further.
func TestStopIsGraceful(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond+time.Microsecond, cancel)
		o := smallOptions(4, 100)
		o.Grace = 2 * time.Second
		r := mustRun(t, ctx, constantPlan(100, time.Minute), o, func(ctx context.Context, _ int) answer {
			return answer{status: 200, err: sleep(ctx, time.Second)}
		})
		if !r.Stopped || r.Total.Scheduled != 51 || r.Total.Answered != 4 || r.Total.Abandoned != 47 || r.Total.Failed != 0 {
			t.Errorf("stopped %v: %+v", r.Stopped, r.Total)
		}
		if r.Elapsed != 1_030_000 {
			t.Errorf("ended after %d µs, want the reply to the fourth", r.Elapsed)
		}
	})
}

// What does not finish within the grace is cut off, and is nobody's failure.
func TestGraceEnds(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		o := smallOptions(1000, 0)
		o.Grace = 2 * time.Second
		r := mustRun(t, ctx, constantPlan(10, time.Minute), o, func(ctx context.Context, _ int) answer {
			return answer{status: 200, err: sleep(ctx, time.Hour)}
		})
		if !r.Stopped || r.Total.Interrupted != r.Total.Sent || r.Total.Sent < 5 || r.Total.Errors != 0 {
			t.Errorf("stopped %v: %+v", r.Stopped, r.Total)
		}
		if r.Elapsed != 2_500_000 {
			t.Errorf("ended after %d µs, want 500 ms and the grace", r.Elapsed)
		}
	})
}

// A run whose context ends when all is answered was not stopped.
func TestEndOfContextAfterTheLastReply(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		o := DefaultOptions()
		o.Results = func(Result) error { cancel(); return nil }
		r := mustRun(t, ctx, constantPlan(1, time.Second), o, func(context.Context, int) answer { return answer{status: 200} })
		if r.Stopped || r.Total.Answered != 1 {
			t.Errorf("stopped %v, answered %d", r.Stopped, r.Total.Answered)
		}
	})
}

func TestFaultOfResultsEndsTheRun(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		full := errors.New("disk full")
		calls := 0
		o := DefaultOptions()
		o.Results = func(Result) error {
			calls++
			if calls == 3 {
				return full
			}
			return nil
		}
		r, err := run(t.Context(), constantPlan(10, time.Minute), o, func(context.Context, int) answer { return answer{status: 200} }, newTimerWaiter)
		if !errors.Is(err, full) || calls != 3 || !r.Stopped || r.Total.Scheduled > 4 {
			t.Errorf("error %v after %d calls; %+v", err, calls, r.Total)
		}
	})
}

// Each Progress is consistent in itself and with the one before, and the last
// one is the whole.
func TestProgress(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		var seen []Progress
		o := smallOptions(20, 100)
		o.Progress = func(p Progress) { seen = append(seen, p) }
		o.ProgressEvery = time.Second
		n := 0
		r := mustRun(t, t.Context(), constantPlan(50, 4*time.Second), o, func(ctx context.Context, _ int) answer {
			n++ // one at a time: the gaps are 20 ms
			if err := sleep(ctx, 5*time.Millisecond); err != nil {
				return answer{err: err}
			}
			return answer{status: 200 + 300*(n%2), cold: n%10 == 0}
		})
		for i, p := range seen {
			if p.Done > p.Sent || p.Sent > p.Scheduled || p.Scheduled > p.Planned || p.InProgress != p.Sent-p.Done || p.Planned != 200 || p.Length != 4*time.Second {
				t.Errorf("inconsistent: %+v", p)
			}
			if i > 0 && (p.Done < seen[i-1].Done || p.Elapsed < seen[i-1].Elapsed) {
				t.Errorf("backwards: %+v", p)
			}
		}
		if len(seen) < 4 || seen[1].SentRate < 49 || seen[1].SentRate > 51 || seen[1].DoneRate < 49 || seen[1].DoneRate > 51 {
			t.Errorf("rates are not 50/s: %+v", seen)
		}
		last := seen[len(seen)-1]
		if last.Done != 200 || last.Errors != r.Total.Errors || last.Errors != 100 || last.ColdStarts != 20 || last.Latency != r.Total.Latency {
			t.Errorf("the last progress is not the whole: %+v", last)
		}
	})
}

// Whatever the plan, the places, the server and the moment of the stop:
// every arrival has one outcome, in the total, in the targets and in the stream.
func TestEveryArrivalHasOneOutcome(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var plan Plan
		for i, s := range rapid.SliceOfN(genShape, 1, 3).Draw(rt, "targets") {
			plan.Targets = append(plan.Targets, Target{Name: string(rune('a' + i)), URL: "http://a.example/", Arrivals: s})
		}
		o := smallOptions(rapid.IntRange(1, 8).Draw(rt, "in progress"), rapid.IntRange(0, 8).Draw(rt, "backlog"))
		o.Grace = seconds(0, 2).Draw(rt, "grace")
		waits := rapid.SliceOfN(seconds(0, 0.5), 1, 5).Draw(rt, "waits")
		stopAfter := seconds(0, 60).Draw(rt, "stop")
		outcomes := map[Outcome]uint64{}
		o.Results = func(r Result) error { outcomes[r.Outcome]++; return nil }
		var report Report
		faketime.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), stopAfter)
			defer cancel()
			var err error
			report, err = run(ctx, plan, o, func(ctx context.Context, target int) answer {
				if err := sleep(ctx, waits[target%len(waits)]); err != nil {
					return answer{err: err}
				}
				if target == 1 {
					return answer{err: errors.New("refused")}
				}
				return answer{status: 200, cold: target == 2}
			}, newTimerWaiter)
			if err != nil {
				t.Error(err)
			}
		})
		checkBalance(rt, report)
		got := map[Outcome]uint64{}
		for outcome, n := range map[Outcome]uint64{
			Answered: report.Total.Answered, Failed: report.Total.Failed, Interrupted: report.Total.Interrupted,
			Dropped: report.Total.Dropped, Abandoned: report.Total.Abandoned,
		} {
			if n > 0 {
				got[outcome] = n
			}
		}
		if len(got) != len(outcomes) {
			rt.Fatalf("streamed %v, reported %v", outcomes, got)
		}
		for outcome, n := range outcomes {
			if got[outcome] != n {
				rt.Fatalf("streamed %v, reported %v", outcomes, got)
			}
		}
		if !report.Stopped && report.Total.Scheduled != plan.Count() {
			rt.Fatalf("not stopped, and %d of %d arrivals came", report.Total.Scheduled, plan.Count())
		}
	})
}

func TestPlanFaults(t *testing.T) {
	good := Target{Name: "a", URL: "https://a.example/x", Arrivals: Constant{Rate: 1, For: time.Second}}
	with := func(change func(*Target)) Plan {
		target := good
		change(&target)
		return Plan{Targets: []Target{target}}
	}
	for _, c := range []struct {
		name string
		plan Plan
		want []string
	}{
		{"no targets", Plan{}, []string{"the plan has 0 targets"}},
		{"no name", with(func(t *Target) { t.Name = "" }), []string{"target number 1 has no name"}},
		{"same name", Plan{Targets: []Target{good, good}}, []string{`two targets are named "a"`}},
		{"no scheme", with(func(t *Target) { t.URL = "a.example" }), []string{`target a: URL "a.example": begin it with http:// or https://`}},
		{"other scheme", with(func(t *Target) { t.URL = "ftp://a.example" }), []string{"begin it with http://"}},
		{"no host", with(func(t *Target) { t.URL = "https:///x" }), []string{"has no host"}},
		{"broken URL", with(func(t *Target) { t.URL = "https://a.example:x/" }), []string{`URL "https://a.example:x/": invalid port`}},
		{"password", with(func(t *Target) { t.URL = "https://u:secret@a.example" }), []string{"carries a password"}},
		{"address", with(func(t *Target) { t.Connect = "127.0.0.1" }), []string{`connect address "127.0.0.1" is not host:port`}},
		{"port", with(func(t *Target) { t.Connect = "127.0.0.1:https" }), []string{"the port is not a number"}},
		{"port 0", with(func(t *Target) { t.Connect = "127.0.0.1:0" }), []string{"the port is not a number"}},
		{"method", with(func(t *Target) { t.Method = "G T" }), []string{`method "G T" is not an HTTP method`}},
		{"no arrivals", with(func(t *Target) { t.Arrivals = nil }), []string{"no arrivals: say when to send"}},
		{"bad arrivals", with(func(t *Target) { t.Arrivals = Constant{For: time.Second} }), []string{"the rate is 0"}},
		{"nothing to send", with(func(t *Target) { t.Arrivals = Replay{Speed: 1, Spread: Even} }), []string{"there is nothing to send"}},
		{"all at once", with(func(t *Target) { t.URL, t.Connect, t.Arrivals = "x", "y", nil }), []string{"URL", "connect address", "no arrivals"}},
	} {
		_, err := Run(t.Context(), c.plan, DefaultOptions())
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want one with %q", c.name, err, want)
			}
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error gives a password away: %v", c.name, err)
		}
	}
}

func TestOptionFaults(t *testing.T) {
	plan := constantPlan(1, time.Second)
	for _, c := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { *o = Options{} }, "0 requests in progress"},
		{func(o *Options) { o.Backlog = -1 }, "a backlog of -1"},
		{func(o *Options) { o.Timeout = 0 }, "a timeout of 0s"},
		{func(o *Options) { o.Grace = -1 }, "a grace of -1ns"},
		{func(o *Options) { o.Protocol = "h3" }, `protocol "h3"; write "auto", "http/1.1" or "h2"`},
		{func(o *Options) { o.Connections = "" }, `connections ""; write "kept" or "fresh"`},
		{func(o *Options) { o.Progress, o.ProgressEvery = func(Progress) {}, 0 }, "progress every 0s"},
	} {
		o := DefaultOptions()
		c.change(&o)
		if _, err := Run(t.Context(), plan, o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
}

// The distinct error texts of a summary are bounded, and each failure counted.
func TestReasonsAreBounded(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		n := 0
		r := mustRun(t, t.Context(), constantPlan(100, time.Second), DefaultOptions(), func(context.Context, int) answer {
			n++
			if n > 60 {
				return answer{err: errors.New("the usual")}
			}
			return answer{err: errors.New("new " + strings.Repeat("x", n) + strings.Repeat("ä", 200))}
		})
		reasons := r.Total.Reasons
		if len(reasons) != MaxReasons+1 {
			t.Fatalf("%d texts, want %d and the rest", len(reasons), MaxReasons)
		}
		sum := uint64(0)
		for _, reason := range reasons {
			sum += reason.Count
			if len(reason.Text) > maxReason+len("…") {
				t.Errorf("a text of %d bytes", len(reason.Text))
			}
		}
		if sum != 100 || reasons[0] != (Reason{OtherReasons, 68}) {
			t.Errorf("%d of 100 failures; first %+v", sum, reasons[0])
		}
		if !slices.IsSortedFunc(reasons, func(a, b Reason) int { return int(b.Count) - int(a.Count) }) {
			t.Error("not the most frequent first")
		}
	})
}
