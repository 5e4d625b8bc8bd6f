package policy

import (
	"container/heap"
	"context"
	"fmt"
)

// greedyRooms are the settings of greedy-dual: the room for instances, as a
// share of the (weighted) functions. With less than .4 it thrashes on a trace
// whose functions are mostly busy.
var greedyRooms = [...]float64{.4, .5, .6, .7, .8, .85, .9, .95}

// spell is one function's part in it.
type spell struct {
	index     int
	weight    float64
	class     class
	active    []uint64 // a bit per minute
	calls     uint64   // in counted minutes
	frequency float64
	priority  float64
	at        int // in the heap; -1 when not warm
	tally     tally
}

func (s *spell) activeAt(minute int) bool {
	i := minute / 64
	return i < len(s.active) && s.active[i]>>(minute%64)&1 == 1
}

type cache []*spell

func (c cache) Len() int { return len(c) }
func (c cache) Less(i, j int) bool {
	if c[i].priority != c[j].priority {
		return c[i].priority < c[j].priority
	}
	return c[i].index < c[j].index
}
func (c cache) Swap(i, j int) { c[i], c[j] = c[j], c[i]; c[i].at, c[j].at = i, j }
func (c *cache) Push(x any)   { s := x.(*spell); s.at = len(*c); *c = append(*c, s) }
func (c *cache) Pop() any {
	last := len(*c) - 1
	s := (*c)[last]
	*c, s.at = (*c)[:last], -1
	return s
}

// greedyDual is the caching policy of FaasCache (Fuerst and Sharma, ASPLOS
// 2021): instances stay until the room is full, then the one with the lowest
// priority = clock + frequency × cost / size goes, and the clock becomes its
// priority. Size and cost are 1 here; frequency counts active minutes since the
// instance was loaded. All functions share one room, so it walks them together,
// and calls done with each one's tally.
func greedyDual(ctx context.Context, spells []*spell, room float64, from, to int, done func(*spell)) error {
	var all float64
	for _, s := range spells {
		all += s.weight
		s.tally, s.at, s.frequency, s.priority = tally{calls: s.calls}, -1, 0, 0
	}
	room *= all * (1 + 1e-9) // products of decimals fall short of whole numbers
	var warm cache
	var used, clock float64
	for minute := range to {
		if err := ctx.Err(); err != nil {
			return err
		}
		counted := minute >= from
		if counted {
			for _, s := range warm {
				s.tally.slot(true, s.activeAt(minute), false)
			}
		}
		for _, s := range spells {
			if !s.activeAt(minute) {
				continue
			}
			if s.at >= 0 {
				s.frequency++
				s.priority = clock + s.frequency
				heap.Fix(&warm, s.at)
				continue
			}
			if counted {
				s.tally.slot(false, true, true)
			}
			for used+s.weight > room && len(warm) > 0 {
				out := heap.Pop(&warm).(*spell)
				used, clock = used-out.weight, out.priority
				if counted && out.activeAt(minute) && out.index > s.index {
					// It was warm when the slot began and counted so; its own
					// call, later in the slot, will find it gone.
					out.tally.revoke()
				}
			}
			if used+s.weight > room {
				continue // larger than the room: it runs and goes
			}
			s.frequency, s.priority = 1, clock+1
			used += s.weight
			heap.Push(&warm, s)
		}
	}
	for _, s := range spells {
		done(s)
	}
	return nil
}

func greedyName(room float64) string { return fmt.Sprintf("room for %g %% of the functions", 100*room) }
