package gateway

import (
	"bytes"
	"os"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/prewarm"
)

const (
	// resumeTime is until a paused instance whose memory is in RAM answers, and
	// pagedTime until one does whose memory was paged out (a Node program, zram).
	resumeTime = time.Millisecond
	pagedTime  = 50 * time.Millisecond
	// pagedShare is what is expected to be left of an instance's cost when its
	// memory is paged out, until an instance of the service was: what stays in RAM,
	// and its room where it was paged to.
	pagedShare = 0.25
)

// pausing says what a paused instance costs on this machine. Where nothing can
// be paged out it costs as much memory as a warm one, and is never the cheaper
// way to wait.
func pausing() prewarm.Pausing {
	swaps, err := os.ReadFile("/proc/swaps") // a title, and a line each
	if err != nil || bytes.Count(swaps, []byte("\n")) < 2 {
		return prewarm.Pausing{Possible: true, Share: 1, Resume: resumeTime}
	}
	return prewarm.Pausing{Possible: true, Share: pagedShare, Resume: pagedTime}
}

// restsKept is how many times of a service are remembered that its paused instances
// took to go on, and how many shares of their memory that paging out left.
const restsKept = 8

// thawed notes how long a paused instance took to go on.
func (s *service) thawed(took time.Duration) {
	s.thaws = last(append(s.thaws, max(took, 0)), restsKept)
}

// pagedOut notes which share of a paused instance's memory was left in RAM.
func (s *service) pagedOut(left float64) {
	s.left = last(append(s.left, left), restsKept)
}

// last are the last n of a list.
func last[T any](list []T, n int) []T { return list[max(0, len(list)-n):] }

// pausing is what a paused instance of the service costs and gives: once some were
// paged out and have gone on, the dearest and the slowest of the last times, in place
// of what the machine's kind lets expect.
func (s *service) pausing(expected prewarm.Pausing) prewarm.Pausing {
	if len(s.thaws) > 0 {
		expected.Resume = slices.Max(s.thaws)
	}
	if len(s.left) > 0 {
		expected.Share = slices.Max(s.left)
	}
	return expected
}

// instancePaused notes that an instance was frozen after its retirement. At a
// berth its callers wait in the kernel for it to go on; anywhere else nobody is
// sent to it before it has.
func (r *reconciler) instancePaused(s *service, i *running, now time.Time) {
	if i.State != polder.Draining {
		return
	}
	i.State, i.asked, i.rests = polder.Paused, false, false
	if s.berth.IsValid() {
		r.publishEndpoints(s)
		r.tendBerth(s)
	}
	r.step(s, now)
	if s.countAll().Warm() == 0 {
		r.asleep(s.spec.Name)
	}
}

// freezes tells whether an instance is being paused just now: it goes on, at
// once, when that is done.
func (s *service) freezes() bool {
	for _, i := range s.running {
		if i.State == polder.Draining && i.rests && i.asked && !i.outdated {
			return true
		}
	}
	return false
}

// resume lets a paused instance go on. False means that there is none.
func (r *reconciler) resume(s *service) bool {
	for _, i := range s.running {
		if i.State == polder.Paused && !i.outdated && !i.unpaid && r.instances.Resume(i.ID) == nil {
			i.State, i.Reason, i.resumed = polder.Starting, i.why, time.Now()
			return true
		}
	}
	return false
}

// wentOn puts an instance that was paused back into service.
func (r *reconciler) wentOn(s *service, i *running, now time.Time) {
	if i.State != polder.Starting {
		return // it was asked to end meanwhile
	}
	i.State = polder.Ready
	i.start = activator.Start{Decided: i.resumed, Started: i.resumed, Listening: now, Ready: now}
	s.total.Resumes++
	s.thawed(now.Sub(i.resumed))
	r.wokeAtBerth(s, i)
	s.engaged = now
	r.serve(s, now)
	r.publishEndpoints(s)
	r.step(s, now)
}

// endPaused stops paused instances that nobody wants any more, or that are of
// an older version of their service.
func (r *reconciler) endPaused(s *service) {
	kept := 0
	for _, i := range s.running {
		if i.State != polder.Paused {
			continue
		}
		if !i.outdated && kept < s.decision.Paused {
			kept++
			continue
		}
		i.State, i.Reason, i.asked = polder.Draining, s.decision.Reason(), true
		if s.berth.IsValid() {
			r.publishEndpoints(s)
		}
		r.stopInstance(i.ID, i.Reason)
	}
}
