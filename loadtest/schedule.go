package loadtest

import (
	"container/heap"
	"iter"
	"time"
)

// schedule merges the arrivals of all targets in the order of their times, and
// in the order of the plan where times are equal.
type schedule struct{ heap []arriving }

// arriving is a target and its next arrival.
type arriving struct {
	at     time.Duration
	target int
	pull   func() (time.Duration, bool)
	stop   func()
}

func newSchedule(targets []Target) *schedule {
	s := &schedule{}
	for i, t := range targets {
		pull, stop := iter.Pull(t.Arrivals.Times())
		if at, ok := pull(); ok {
			s.heap = append(s.heap, arriving{at, i, pull, stop})
		}
	}
	heap.Init(s)
	return s
}

func (s *schedule) Len() int { return len(s.heap) }
func (s *schedule) Less(i, j int) bool {
	a, b := &s.heap[i], &s.heap[j]
	return a.at < b.at || a.at == b.at && a.target < b.target
}
func (s *schedule) Swap(i, j int) { s.heap[i], s.heap[j] = s.heap[j], s.heap[i] }
func (s *schedule) Push(x any)    { s.heap = append(s.heap, x.(arriving)) }
func (s *schedule) Pop() any {
	last := s.heap[len(s.heap)-1]
	s.heap = s.heap[:len(s.heap)-1]
	return last
}

// next returns the following arrival; ok is false after the last.
func (s *schedule) next() (j job, ok bool) {
	if len(s.heap) == 0 {
		return job{}, false
	}
	top := &s.heap[0]
	j = job{top.target, top.at}
	if at, more := top.pull(); more {
		top.at = max(top.at, at) // whatever an Arrivals of others yields, time goes on
		heap.Fix(s, 0)
	} else {
		heap.Pop(s)
	}
	return j, true
}

// stop frees the iterators that did not come to their ends.
func (s *schedule) stop() {
	for _, a := range s.heap {
		a.stop()
	}
}
