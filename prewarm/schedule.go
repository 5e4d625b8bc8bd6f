package prewarm

import (
	"time"

	"github.com/polder/polder"
)

// Scheduled is what the schedules of a service ask for at an instant.
type Scheduled struct {
	Min   int       // instances; 0 when no schedule holds
	Name  string    // of the schedule that asks for most
	Until time.Time // it holds; zero when none does
	Next  time.Time // instant at which the answer may change next; zero for never
}

// scheduled asks all schedules. One holds from its lead time on, so that its
// instances are ready when it begins.
func scheduled(schedules []polder.Schedule, now time.Time, lead time.Duration) Scheduled {
	var all Scheduled
	for _, s := range schedules {
		until, next := s.At(now)
		if until.IsZero() {
			until, _ = s.At(now.Add(lead))
		}
		if !until.IsZero() {
			all.change(until)
			if s.Min > all.Min {
				all.Min, all.Name, all.Until = s.Min, s.String(), until
			}
		}
		if !next.IsZero() && next.Add(-lead).After(now) {
			all.change(next.Add(-lead))
		}
	}
	return all
}

func (s *Scheduled) change(at time.Time) {
	if s.Next.IsZero() || at.Before(s.Next) {
		s.Next = at
	}
}
