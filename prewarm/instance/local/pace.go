package local

import (
	"sync/atomic"
	"time"
)

const (
	// soonest and latest bound the time between two looks at one instance.
	soonest = 500 * time.Microsecond
	latest  = 20 * time.Millisecond
	// eachOf and crowded spread the looks at many instances that start at the same
	// time: 4,000 a second together, until they are so many that each waits for
	// crowded.
	eachOf  = 250 * time.Microsecond
	crowded = 100 * time.Millisecond
)

// pace says when to look again whether a program is ready. The kernel tells
// nobody that a program has begun to listen, so somebody has to look; whoever
// looks again after a small part of the time that the start has taken so far is
// late by half that part, whether it takes a millisecond or ten seconds. It
// implements backoff.BackOff.
type pace struct {
	part    int64         // the pause is 1/part of the time until now
	awaited *atomic.Int64 // instances that are looked at
	began   time.Time
}

// Reset implements backoff.BackOff; backoff.Retry calls it first.
func (p *pace) Reset() { p.began = time.Now() }

// NextBackOff implements backoff.BackOff.
func (p *pace) NextBackOff() time.Duration { return p.after(time.Since(p.began)) }

// after is the pause once the start has taken a while.
func (p *pace) after(took time.Duration) time.Duration {
	pause := min(max(took/time.Duration(p.part), soonest), latest)
	return max(pause, min(time.Duration(p.awaited.Load())*eachOf, crowded))
}
