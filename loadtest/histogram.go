package loadtest

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// longest is the largest time that histograms tell apart: more than the longest
// timeout and any wait before it.
const longest = 24 * time.Hour

// histogram records times in microseconds. The quantiles come from HDR buckets
// (relative error of 10^-digits), the rest is exact. It is sparse: memory grows
// with the number of distinct buckets hit, some thousands at most.
type histogram struct {
	buckets  *hdrhistogram.PackedHistogram
	sum      float64 // µs
	min, max int64   // µs
}

func newHistogram(digits int) *histogram {
	return &histogram{buckets: hdrhistogram.NewPacked(1, longest.Microseconds(), digits)}
}

// add records a time; what is below 0 counts as 0, above longest as longest.
func (h *histogram) add(t time.Duration) {
	us := min(max(t, 0), longest).Microseconds()
	if h.count() == 0 {
		h.min, h.max = us, us
	}
	h.min, h.max = min(h.min, us), max(h.max, us)
	h.sum += float64(us)
	if err := h.buckets.RecordValue(us); err != nil {
		panic("loadtest: a histogram refused a value of its range: " + err.Error())
	}
}

func (h *histogram) count() uint64 { return uint64(h.buckets.TotalCount()) }

// quantile returns the time that the share q of all times does not exceed, in
// µs; 0 without times. Buckets are as wide as the error allows, so the value is
// held within the exact extremes.
func (h *histogram) quantile(q float64) int64 {
	n := float64(h.count())
	if n == 0 {
		return 0
	}
	// The library rounds a rank to the nearest; nearest-rank quantiles round up.
	// What rounding made of a whole rank is that rank.
	rank := math.Ceil(q*n - 1e-9)
	return min(max(h.buckets.ValueAtPercentile(100*rank/n), h.min), h.max)
}

// quantiles sums the histogram up.
func (h *histogram) quantiles() Quantiles {
	q := Quantiles{
		Count: h.count(), Min: h.min, Max: h.max,
		P50: h.quantile(0.5), P90: h.quantile(0.9), P99: h.quantile(0.99), P999: h.quantile(0.999),
	}
	if q.Count > 0 {
		q.Mean = h.sum / float64(q.Count)
	}
	return q
}

// curvePerDecade is how many points a curve has between 1-10^-k and 1-10^-(k+1).
const curvePerDecade = 12

// maxCurve bounds a curve: with the maximum of an int64 of times it has 230 points.
const maxCurve = 20 * curvePerDecade

// curve returns the quantiles from 0 up to the last that the number of times
// supports, closer and closer towards 1, and the maximum.
func (h *histogram) curve() []CurvePoint {
	n := h.count()
	if n == 0 {
		return []CurvePoint{}
	}
	points := []CurvePoint{{0, h.min}}
	for i := 1; ; i++ {
		above := tenth(float64(i) / curvePerDecade)
		if above*float64(n) < 1 {
			break
		}
		points = append(points, CurvePoint{1 - above, h.quantile(1 - above)})
	}
	return append(points, CurvePoint{1, h.max})
}
