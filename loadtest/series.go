package loadtest

import "time"

// Point is one stretch of a run: the arrivals whose intended time lies in it.
type Point struct {
	At        int64  `json:"at_us"`     // its beginning, since the start of the run
	Scheduled uint64 `json:"scheduled"` // arrivals
	Answered  uint64 `json:"answered"`
	Errors    uint64 `json:"errors"` // as in Summary
	Dropped   uint64 `json:"dropped"`
	Cold      uint64 `json:"cold_starts"`
	P50       int64  `json:"p50_us"` // latency of the answers; 0 without any
	P99       int64  `json:"p99_us"`
	Max       int64  `json:"max_us"`
}

// maxPoints bounds a series: more than a screen can show apart.
const maxPoints = 240

// steps are the lengths that the points of a series may have.
var steps = [...]time.Duration{
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 6 * time.Hour,
}

// step is the shortest step with which a run of that length fits.
func step(length time.Duration) time.Duration {
	for _, s := range steps {
		if length <= s*maxPoints {
			return s
		}
	}
	return steps[len(steps)-1]
}

// series records a run over time.
type series struct {
	step    time.Duration
	points  []Point
	latency []*histogram // of points[i]; nil before the first answer
}

func newSeries(length time.Duration) *series { return &series{step: step(length)} }

// add counts a result at its intended time; beyond the last point it counts
// there.
func (s *series) add(r Result) {
	i := min(int(r.Intended/s.step), maxPoints-1)
	for len(s.points) <= i {
		s.points = append(s.points, Point{At: (time.Duration(len(s.points)) * s.step).Microseconds()})
		s.latency = append(s.latency, nil)
	}
	p := &s.points[i]
	p.Scheduled++
	if r.Unsuccessful() {
		p.Errors++
	}
	switch r.Outcome {
	case Dropped:
		p.Dropped++
	case Answered:
		p.Answered++
		if r.Cold {
			p.Cold++
		}
		if s.latency[i] == nil {
			s.latency[i] = newHistogram(2)
		}
		s.latency[i].add(r.Latency())
	}
}

// finish derives the quantiles of each point.
func (s *series) finish() []Point {
	points := append([]Point{}, s.points...)
	for i, h := range s.latency {
		if h != nil {
			points[i].P50, points[i].P99, points[i].Max = h.quantile(0.5), h.quantile(0.99), h.max
		}
	}
	return points
}
