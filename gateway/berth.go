package gateway

import (
	"context"
	"net/netip"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// berths are the listening sockets of services whose programs inherit one;
// *local.Berths is it.
type berths interface {
	Open(name polder.ServiceName) (netip.AddrPort, error)
	Close(name polder.ServiceName)
	Watch(name polder.ServiceName) error
	Waiting(name polder.ServiceName) int
	Take(name polder.ServiceName) error
}

// openBerth gives a service that is served here its berth, if its program takes
// one, and takes it from all others. What it was judged by may change with it.
func (r *reconciler) openBerth(s *service) {
	if r.berths == nil {
		return
	}
	wanted := s.approved.Verdict() == law.Serve && s.spec.Run != nil && s.spec.Run.Listen == polder.ListenInherit
	switch {
	case wanted && !s.berth.IsValid():
		berth, err := r.berths.Open(s.spec.Name)
		if err != nil {
			r.log.Warn("the service has no socket that outlives its instances", "service", s.spec.Name, "reason", err)
			return
		}
		s.berth = berth
		s.approved = r.judge(s)
		r.tendBerth(s)
	case !wanted && s.berth.IsValid():
		r.closeBerth(s)
		s.approved = r.judge(s)
	}
}

func (r *reconciler) closeBerth(s *service) {
	if s.berth.IsValid() {
		r.berths.Close(s.spec.Name)
		s.berth = netip.AddrPort{}
	}
}

// atBerth is the instance that stands at the service's berth.
func (s *service) atBerth() *running {
	if s.berth.IsValid() {
		for _, i := range s.running {
			if i.Address == s.berth {
				return i
			}
		}
	}
	return nil
}

// berthOpen tells whether callers may be sent to the berth although no instance
// is ready: the kernel holds them until one is. Not while the instance there
// ends, which could still accept some and not answer them, nor after a start
// that failed: those who are refused need somebody who says so.
func (s *service) berthOpen() bool {
	if !s.berth.IsValid() || s.failure != "" {
		return false
	}
	i := s.atBerth()
	return i == nil || i.State != polder.Draining
}

// tendBerth sees to it that whoever comes to an empty berth is noticed.
func (r *reconciler) tendBerth(s *service) {
	if i := s.atBerth(); !s.berth.IsValid() || i != nil && i.State != polder.Paused {
		return
	}
	tend := r.berths.Watch
	if s.failure != "" {
		tend = r.berths.Take // the activator knows how to refuse, and when to try again
	}
	if err := tend(s.spec.Name); err != nil {
		r.log.Error("nobody looks after callers of the service", "service", s.spec.Name, "reason", err)
	}
}

// Rung tells that somebody waits at a service's berth.
func (r *reconciler) Rung(ctx context.Context, name polder.ServiceName) {
	r.post(ctx, func(now time.Time) {
		s := r.services[name]
		if s == nil || !r.begun {
			return
		}
		if i := s.atBerth(); i != nil && (i.State == polder.Ready || i.State == polder.Draining) {
			return // it answers, or whoever is left in the queue rings when it is gone
		}
		if s.knocked.IsZero() {
			s.knocked = now
		}
		waiting := r.berths.Waiting(name)
		s.arrivals += max(waiting, 1)
		s.total.Cold += uint64(waiting)
		r.step(s, now)
		if s.countAll().Warm() > 0 || s.leaving() {
			return // its end, or its start, comes back to the berth
		}
		if err := r.berths.Take(name); err != nil {
			r.log.Error("nobody looks after callers of the service", "service", name, "reason", err)
		}
	})
}

// atBerthNow counts who waits at a berth where no instance is ready.
func (r *reconciler) atBerthNow(s *service) int {
	if i := s.atBerth(); !s.berth.IsValid() || i != nil && i.State == polder.Ready {
		return 0
	}
	return r.berths.Waiting(s.spec.Name)
}
