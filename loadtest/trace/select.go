package trace

import (
	"cmp"
	"container/heap"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"slices"
	"strconv"
)

// Selection says which functions of a trace may be picked, and from which
// minutes of it.
type Selection struct {
	From    int    // first minute, from 0
	Minutes int    // length of the window; 0 means to the end of the trace
	Seed    uint64 // of the draw

	// MaxRate leaves out functions with more calls per minute, on average over
	// the window; 0 means no limit. The busiest functions of the public data
	// have a hundred times the calls of all the others together.
	MaxRate float64

	// Weight is how many functions of the population a row stands for; nil means
	// one each. A function of weight 0 or less is left out.
	Weight func(Function) float64
}

// Slice is what Select picked.
type Slice struct {
	Functions []Function // trimmed to the window; own their counts
	Read      int        // functions that were read
	Eligible  int        // of those, the ones that could have been picked
}

// Select picks n functions that have at least one call in the window, or all
// such functions if they are fewer.
//
// The pick is representative: functions are grouped by their calls in the
// window (1-3, 4-15, 16-63, ...), each group gets its share of n, rounded by
// lot, and within a group the draw is uniform, or by weight (Efraimidis and
// Spirakis, 2006). It is deterministic: it depends on the seed and the
// functions, not on the order of the rows. And it nests: the first k of n picked
// functions are those that Select would pick for k.
//
// The first error of the stream ends the selection. Memory is at most that of
// the window of n functions for each group, of which there are seldom ten.
func Select(functions iter.Seq2[Function, error], n int, s Selection) (Slice, error) {
	if err := s.validate(n); err != nil {
		return Slice{}, fmt.Errorf("select functions: %w", err)
	}
	var picked Slice
	var groups [32]group // by powers of four of the calls in the window
	for f, err := range functions {
		if err != nil {
			return Slice{}, fmt.Errorf("select functions: %w", err)
		}
		picked.Read++
		minutes := s.Minutes
		if minutes == 0 {
			minutes = len(f.Counts)
		}
		f = f.Window(s.From, minutes)
		total := f.Total()
		weight := s.weight(f)
		if total == 0 || weight <= 0 || s.MaxRate > 0 && float64(total) > s.MaxRate*float64(len(f.Counts)) {
			continue
		}
		picked.Eligible++
		groups[(bits.Len64(total)-1)/2].offer(n, candidate{f, drawKey(s.Seed, f) / weight}, weight)
	}
	if picked.Eligible == 0 {
		return Slice{}, fmt.Errorf("select functions: none of the %d functions has a call in the window of %s within the limits", picked.Read, s.window())
	}
	picked.Functions = share(groups[:], n, s.Seed)
	return picked, nil
}

func (s Selection) validate(n int) error {
	switch {
	case n < 1:
		return fmt.Errorf("%d functions asked for; ask for at least 1", n)
	case s.From < 0:
		return fmt.Errorf("the window begins at minute %d; the first minute is 0", s.From)
	case s.Minutes < 0:
		return fmt.Errorf("the window has %d minutes; 0 means to the end", s.Minutes)
	case !(s.MaxRate >= 0):
		return errors.New("the largest rate is below 0; 0 means no limit")
	}
	return nil
}

func (s Selection) window() string {
	if s.Minutes == 0 {
		return fmt.Sprintf("minute %d to the end", s.From)
	}
	return fmt.Sprintf("minutes %d to %d", s.From, s.From+s.Minutes-1)
}

func (s Selection) weight(f Function) float64 {
	if s.Weight == nil {
		return 1
	}
	return s.Weight(f)
}

// drawKey draws an exponential value that belongs to the function: the smallest
// keys are a uniform sample of the functions.
func drawKey(seed uint64, f Function) float64 {
	return -math.Log(uniform(seed, f.Owner, f.App, f.Name, f.Trigger))
}

// uniform hashes a seed and names to a number in (0, 1).
func uniform(seed uint64, names ...string) float64 {
	return (float64(mix(seed, names...)>>11) + 0.5) / (1 << 53)
}

// mix hashes a seed and names to 64 bits; each name is closed by its length, so
// that no two lists of names read the same.
func mix(seed uint64, names ...string) uint64 {
	text := binary.LittleEndian.AppendUint64(nil, seed)
	for _, name := range names {
		text = binary.LittleEndian.AppendUint64(append(text, name...), uint64(len(name)))
	}
	sum := sha256.Sum256(text)
	return binary.LittleEndian.Uint64(sum[:])
}

// candidate is a function with its key; smaller keys are picked first.
type candidate struct {
	Function
	key float64
}

// group holds the candidates of one range of calls: a heap, largest key on top,
// of the n smallest keys seen.
type group struct {
	heap   []candidate
	weight float64 // of all functions offered
}

func (g *group) Len() int           { return len(g.heap) }
func (g *group) Less(i, j int) bool { return compareCandidates(g.heap[i], g.heap[j]) > 0 }
func (g *group) Swap(i, j int)      { g.heap[i], g.heap[j] = g.heap[j], g.heap[i] }
func (g *group) Push(x any)         { g.heap = append(g.heap, x.(candidate)) }
func (g *group) Pop() any {
	last := len(g.heap) - 1
	c := g.heap[last]
	g.heap = g.heap[:last]
	return c
}

// compareCandidates orders by key, and by name where rounding made keys equal.
func compareCandidates(a, b candidate) int {
	return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.Name, b.Name))
}

// offer counts a candidate in and keeps it if it is among the n smallest. Only
// what is kept is copied out of the reader's row.
func (g *group) offer(n int, c candidate, weight float64) {
	g.weight += weight
	if len(g.heap) == n && compareCandidates(c, g.heap[0]) >= 0 {
		return
	}
	c.Counts = slices.Clone(c.Counts)
	heap.Push(g, c)
	if len(g.heap) > n {
		heap.Pop(g)
	}
}

// share seats n candidates one after the other. Group g's seats fall due at
// (lot+j)/weight for j = 0, 1, ..., with a lot in (0, 1) of its own: a divisor
// method like that of Sainte-Laguë, whose lot is always 1/2. So a group's seats
// never shrink as n grows, and a group too small for a sure seat has its chance.
func share(groups []group, n int, seed uint64) []Function {
	due := make([]float64, len(groups))
	seats := make([]int, len(groups))
	for i := range groups {
		slices.SortFunc(groups[i].heap, compareCandidates)
		due[i] = uniform(seed, "group", strconv.Itoa(i)) / groups[i].weight
	}
	var seated []Function
	for len(seated) < n {
		next := -1
		for i, g := range groups {
			if seats[i] < len(g.heap) && (next < 0 || due[i] < due[next]) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		seated = append(seated, groups[next].heap[seats[next]].Function)
		seats[next]++
		due[next] += 1 / groups[next].weight
	}
	return seated
}
