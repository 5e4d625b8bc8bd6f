package gateway

import "time"

// loadFalls is for how long a peer's load must have been lower before that is told.
const loadFalls = 5 * time.Second

// toldLoad is the load that a peer tells the membership, in percent. It rises at
// once, because who holds as much as it may answers the next with an error. It falls
// to the most that was measured in the last loadFalls: the callers that others send
// elsewhere meanwhile are the room that the peer has, and would come back all at once.
// The zero value is idle.
type toldLoad struct {
	most  uint8     // that was told last
	below uint8     // the most that was measured since
	since time.Time // that it is below what is told; zero while it is not
}

// measure takes in what is measured, and gives what to tell.
func (l *toldLoad) measure(load uint8, now time.Time) uint8 {
	switch {
	case load >= l.most:
		*l = toldLoad{most: load}
	case l.since.IsZero():
		l.below, l.since = load, now
	default:
		if l.below = max(l.below, load); now.Sub(l.since) >= loadFalls {
			*l = toldLoad{most: l.below}
		}
	}
	return l.most
}
