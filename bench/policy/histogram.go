package policy

import (
	"fmt"
	"math"

	"github.com/polder/polder/loadtest/trace"
)

// hybrid is a setting of the hybrid histogram policy (Shahrad et al., Serverless
// in the Wild, USENIX ATC 2020, section 4.2): a histogram of idle times in
// one-minute bins gives a window that begins at a low quantile (the instance
// is stopped until then) and ends at a high one. Its ARIMA path, for functions
// whose idle times mostly exceed the range, is left out: the fallback serves
// them, as it serves those whose histogram is not representative.
type hybrid struct {
	span       int     // bins, that is minutes
	head, tail float64 // quantiles of the window
	cv         float64 // the coefficient of variation of the bins' counts must reach this
	fallback   int     // keep-alive in minutes; the paper's is the range itself
}

// margin widens the window on both sides, as in the paper.
const margin = 0.1

// outside is the share of idle times beyond the range above which the
// histogram is not used.
const outside = 0.5

func (h hybrid) String() string {
	return fmt.Sprintf("range %d, %g–%g %%, CV %g, fallback %d min", h.span, 100*h.head, 100*h.tail, h.cv, h.fallback)
}

// standardHybrid is the paper's.
var standardHybrid = hybrid{240, .05, .99, 2, 240}

// singleHybrids is the paper's standard, and windows that end earlier: each has a
// state for every function, so that they are fewer than hybrids.
func singleHybrids() []hybrid {
	all := []hybrid{standardHybrid}
	for _, span := range []int{10, 20, 60, 240} {
		all = append(all, hybrid{span, .05, .99, 2, 10})
	}
	return all
}

// hybrids is the paper's standard and a grid about it, so that the best
// frontier that its tunables reach is seen and not one point.
func hybrids() []hybrid {
	all := []hybrid{standardHybrid}
	for _, span := range []int{10, 20, 30, 60, 120, 240} {
		for _, tail := range []float64{.99, .97, .95, .9} {
			for _, head := range []float64{0, .05} {
				all = append(all, hybrid{span, head, tail, 2, 10})
			}
		}
	}
	return all
}

func histogram(settings []hybrid) family {
	f := family{name: "hybrid histogram"}
	for _, s := range settings {
		f.settings = append(f.settings, s.String())
	}
	f.start = func(trace.Function, *replay) walk {
		w := &histogramWalk{settings: settings, last: -1, windows: make([]window, len(settings))}
		for _, s := range settings {
			if w.of(s.span) == nil {
				w.bins = append(w.bins, bins{count: make([]uint32, s.span+1)})
			}
		}
		return w
	}
	return f
}

// window is warm from slot last+from to last+to, both included.
type window struct{ from, to int }

type histogramWalk struct {
	settings []hybrid
	bins     []bins // one per range
	windows  []window
	last     int
}

// bins counts idle times; count[i] those of i minutes.
type bins struct {
	count      []uint32
	in, beyond uint32
	squares    float64 // sum of count²
}

func (b *bins) add(idle int) {
	if idle >= len(b.count) {
		b.beyond++
		return
	}
	b.squares += float64(2*b.count[idle] + 1)
	b.count[idle]++
	b.in++
}

// variation is the coefficient of variation of the bins' counts: 0 for a flat
// histogram, √(bins-1) if all idle times are equal.
func (b *bins) variation() float64 {
	n := float64(len(b.count) - 1)
	mean := float64(b.in) / n
	if mean == 0 {
		return 0
	}
	return math.Sqrt(max(b.squares/n-mean*mean, 0)) / mean
}

// quantile is the shortest idle time that reaches the share.
func (b *bins) quantile(q float64) int {
	need := uint32(math.Ceil(q * float64(b.in)))
	var sum uint32
	for i, c := range b.count {
		if sum += c; sum >= need && sum > 0 {
			return i
		}
	}
	return len(b.count) - 1
}

func (h *histogramWalk) of(span int) *bins {
	for i := range h.bins {
		if len(h.bins[i].count) == span+1 {
			return &h.bins[i]
		}
	}
	return nil
}

func (h *histogramWalk) before(minute int, warm []bool) {
	since := minute - h.last
	for i, w := range h.windows {
		warm[i] = h.last >= 0 && since >= w.from && since <= w.to
	}
}

func (h *histogramWalk) after(minute int, calls uint32) {
	if calls == 0 {
		return
	}
	if h.last >= 0 {
		for i := range h.bins {
			h.bins[i].add(minute - h.last)
		}
	}
	h.last = minute
	for i, s := range h.settings {
		h.windows[i] = s.window(h.of(s.span))
	}
}

// represents tells whether the histogram says enough to go by it.
func (h hybrid) represents(b *bins) bool {
	return b.in > 0 && float64(b.beyond) <= outside*float64(b.in+b.beyond) && b.variation() >= h.cv
}

func (h hybrid) window(b *bins) window {
	if !h.represents(b) {
		return window{1, h.fallback}
	}
	w := window{1, int(math.Ceil(float64(b.quantile(h.tail)) * (1 + margin)))}
	if h.head > 0 {
		w.from = max(1, int(float64(b.quantile(h.head))*(1-margin)))
	}
	return w
}
