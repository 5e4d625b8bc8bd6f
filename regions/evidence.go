package regions

import (
	"slices"
	"time"
)

const (
	// leastPatience and mostPatience bound how long a handshake may take before it
	// counts as missed. The floor is many round trips of one continent; the ceiling is
	// what holds before anything is measured.
	leastPatience = 300 * time.Millisecond
	mostPatience  = 900 * time.Millisecond
	// enoughMissed handshakes in a row speak against a peer. One may be a lost packet.
	enoughMissed = 2
	// maxHandshakes bounds how many are remembered.
	maxHandshakes = 8
)

// Evidence is what a peer's own connections to one other peer say of it, long
// before a failure detector that has to ask around: handshakes that the peer makes
// on a schedule (active), and Envoy's word on connections that it was asked for
// (passive). The zero value knows nothing and suspects nobody. It is not safe for
// concurrent use.
//
// A peer is suspected when two handshakes in a row are overdue or have failed, at
// once when it refuses one (there is nobody at its address), and at once when Envoy
// has given it up. Each is over with the first success of a handshake that began
// after it.
//
// What is overdue is learned: the peer's usual time and four times its variation, as
// TCP waits for an acknowledgement (RFC 6298), between 0.3 and 0.9 s. A handshake
// that is late counts as missed and is waited for all the same, so that peers on a
// busy machine are soon given more time.
type Evidence struct {
	last     uint64      // number of the latest handshake
	since    []handshake // begun after the one that succeeded last, oldest first
	usual    time.Duration
	varies   time.Duration
	measured bool
	given    bool      // Envoy has given the peer up
	givenAt  time.Time // and when
}

type handshake struct {
	number  uint64
	began   time.Time // or since when its time counts, after a pause of the observer
	origin  time.Time // when it really began
	failed  bool
	refused bool
}

// Begin notes that a handshake begins, and gives its number.
func (e *Evidence) Begin(now time.Time) uint64 {
	e.last++
	if len(e.since) == maxHandshakes {
		e.since = slices.Delete(e.since, 0, 1)
	}
	e.since = append(e.since, handshake{number: e.last, began: now, origin: now})
	return e.last
}

// Succeeded notes that a handshake ended well. All that was held against the peer
// from before it began is forgotten.
func (e *Evidence) Succeeded(number uint64, now time.Time) {
	i := slices.IndexFunc(e.since, func(h handshake) bool { return h.number == number })
	if i < 0 {
		return // a later one has succeeded meanwhile, or it is too long ago
	}
	h := e.since[i]
	e.measure(now.Sub(h.began))
	e.since = slices.Delete(e.since, 0, i+1)
	if !h.origin.Before(e.givenAt) {
		e.given = false
	}
}

// Failed notes that a handshake failed; refused tells that the peer's machine
// answered that nobody is there.
func (e *Evidence) Failed(number uint64, refused bool) {
	for i := range e.since {
		if e.since[i].number == number {
			e.since[i].failed, e.since[i].refused = true, refused
		}
	}
}

// GivenUp notes that Envoy sends the peer no more connections, because those that it
// tried to open failed.
func (e *Evidence) GivenUp(now time.Time) { e.given, e.givenAt = true, now }

// Paused notes that the observer itself did not run until now: the time that
// handshakes had meanwhile says nothing of the peer.
func (e *Evidence) Paused(now time.Time) {
	for i := range e.since {
		e.since[i].began = now
	}
}

// Suspects tells whether the evidence speaks against the peer at an instant.
func (e *Evidence) Suspects(now time.Time) bool {
	missed := 0
	for _, h := range e.since {
		if h.refused {
			return true
		}
		if h.failed || now.Sub(h.began) >= e.Patience() {
			missed++
		}
	}
	return e.given || missed >= enoughMissed
}

// Next is when Suspects changes if nothing is heard until then; zero when it does not.
func (e *Evidence) Next(now time.Time) time.Time {
	for _, h := range e.since {
		if due := h.began.Add(e.Patience()); !h.failed && due.After(now) {
			return due // they are in the order in which they began
		}
	}
	return time.Time{}
}

// Patience is how long a handshake may take before it counts as missed.
func (e *Evidence) Patience() time.Duration {
	if !e.measured {
		return mostPatience
	}
	return min(max(e.usual+4*e.varies, leastPatience), mostPatience)
}

// measure is section 2 of RFC 6298.
func (e *Evidence) measure(sample time.Duration) {
	if !e.measured {
		e.usual, e.varies, e.measured = sample, sample/2, true
		return
	}
	e.varies += ((e.usual - sample).Abs() - e.varies) / 4
	e.usual += (sample - e.usual) / 8
}
