package policy

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
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

// SinglePoint is one policy at one setting. Shares are between 0 and 1.
type SinglePoint struct {
	Policy       string  `json:"policy"`
	Setting      string  `json:"setting"`
	Calls        uint64  `json:"calls"`
	Cold         float64 `json:"cold"`      // of calls: no ready instance had a free place
	ColdMean     float64 `json:"cold_mean"` // over functions with a call
	ColdP75      float64 `json:"cold_p75"`
	Waste        float64 `json:"waste"`    // instance time without a call, relative to a keep-alive of ten minutes
	Waited       float64 `json:"waited_s"` // of cold calls, on average
	LoadsPerCall float64 `json:"loads_per_call"`
	Warm         float64 `json:"warm_s"` // instance time, starts included
	Euros        float64 `json:"euros"`
}

// singlePolicy is one that single calls are put through.
type singlePolicy struct {
	policy, setting string
	scale           polder.Scale
	terms           prewarm.Terms
}

// singlePolicies are those of a run. All run the production code: fixed
// keep-alives and a KPA-like window are settings of it. The first is the reference
// of waste.
func singlePolicies(o Options) []singlePolicy {
	fixed := func(name string, keep time.Duration) singlePolicy {
		return singlePolicy{name, keep.String(), polder.Scale{KeepAlive: keep, Prewarm: polder.PrewarmOff}, prewarm.Terms{}}
	}
	list := []singlePolicy{fixed("keep-alive", referenceMinutes*time.Minute)}
	for _, m := range o.KeepAlives {
		if m != referenceMinutes {
			list = append(list, fixed("keep-alive", time.Duration(m)*time.Minute))
		}
	}
	list = append(list, fixed("KPA-like window", 90*time.Second), fixed("none", 0))
	for _, t := range o.Thresholds {
		list = append(list, singlePolicy{"polder auto", fmt.Sprintf("λ %g", t), polder.Scale{KeepAlive: polder.AutoKeepAlive, Prewarm: polder.PrewarmAuto}, priced(t)})
	}
	return list
}

// singleBatch is how many calls travel together to a worker.
const singleBatch = 1024

type namedCall struct {
	function [2]string
	call
}

// simulateSingles streams the calls through all policies. A function's calls stay
// with one worker, and its results are added up in the order of names.
func simulateSingles(ctx context.Context, o Options, file *trace.File) (*Singles, error) {
	group, within := errgroup.WithContext(ctx)
	inputs, found := make([]chan []namedCall, o.Workers), make([]map[[2]string][]*flow, o.Workers)
	for w := range inputs {
		inputs[w], found[w] = make(chan []namedCall, 4), map[[2]string][]*flow{}
		group.Go(func() error { return follow(o, inputs[w], found[w]) })
	}
	s := &Singles{Concurrency: o.Concurrency, StartUp: o.StartUp.Seconds()}
	group.Go(func() error { // the reader owns the channels
		defer func() {
			for _, in := range inputs {
				close(in)
			}
		}()
		return s.deal(within, o, file, inputs)
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	s.sum(o, found)
	return s, nil
}

// deal reads the calls and hands each to its function's worker.
func (s *Singles) deal(ctx context.Context, o Options, file *trace.File, inputs []chan []namedCall) error {
	batches := make([][]namedCall, len(inputs))
	send := func(w int) error {
		select {
		case inputs[w] <- batches[w]:
			batches[w] = nil
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for i, err := range inOrder(trace.ReadInvocations(file, file.Name()), &s.Disorder) {
		if err != nil {
			return err
		}
		if i.Start() < 0 || i.Start() >= time.Duration(o.To)*time.Minute || o.Half != All && HalfOf(i.Function) != o.Half {
			continue
		}
		h := fnv.New64a()
		io.WriteString(h, i.App+"\x00"+i.Function) // never fails
		w := int(h.Sum64() % uint64(len(inputs)))
		batches[w] = append(batches[w], namedCall{[2]string{i.App, i.Function}, call{i.Start(), i.Duration}})
		if len(batches[w]) == singleBatch {
			if err := send(w); err != nil {
				return err
			}
		}
	}
	for w := range inputs {
		if err := send(w); err != nil {
			return err
		}
	}
	return nil
}

// follow puts calls through every policy, each function's through flows of its own.
func follow(o Options, calls <-chan []namedCall, flows map[[2]string][]*flow) error {
	policies := singlePolicies(o)
	for batch := range calls {
		for _, c := range batch {
			list := flows[c.function]
			if list == nil {
				if len(flows) == maxFunctions {
					return fmt.Errorf("the trace has more than %d functions", maxFunctions)
				}
				for _, p := range policies {
					list = append(list, newFlow(o, p.scale, p.terms))
				}
				flows[c.function] = list
			}
			for _, f := range list {
				f.take(c.call)
			}
		}
	}
	for _, list := range flows {
		for _, f := range list {
			f.finish()
		}
	}
	return nil
}

// sum adds the functions up.
func (s *Singles) sum(o Options, found []map[[2]string][]*flow) {
	all := map[[2]string][]*flow{}
	var names [][2]string
	for _, part := range found {
		for name, flows := range part {
			all[name] = flows
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	s.Functions = len(names)
	var reference time.Duration
	for i, p := range singlePolicies(o) {
		var t callTally
		var shares sum
		for _, name := range names {
			f := all[name][i].tally
			t.calls, t.cold, t.starts = t.calls+f.calls, t.cold+f.cold, t.starts+f.starts
			t.waited, t.warm, t.idle = t.waited+f.waited, t.warm+f.warm, t.idle+f.idle
			if f.calls > 0 {
				shares.shares = append(shares.shares, share{ratio(float64(f.cold), float64(f.calls)), 1})
			}
		}
		if i == 0 {
			reference = t.idle
		}
		s.Points = append(s.Points, SinglePoint{
			Policy: p.policy, Setting: p.setting, Calls: t.calls, Cold: ratio(float64(t.cold), float64(t.calls)), ColdMean: shares.mean(), ColdP75: shares.quantile(.75),
			Waste: ratio(t.idle.Seconds(), reference.Seconds()), Waited: ratio(t.waited.Seconds(), float64(t.cold)), LoadsPerCall: ratio(float64(t.starts), float64(t.calls)),
			Warm: t.warm.Seconds(), Euros: float64(o.Prices.Warm(prewarm.Footprint{Memory: o.Memory}, t.warm)) / 1e9,
		})
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
