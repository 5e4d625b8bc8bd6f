package policy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"github.com/polder/polder/loadtest/trace"
	"golang.org/x/sync/errgroup"
)

// batchSize functions travel together between the goroutines of Run.
const batchSize = 32

// maxFunctions bounds the functions of a 2021 trace, whose counts are held in
// memory.
const maxFunctions = 1 << 20

// Run simulates every policy over the trace.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := o.Validate(); err != nil {
		return Report{}, fmt.Errorf("simulate policies: %w", err)
	}
	var weights map[string]float64
	if o.Weights != "" {
		var err error
		if weights, err = readWeights(o.Weights); err != nil {
			return Report{}, fmt.Errorf("simulate policies: %w", err)
		}
	}
	file, err := trace.Open(o.Trace)
	if err != nil {
		return Report{}, fmt.Errorf("simulate policies: %w", err)
	}
	defer file.Close()
	functions, format, err := read(file, o)
	if err != nil {
		return Report{}, fmt.Errorf("simulate policies: %w", err)
	}
	report, err := simulate(ctx, o, functions, weights)
	if err != nil {
		return Report{}, fmt.Errorf("simulate policies over %s: %w", o.Trace, err)
	}
	if format != trace.Invocations2021 {
		return report, nil
	}
	again, err := trace.Open(o.Trace)
	if err != nil {
		return Report{}, fmt.Errorf("simulate policies: %w", err)
	}
	defer again.Close()
	if report.Singles, err = simulateSingles(ctx, o, again, weights, report.Points[0].Functions); err != nil {
		return Report{}, fmt.Errorf("simulate policies over single calls of %s: %w", o.Trace, err)
	}
	return report, nil
}

func readWeights(name string) (map[string]float64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return trace.ReadWeights(f, name)
}

// read yields the functions of a trace, and tells its format. Single invocations
// are counted by the minute: a slot is all that this simulator knows, and
// simulateSingles takes them one by one.
func read(file *trace.File, o Options) (iter.Seq2[trace.Function, error], trace.Format, error) {
	format, err := file.Format()
	if err != nil {
		return nil, 0, err
	}
	if format == trace.Counts2019 {
		return trace.Read(file, file.Name()), format, nil
	}
	list, err := countMinutes(trace.ReadInvocations(file, file.Name()), o.To)
	if err != nil {
		return nil, 0, err
	}
	return func(yield func(trace.Function, error) bool) {
		for _, f := range list {
			if !yield(f, nil) {
				return
			}
		}
	}, format, nil
}

// families are the policies of a run, in the order of the report. The first is
// the reference of waste.
func families(o Options) []family {
	return []family{
		keepAlive([]int{referenceMinutes}), auto(o.Thresholds), sparing(), keepAlive(o.KeepAlives), histogram(hybrids()), kpa(), none(), oracle(),
	}
}

// referenceMinutes is the keep-alive whose waste is 1.
const referenceMinutes = 10

// batch is some functions on their way through the workers, with one result each.
type batch struct {
	functions []trace.Function
	results   []result
	done      chan struct{} // closed by the worker
}

// result is one function's part in the report.
type result struct {
	class   class
	tallies [][]tally // by family and setting
	spell   *spell
}

// simulate spreads the functions over the workers and adds their results up in
// the order of the trace, so that the sums do not depend on who was first.
func simulate(ctx context.Context, o Options, functions iter.Seq2[trace.Function, error], weights map[string]float64) (Report, error) {
	began := time.Now()
	group, within := errgroup.WithContext(ctx)
	work := make(chan *batch)
	order := make(chan *batch, 2*o.Workers)
	all := families(o)
	group.Go(func() error { // the reader owns both channels
		defer close(work)
		defer close(order)
		return deal(within, o, functions, weights, work, order)
	})
	for range o.Workers {
		group.Go(func() error {
			for b := range work {
				for i, f := range b.functions {
					b.results[i] = simulateOne(o, all, f)
				}
				close(b.done)
			}
			return nil
		})
	}
	total := newTotals(all)
	group.Go(func() error {
		for b := range order {
			select {
			case <-b.done:
			case <-within.Done():
				return within.Err()
			}
			for i, f := range b.functions {
				total.add(b.results[i], weightOf(weights, f.Name))
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return Report{}, err
	}
	if total.functions == 0 {
		return Report{}, errors.New("no function takes part: see the choice of functions and the weights")
	}
	if err := total.greedy(ctx, o); err != nil {
		return Report{}, err
	}
	return total.report(o, time.Since(began)), nil
}

func weightOf(weights map[string]float64, name string) float64 {
	if weights == nil {
		return 1
	}
	return weights[name]
}

// deal cuts the functions that take part into batches.
func deal(ctx context.Context, o Options, functions iter.Seq2[trace.Function, error], weights map[string]float64, work, order chan<- *batch) error {
	var b *batch
	send := func() error {
		b.results, b.done = make([]result, len(b.functions)), make(chan struct{})
		for _, to := range []chan<- *batch{work, order} {
			select {
			case to <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		b = nil
		return nil
	}
	for f, err := range functions {
		if err != nil {
			return err
		}
		if o.Half != All && HalfOf(f.Name) != o.Half || weightOf(weights, f.Name) == 0 {
			continue
		}
		if b == nil {
			b = &batch{}
		}
		if b.functions = append(b.functions, f); len(b.functions) == batchSize {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if b != nil {
		return send()
	}
	return nil
}

// simulateOne walks all policies along one function, in step.
func simulateOne(o Options, all []family, f trace.Function) result {
	if len(f.Counts) > o.To {
		f.Counts = f.Counts[:o.To]
	}
	r := result{class: classOf(f.Counts), spell: newSpell(o, f)}
	past := &replay{}
	tracks := make([]track, len(all))
	for i, p := range all {
		tracks[i] = newTrack(p.start(f, past), len(p.settings))
		r.tallies = append(r.tallies, tracks[i].tallies)
	}
	for minute := range o.To {
		var calls uint32
		if minute < len(f.Counts) {
			calls = f.Counts[minute]
		}
		for i := range tracks {
			tracks[i].slot(minute, calls, minute >= o.From)
		}
	}
	return r
}

// track is a walk with what is counted on its way, per setting.
type track struct {
	walk          walk
	tallies       []tally
	warm, present []bool // in this slot; at the end of the one before
}

func newTrack(w walk, settings int) track {
	return track{w, make([]tally, settings), make([]bool, settings), make([]bool, settings)}
}

func (t *track) slot(minute int, calls uint32, counted bool) {
	t.walk.before(minute, t.warm)
	t.walk.after(minute, calls)
	active := calls > 0
	for i, warm := range t.warm {
		if counted {
			t.tallies[i].slot(warm, active, active && !warm || warm && !t.present[i])
			t.tallies[i].calls += uint64(calls)
		}
		t.present[i] = warm || active
	}
}

func newSpell(o Options, f trace.Function) *spell {
	s := &spell{active: make([]uint64, (len(f.Counts)+63)/64)}
	for m, c := range f.Counts {
		if c > 0 {
			s.active[m/64] |= 1 << (m % 64)
		}
		if m >= o.From {
			s.calls += uint64(c)
		}
	}
	return s
}
