package loadtest

import (
	"container/heap"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"math"
	"math/rand/v2"
	"time"

	"github.com/polder/polder/loadtest/trace"
)

// Spread says where in its minute a call of a per-minute trace is put.
type Spread string

// The choices of Spread.
const (
	// Poisson draws each call's place uniformly, independent of the others. That
	// is a Poisson process, given the number of calls in the minute: the gaps
	// are those of callers who do not know of each other.
	Poisson Spread = "poisson"

	// Even gives the calls of a minute equal gaps, with a drawn offset.
	Even Spread = "even"
)

// Replay replays calls that were counted per minute. Each count becomes exactly
// that many requests inside its minute; nothing is thinned out or made up.
type Replay struct {
	Functions []trace.Function
	Spread    Spread
	Speed     float64 // divides time: 60 makes a minute of the trace a second
	Seed      uint64  // of the draw inside the minutes
}

// Times implements Arrivals. A function's times depend on its names, its counts
// and the seed, and not on which other functions are replayed with it.
func (r Replay) Times() iter.Seq[time.Duration] {
	return func(yield func(time.Duration) bool) {
		length := r.Length()
		var merged cursors
		for _, f := range r.Functions {
			c := &countCursor{
				counts: f.Counts, spread: r.Spread,
				draw: rand.New(rand.NewPCG(r.Seed, hashName(f.Owner, f.App, f.Name, f.Trigger))),
			}
			merged.add(c)
		}
		merged.walk(func(at float64) bool {
			return yield(compress(at, r.Speed, length))
		})
	}
}

// Count implements Arrivals.
func (r Replay) Count() uint64 {
	var sum uint64
	for _, f := range r.Functions {
		sum += f.Total()
	}
	return sum
}

// Length implements Arrivals: that of the longest function, sped up.
func (r Replay) Length() time.Duration {
	var longest time.Duration
	for _, f := range r.Functions {
		longest = max(longest, f.Length())
	}
	return time.Duration(float64(longest) / r.Speed)
}

func (r Replay) String() string {
	return fmt.Sprintf("replay of %d functions at speed %.4g, %s, seed %d", len(r.Functions), r.Speed, r.Spread, r.Seed)
}

// Validate reports what is wrong with the value.
func (r Replay) Validate() error {
	faults := []error{checkSpeed(r.Speed)}
	if r.Spread != Poisson && r.Spread != Even {
		faults = append(faults, fmt.Errorf("spread is %q; write %q or %q", r.Spread, Poisson, Even))
	}
	return errors.Join(faults...)
}

// ReplayCalls replays single calls at the times of a trace.
type ReplayCalls struct {
	Sequences []trace.Sequence
	Window    time.Duration // length of the trace's window; calls outside it are not sent
	Speed     float64       // divides time
}

// Times implements Arrivals.
func (r ReplayCalls) Times() iter.Seq[time.Duration] {
	return func(yield func(time.Duration) bool) {
		length := r.Length()
		var merged cursors
		for _, s := range r.Sequences {
			merged.add(&callCursor{starts: s.Starts, window: r.Window})
		}
		merged.walk(func(at float64) bool {
			return yield(compress(at, r.Speed, length))
		})
	}
}

// Count implements Arrivals.
func (r ReplayCalls) Count() uint64 {
	var sum uint64
	for _, s := range r.Sequences {
		for _, at := range s.Starts {
			if at >= 0 && at < r.Window {
				sum++
			}
		}
	}
	return sum
}

// Length implements Arrivals.
func (r ReplayCalls) Length() time.Duration { return time.Duration(float64(r.Window) / r.Speed) }

func (r ReplayCalls) String() string {
	return fmt.Sprintf("replay of the single calls of %d functions at speed %.4g", len(r.Sequences), r.Speed)
}

// Validate reports what is wrong with the value.
func (r ReplayCalls) Validate() error {
	faults := []error{checkSpeed(r.Speed)}
	if r.Window < 0 {
		faults = append(faults, fmt.Errorf("the window is %v long", r.Window))
	}
	return errors.Join(faults...)
}

func checkSpeed(speed float64) error {
	if !(speed >= 1e-3 && speed <= 1e6) {
		return fmt.Errorf("speed is %v; it must be from 0.001 to 1000000 (1 replays in the trace's own time)", speed)
	}
	return nil
}

// compress turns nanoseconds of the trace into an intended time below length.
func compress(at, speed float64, length time.Duration) time.Duration {
	return min(time.Duration(at/speed), max(0, length-1))
}

func hashName(names ...string) uint64 {
	h := fnv.New64a()
	for _, n := range names {
		h.Write([]byte(n))
		h.Write([]byte{0})
	}
	return h.Sum64()
}

// cursor walks the calls of one function in order.
type cursor interface {
	// next returns the following call in nanoseconds since the trace began.
	next() (at float64, ok bool)
}

// countCursor spreads the counts of minutes, drawing one call at a time.
type countCursor struct {
	counts []uint32
	spread Spread
	draw   *rand.Rand

	minute int     // the one being spread; counts[minute-1] once it has begun
	left   uint32  // calls of it that are still to come
	place  float64 // of the last call in it, 0 to 1
	gap    float64 // between its calls when they are even
}

func (c *countCursor) next() (float64, bool) {
	for c.left == 0 {
		if c.minute == len(c.counts) {
			return 0, false
		}
		c.left = c.counts[c.minute]
		c.minute++
		c.begin()
	}
	if c.spread == Even {
		c.place += c.gap
	} else {
		// The smallest of n uniform draws in (place, 1): with it each next place
		// follows from the last, and no minute need be held in memory.
		c.place += (1 - c.place) * (1 - math.Pow(1-c.draw.Float64(), 1/float64(c.left)))
	}
	c.left--
	return (float64(c.minute-1) + min(c.place, 1-1e-9)) * float64(time.Minute), true
}

// begin sets the place before the first call of a minute.
func (c *countCursor) begin() {
	c.place = 0
	if c.spread == Even && c.left > 0 {
		c.gap = 1 / float64(c.left)
		c.place = c.gap * (c.draw.Float64() - 1)
	}
}

// callCursor walks calls that know their times.
type callCursor struct {
	starts []time.Duration
	window time.Duration
}

func (c *callCursor) next() (float64, bool) {
	for len(c.starts) > 0 {
		at := c.starts[0]
		c.starts = c.starts[1:]
		if at >= 0 && at < c.window {
			return float64(at), true
		}
	}
	return 0, false
}

// cursors merges cursors: a heap by next time, and by the order of adding where
// times are equal.
type cursors []waiting

type waiting struct {
	cursor
	at    float64
	order int
}

func (c cursors) Len() int { return len(c) }
func (c cursors) Less(i, j int) bool {
	return c[i].at < c[j].at || c[i].at == c[j].at && c[i].order < c[j].order
}
func (c cursors) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *cursors) Push(x any)   { *c = append(*c, x.(waiting)) }
func (c *cursors) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// add takes a cursor in if it has a call.
func (c *cursors) add(next cursor) {
	order := len(*c)
	if at, ok := next.next(); ok {
		*c = append(*c, waiting{next, at, order})
	}
}

// walk yields the calls of all cursors in order of time.
func (c *cursors) walk(yield func(at float64) bool) {
	heap.Init(c)
	for len(*c) > 0 {
		top := &(*c)[0]
		if !yield(top.at) {
			return
		}
		if at, ok := top.next(); ok {
			top.at = at
			heap.Fix(c, 0)
		} else {
			heap.Pop(c)
		}
	}
}
