package policy

import (
	"cmp"
	"container/heap"
	"fmt"
	"iter"
	"time"

	"github.com/polder/polder/loadtest/trace"
)

const (
	// slack is how far back a call may begin behind the latest one that was read, and
	// still be put in its place: a file that is ordered by ends is out of order by the
	// length of its longest calls.
	slack = 20 * time.Minute
	// maxAhead bounds the calls that wait for their place.
	maxAhead = 1 << 18
)

// inOrder yields calls by their start, as far as slack and maxAhead let it, and
// counts in disorder those that came later than that: they are yielded where they
// come.
func inOrder(calls iter.Seq2[trace.Invocation, error], disorder *int) iter.Seq2[trace.Invocation, error] {
	return func(yield func(trace.Invocation, error) bool) {
		var ahead byStart
		var latest, told time.Duration
		next := func() bool {
			i := heap.Pop(&ahead).(trace.Invocation)
			if i.Start() < told {
				*disorder++
			}
			told = max(told, i.Start())
			return yield(i, nil)
		}
		for i, err := range calls {
			if err != nil {
				yield(i, err)
				return
			}
			latest = max(latest, i.Start())
			heap.Push(&ahead, i)
			for len(ahead) > maxAhead || len(ahead) > 0 && latest-ahead[0].Start() > slack {
				if !next() {
					return
				}
			}
		}
		for len(ahead) > 0 {
			if !next() {
				return
			}
		}
	}
}

type byStart []trace.Invocation

func (b byStart) Len() int { return len(b) }
func (b byStart) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(b[i].Start(), b[j].Start()), cmp.Compare(b[i].Function, b[j].Function),
		cmp.Compare(b[i].App, b[j].App), cmp.Compare(b[i].End, b[j].End)) < 0
}
func (b byStart) Swap(i, j int) { b[i], b[j] = b[j], b[i] }
func (b *byStart) Push(x any)   { *b = append(*b, x.(trace.Invocation)) }
func (b *byStart) Pop() any {
	last := (*b)[len(*b)-1]
	*b = (*b)[:len(*b)-1]
	return last
}

// countMinutes counts single calls by the minute of their start, as a trace of
// 2019 does: the memory is that of the counts, however many calls there are.
func countMinutes(calls iter.Seq2[trace.Invocation, error], minutes int) ([]trace.Function, error) {
	at := map[[2]string]int{}
	var list []trace.Function
	for c, err := range calls {
		if err != nil {
			return nil, err
		}
		minute := int(c.Start() / time.Minute)
		if c.Start() < 0 || minute >= minutes {
			continue
		}
		key := [2]string{c.App, c.Function}
		i, known := at[key]
		if !known {
			if len(list) == maxFunctions {
				return nil, fmt.Errorf("the trace has more than %d functions", maxFunctions)
			}
			i = len(list)
			at[key] = i
			list = append(list, trace.Function{App: c.App, Name: c.Function, Counts: make([]uint32, minutes)})
		}
		list[i].Counts[minute]++
	}
	return list, nil
}
