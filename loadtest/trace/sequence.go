package trace

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"
)

// MaxCalls bounds the calls that SelectInvocations holds in memory: 128 MiB of
// them, and eight times the whole 2021 data set.
const MaxCalls = 1 << 24

// Sequence is the calls of one function.
type Sequence struct {
	App      string
	Function string
	Starts   []time.Duration // of the calls, since the window began, in order
}

// PerMinute counts the calls by minute of their start, as the 2019 data set does.
// Calls outside the minutes are left out.
func (s Sequence) PerMinute(minutes int) Function {
	f := Function{App: s.App, Name: s.Function, Counts: make([]uint32, minutes)}
	for _, at := range s.Starts {
		if m := int(at / time.Minute); at >= 0 && m < minutes {
			f.Counts[m]++
		}
	}
	return f
}

// Sequences is what SelectInvocations picked.
type Sequences struct {
	Functions []Sequence
	Minutes   int // length of the window
	Eligible  int // functions that could have been picked
}

// SelectInvocations picks n functions that begin at least one call in the
// window, in the way of Select, with the starts of their single calls. When s.Minutes is 0
// the window ends with the minute of the last start.
//
// Memory is that of all calls in the window, of which there may be MaxCalls.
func SelectInvocations(invocations iter.Seq2[Invocation, error], n int, s Selection) (Sequences, error) {
	if err := s.validate(n); err != nil {
		return Sequences{}, fmt.Errorf("select functions: %w", err)
	}
	if s.Weight != nil {
		return Sequences{}, errors.New("select functions: single invocations have no weights")
	}
	sequences, err := gather(invocations, s)
	if err != nil {
		return Sequences{}, fmt.Errorf("select functions: %w", err)
	}
	minutes := s.Minutes
	if minutes == 0 {
		for _, q := range sequences {
			minutes = max(minutes, int(q.Starts[len(q.Starts)-1]/time.Minute)+1)
		}
	}
	byName := make(map[[2]string]Sequence, len(sequences))
	counts := func(yield func(Function, error) bool) {
		for _, q := range sequences {
			byName[[2]string{q.App, q.Function}] = q
			if !yield(q.PerMinute(minutes), nil) {
				return
			}
		}
	}
	whole := s
	whole.From, whole.Minutes = 0, minutes // gather cut the window out
	slice, err := Select(counts, n, whole)
	if err != nil {
		return Sequences{}, err
	}
	picked := Sequences{Minutes: minutes, Eligible: slice.Eligible}
	for _, f := range slice.Functions {
		picked.Functions = append(picked.Functions, byName[[2]string{f.App, f.Name}])
	}
	return picked, nil
}

// gather collects the calls that start in the window, by function; every
// Sequence has a call, and they come in the order of their names.
func gather(invocations iter.Seq2[Invocation, error], s Selection) ([]Sequence, error) {
	from := time.Duration(s.From) * time.Minute
	starts := make(map[[2]string][]time.Duration)
	held := 0
	for i, err := range invocations {
		if err != nil {
			return nil, err
		}
		at := i.Start() - from
		if at < 0 || s.Minutes > 0 && at >= time.Duration(s.Minutes)*time.Minute {
			continue
		}
		if held++; held > MaxCalls {
			return nil, fmt.Errorf("the window of %s has more than %d calls: choose a shorter one", s.window(), MaxCalls)
		}
		key := [2]string{i.App, i.Function}
		starts[key] = append(starts[key], at)
	}
	names := slices.SortedFunc(maps.Keys(starts), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	sequences := make([]Sequence, len(names))
	for i, name := range names {
		slices.Sort(starts[name])
		sequences[i] = Sequence{App: name[0], Function: name[1], Starts: starts[name]}
	}
	return sequences, nil
}
