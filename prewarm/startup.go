package prewarm

import (
	"math"
	"slices"
	"time"
)

const (
	// startUpSamples is how many measured start-up times are remembered.
	startUpSamples = 32
	// defaultStartUp is assumed until the first measurement: a slow program on
	// a busy machine (FIELD: an interpreter in an isolated container, 0.3 s).
	defaultStartUp = 500 * time.Millisecond
	// leadMargin is added to the p95 for publishing the endpoint: snapshot,
	// ACK, workers.
	leadMargin = 100 * time.Millisecond
)

// startUps remembers the last start-up times (provider asked → endpoint ready)
// in microseconds.
type startUps struct {
	micros [startUpSamples]uint32
	n      uint32 // how many were ever added
}

func (s *startUps) add(d time.Duration) {
	if d < 0 {
		return
	}
	us := uint32(min(d.Microseconds(), math.MaxUint32))
	s.micros[s.n%startUpSamples] = us
	if s.n++; s.n == 2*startUpSamples {
		s.n = startUpSamples // keeps the index and the fullness, never overflows
	}
}

// p95 returns the 95th percentile (nearest rank) of the remembered start-up
// times, and false with defaultStartUp when there is none.
func (s *startUps) p95() (time.Duration, bool) {
	n := int(min(s.n, startUpSamples))
	if n == 0 {
		return defaultStartUp, false
	}
	sorted := s.micros
	slices.Sort(sorted[:n])
	rank := (95*n + 99) / 100 // ceil(0.95 n)
	return time.Duration(sorted[rank-1]) * time.Microsecond, true
}
