package prewarm

import "time"

// windowSeconds is the length of the concurrency ring and of the stable window.
const windowSeconds = 60

// window remembers the requests in progress of the last minute as the area
// under the curve, one bucket a second, so that the mean over any span up to a
// minute is exact for a level that changes between observations.
//
// Instants are Unix nanoseconds, at least 1 (observe sees to that).
//
// Invariant: bucket s%windowSeconds holds the area of Unix second s for the
// windowSeconds seconds up to and including the second of last; buckets of
// seconds before first are zero.
type window struct {
	area  [windowSeconds]float32 // request-seconds
	first int64                  // Unix nanoseconds of the first observation; 0 before it
	last  int64                  // Unix nanoseconds up to which the area is known
	level float32                // requests in progress from last on
}

// advance moves the window to now (Unix nanoseconds). The level that held
// since the last call counts for the time between, or mean if that is larger:
// short requests come and go between two looks at the gauge.
func (w *window) advance(now int64, mean, level float32) {
	if w.first == 0 {
		w.first, w.last, w.level = now, now, level
		return
	}
	if now > w.last {
		w.fill(w.last, now, max(w.level, mean))
		w.last = now
	}
	w.level = level
}

// fill adds a constant level between two instants, from < to.
func (w *window) fill(from, to int64, level float32) {
	const second = int64(time.Second)
	oldest := to - windowSeconds*second
	if level == 0 && from <= oldest {
		w.area = [windowSeconds]float32{} // as the loop below would leave it
		return
	}
	if from < oldest {
		w.area = [windowSeconds]float32{}
		from = oldest - oldest%second + second // the second of to takes the oldest bucket
	}
	i := from / second % windowSeconds
	for rest := from % second; from < to; rest = 0 {
		end := min(from-rest+second, to)
		if rest == 0 {
			w.area[i] = 0 // the ring came round
		}
		w.area[i] += level * float32(end-from) / float32(second)
		from = end
		if i++; i == windowSeconds {
			i = 0
		}
	}
	if to%second == 0 {
		w.area[to/second%windowSeconds] = 0
	}
}

// mean returns the mean requests in progress over the last span seconds, or
// over the time since the first observation if that is shorter. Before any
// time has passed it is the level itself. span is in [1, windowSeconds].
func (w *window) mean(span int) float64 {
	const second = int64(time.Second)
	head := w.last / second
	var sum float64
	first := max(head-int64(span)+1, 0)
	i := first % windowSeconds
	for range head - first + 1 {
		sum += float64(w.area[i])
		if i++; i == windowSeconds {
			i = 0
		}
	}
	covered := float64(span-1) + float64(w.last%second)/float64(second)
	if age := float64(w.last-w.first) / float64(second); age < covered {
		covered = age
	}
	if covered <= 0 {
		return float64(w.level)
	}
	return sum / covered
}
