package policy

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/loadtest/trace"
	"github.com/polder/polder/prewarm"
	"golang.org/x/sync/errgroup"
)

// Singles is what policies made of single calls with their durations.
type Singles struct {
	Functions   int           `json:"functions"`
	Concurrency int           `json:"concurrency"` // calls in progress that one instance takes
	StartUp     float64       `json:"start_up_s"`
	Disorder    int           `json:"out_of_order"` // calls too far from their place in the file, which arrived late
	Points      []SinglePoint `json:"points"`
}

// SinglePoint is one policy at one setting. Shares are between 0 and 1; all is weighted.
type SinglePoint struct {
	Policy       string  `json:"policy"`
	Setting      string  `json:"setting"`
	Calls        float64 `json:"calls"`
	Cold         float64 `json:"cold"`      // of calls: no ready instance had a free place
	ColdMean     float64 `json:"cold_mean"` // over functions with a call
	ColdP75      float64 `json:"cold_p75"`
	Waste        float64 `json:"waste"`    // instance time without a call, relative to a keep-alive of ten minutes
	Waited       float64 `json:"waited_s"` // of cold calls, on average
	LoadsPerCall float64 `json:"loads_per_call"`
	Warm         float64 `json:"warm_s"` // instance time, starts included
	Euros        float64 `json:"euros"`
}

// singlePolicy is one that single calls are put through, each function on its own.
type singlePolicy struct {
	policy, setting string
	keeper          func() keeper // nil for the oracle
}

// singlePolicies are those of a run. Fixed keep-alives and a KPA-like window are
// settings of the production code. The first is the reference of waste.
func singlePolicies(o Options) []singlePolicy {
	var list []singlePolicy
	step := func(name, setting string, scale polder.Scale, terms prewarm.Terms) {
		list = append(list, singlePolicy{name, setting, func() keeper { return stepping(o, scale, terms) }})
	}
	fixed := func(name string, keep time.Duration) {
		step(name, keep.String(), polder.Scale{KeepAlive: keep, Prewarm: polder.PrewarmOff}, prewarm.Terms{})
	}
	fixed("keep-alive", referenceMinutes*time.Minute)
	for _, m := range o.KeepAlives {
		if m != referenceMinutes {
			fixed("keep-alive", time.Duration(m)*time.Minute)
		}
	}
	fixed("KPA-like window", 90*time.Second)
	fixed("none", 0)
	for _, h := range singleHybrids() {
		list = append(list, singlePolicy{"hybrid histogram", h.String(), func() keeper { return keepingHybrid(o, h) }})
	}
	for _, t := range o.Thresholds {
		step("polder auto", fmt.Sprintf("λ %g", t), polder.Scale{KeepAlive: polder.AutoKeepAlive, Prewarm: polder.PrewarmAuto}, priced(t))
	}
	return append(list, singlePolicy{"oracle", "knows the future", nil})
}

// singleBatch is how many calls travel together to a worker.
const singleBatch = 1024

type namedCall struct {
	function [2]string
	weight   float64
	call
}

// singleRun is what the workers have; each has its own part until all have ended.
type singleRun struct {
	o       Options
	weights map[string]float64
	inputs  []chan []namedCall // of the workers; the last has all calls, for greedy-dual
	flows   []map[[2]string]*function
	greedy  []*greedyCalls
}

// function is one function under every policy that sees it alone.
type function struct {
	weight float64
	flows  []*flow
}

// simulateSingles streams the calls through all policies. A function's calls stay
// with one worker, and its results are added up in the order of names. Rooms of
// greedy-dual are shares of so many functions, weighted.
func simulateSingles(ctx context.Context, o Options, file *trace.File, weights map[string]float64, functions float64) (*Singles, error) {
	group, within := errgroup.WithContext(ctx)
	run := &singleRun{o: o, weights: weights, flows: make([]map[[2]string]*function, o.Workers)}
	for w := range run.flows {
		run.flows[w] = map[[2]string]*function{}
		in := make(chan []namedCall, 4)
		run.inputs = append(run.inputs, in)
		group.Go(func() error { follow(o, in, run.flows[w]); return nil })
	}
	for _, room := range greedyRooms {
		run.greedy = append(run.greedy, newGreedyCalls(o, room*functions))
	}
	all := make(chan []namedCall, 4)
	run.inputs = append(run.inputs, all)
	group.Go(func() error { followTogether(all, run.greedy); return nil })
	s := &Singles{Concurrency: o.Concurrency, StartUp: o.StartUp.Seconds()}
	group.Go(func() error { // the reader owns the channels
		defer func() {
			for _, in := range run.inputs {
				close(in)
			}
		}()
		return run.deal(within, file, &s.Disorder)
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	s.sum(run)
	return s, nil
}

// deal reads the calls and hands each to its function's worker, and to the last one.
func (r *singleRun) deal(ctx context.Context, file *trace.File, disorder *int) error {
	batches := make([][]namedCall, len(r.inputs))
	send := func(w int) error {
		select {
		case r.inputs[w] <- batches[w]:
			batches[w] = nil
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	last := len(r.inputs) - 1
	for i, err := range inOrder(trace.ReadInvocations(file, file.Name()), disorder) {
		if err != nil {
			return err
		}
		weight := weightOf(r.weights, i.Function)
		if i.Start() < 0 || i.Start() >= time.Duration(r.o.To)*time.Minute || r.o.Half != All && HalfOf(i.Function) != r.o.Half || weight == 0 {
			continue
		}
		h := fnv.New64a()
		io.WriteString(h, i.App+"\x00"+i.Function) // never fails
		for _, w := range []int{int(h.Sum64() % uint64(last)), last} {
			batches[w] = append(batches[w], namedCall{[2]string{i.App, i.Function}, weight, call{i.Start(), i.Duration}})
			if len(batches[w]) == singleBatch {
				if err := send(w); err != nil {
					return err
				}
			}
		}
	}
	for w := range r.inputs {
		if err := send(w); err != nil {
			return err
		}
	}
	return nil
}

// follow puts calls through the policies that see a function alone. There are no more
// functions than countMinutes let pass.
func follow(o Options, calls <-chan []namedCall, functions map[[2]string]*function) {
	policies := singlePolicies(o)
	for batch := range calls {
		for _, c := range batch {
			f := functions[c.function]
			if f == nil {
				f = &function{weight: c.weight}
				for _, p := range policies {
					var k keeper
					if p.keeper != nil {
						k = p.keeper()
					}
					f.flows = append(f.flows, newFlow(o, k))
				}
				functions[c.function] = f
			}
			for _, flow := range f.flows {
				flow.take(c.call)
			}
		}
	}
	for _, f := range functions {
		for _, flow := range f.flows {
			flow.finish()
		}
	}
}

// followTogether puts calls through greedy-dual in rooms of several sizes.
func followTogether(calls <-chan []namedCall, rooms []*greedyCalls) {
	for batch := range calls {
		for _, c := range batch {
			for _, g := range rooms {
				g.take(c.function, c.weight, c.call)
			}
		}
	}
	for _, g := range rooms {
		g.finish()
	}
}

// sum adds the functions up.
func (s *Singles) sum(r *singleRun) {
	all := map[[2]string]*function{}
	for _, part := range r.flows {
		maps.Copy(all, part)
	}
	names := slices.SortedFunc(maps.Keys(all), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	s.Functions = len(names)
	var reference float64
	add := func(policy, setting string, of func(name [2]string) callTally) {
		t := callSum{}
		for _, name := range names {
			t.add(of(name), all[name].weight)
		}
		if len(s.Points) == 0 {
			reference = t.idle
		}
		s.Points = append(s.Points, t.point(r.o, policy, setting, reference))
	}
	for i, p := range singlePolicies(r.o) {
		add(p.policy, p.setting, func(name [2]string) callTally { return all[name].flows[i].tally })
	}
	for i, room := range greedyRooms {
		add("greedy-dual", greedyName(room), func(name [2]string) callTally { return r.greedy[i].functions[name].tally })
	}
}

// callSum adds tallies up, weighted; times are in seconds.
type callSum struct {
	calls, cold, starts, waited, warm, idle float64
	shares                                  sum
}

func (s *callSum) add(t callTally, weight float64) {
	s.calls += weight * float64(t.calls)
	s.cold += weight * float64(t.cold)
	s.starts += weight * float64(t.starts)
	s.waited += weight * t.waited.Seconds()
	s.warm += weight * t.warm.Seconds()
	s.idle += weight * t.idle.Seconds()
	if t.calls > 0 {
		s.shares.shares = append(s.shares.shares, share{ratio(float64(t.cold), float64(t.calls)), weight})
	}
}

func (s *callSum) point(o Options, policy, setting string, reference float64) SinglePoint {
	warm := time.Duration(s.warm * float64(time.Second))
	return SinglePoint{
		Policy: policy, Setting: setting, Calls: s.calls, Cold: ratio(s.cold, s.calls), ColdMean: s.shares.mean(), ColdP75: s.shares.quantile(.75),
		Waste: ratio(s.idle, reference), Waited: ratio(s.waited, s.cold), LoadsPerCall: ratio(s.starts, s.calls),
		Warm: s.warm, Euros: float64(o.Prices.Warm(prewarm.Footprint{Memory: o.Memory}, warm)) / 1e9,
	}
}

// writeText writes the single calls' table.
func (s *Singles) writeText(w io.Writer, currency string) error {
	fmt.Fprintf(w, "\nsingle calls with their durations: %d functions, %d calls at a time for each instance, starts of %g s; %d calls out of order\n\n", s.Functions, s.Concurrency, s.StartUp, s.Disorder)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "policy\tsetting\twaste\tcold %%\tmean %%\tp75 %%\twaited s\tloads/call\twarm h\t%s\t\n", currency)
	for _, p := range s.Points {
		fmt.Fprintf(t, "%s\t%s\t%.3f\t%.3f\t%.2f\t%.2f\t%.3f\t%.5f\t%.2f\t%.4f\t\n", p.Policy, p.Setting, p.Waste, 100*p.Cold, 100*p.ColdMean, 100*p.ColdP75, p.Waited, p.LoadsPerCall, p.Warm/3600, p.Euros)
	}
	return t.Flush()
}
