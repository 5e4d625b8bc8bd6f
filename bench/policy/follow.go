package policy

import (
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/loadtest/trace"
	"github.com/polder/polder/prewarm"
)

// SlotStart is the instant at which the simulator's minute begins.
func SlotStart(minute int) time.Time { return slotStart(minute) }

// Follow walks the production code along one function's calls, and tells of each
// slot whether an instance was warm when it began.
func Follow(counts []uint32, scale polder.Scale, terms prewarm.Terms) []bool {
	w := production("followed", []string{""}, []polder.Scale{scale}, []prewarm.Terms{terms}).start(trace.Function{}, &replay{})
	warm := make([]bool, len(counts))
	for minute, calls := range counts {
		w.before(minute, warm[minute:minute+1])
		w.after(minute, calls)
	}
	return warm
}

// Learn returns what the production code knows of a function once its calls have
// come.
func Learn(counts []uint32) *prewarm.State {
	r := new(replay)
	for minute, calls := range counts {
		r.before(minute)
		if calls > 0 {
			r.after(minute, calls)
		}
	}
	r.before(len(counts)) // the next slot is open: a state that is restored then has missed nothing
	return &r.state
}

// Select picks functions of a trace file, as trace.Select does, with a weight for
// each if a file of weights is named.
func Select(name, weights string, n int, s trace.Selection) (trace.Slice, error) {
	if weights != "" {
		list, err := readWeights(weights)
		if err != nil {
			return trace.Slice{}, err
		}
		s.Weight = func(f trace.Function) float64 { return list[f.Name] }
	}
	file, err := trace.Open(name)
	if err != nil {
		return trace.Slice{}, err
	}
	defer file.Close()
	functions, _, err := read(file, Options{To: s.From + s.Minutes})
	if err != nil {
		return trace.Slice{}, err
	}
	return trace.Select(functions, n, s)
}
