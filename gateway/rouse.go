package gateway

import (
	"context"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/regions/law"
)

// Rouse is the activator's: it has the service wake as a request would, waits
// for nothing, and tells what the caller can expect.
func (r *reconciler) Rouse(ctx context.Context, name polder.ServiceName, _ activator.Cause) (activator.Outlook, error) {
	return r.glance(ctx, name, (*reconciler).rouse)
}

// Look is the activator's: it tells what the service's callers can expect.
func (r *reconciler) Look(ctx context.Context, name polder.ServiceName) (activator.Outlook, error) {
	return r.glance(ctx, name, func(_ *reconciler, s *service, now time.Time) error { return nil })
}

// glance does something with a service that is served here, and tells its
// outlook then.
func (r *reconciler) glance(ctx context.Context, name polder.ServiceName, do func(*reconciler, *service, time.Time) error) (activator.Outlook, error) {
	type answer struct {
		outlook activator.Outlook
		err     error
	}
	answers := make(chan answer, 1)
	r.post(ctx, func(now time.Time) {
		s := r.services[name]
		if s == nil || s.approved.Verdict() != law.Serve || s.spec.Run == nil {
			answers <- answer{err: refuse(activator.UnknownService, 0, "service %q is not started in this region", name).err}
			return
		}
		err := do(r, s, now)
		answers <- answer{s.outlook(now), err}
	})
	select {
	case a := <-answers:
		return a.outlook, a.err
	case <-ctx.Done():
		return activator.Outlook{}, ctx.Err()
	}
}

// rouse wakes the service for a caller who will come back.
func (r *reconciler) rouse(s *service, now time.Time) error {
	s.arrivals++
	if s.count().Ready == 0 && !r.revive(s) {
		s.promised = true
	}
	if now.Before(s.retryAt) && s.count().Starting == 0 {
		s.promised = false
		return refuse(s.refusal(now), s.retryAt.Sub(now), "%s", s.failure).err
	}
	r.step(s, now)
	if s.failure != "" && !s.warm() {
		s.promised = false
		return refuse(activator.StartFailed, s.retryAt.Sub(now), "%s", s.failure).err
	}
	return nil
}

// refusal is why nobody is held while no start is tried.
func (s *service) refusal(now time.Time) activator.Reason {
	if now.Add(firstRetry).Before(s.retryAt) {
		return activator.CrashLoop
	}
	return activator.StartFailed
}

// warm tells whether an instance answers, or will soon.
func (s *service) warm() bool { return s.countAll().Warm() > 0 }

// promise keeps an instance for those who were told to come back: from the start
// of their waiting until a while after the instance is ready.
func (s *service) promise(now time.Time) {
	if !s.promised {
		return
	}
	s.expected = now
	if s.countAll().Ready > 0 || s.failure != "" {
		s.promised = false
	}
}

// outlook is what callers can expect.
func (s *service) outlook(now time.Time) activator.Outlook {
	n := s.countAll()
	switch {
	case n.Ready > 0:
		return activator.Outlook{State: activator.StateReady}
	case n.Starting > 0:
		return activator.Outlook{State: activator.StateStarting, Rest: s.restOfStart(now)}
	case s.failure != "" && now.Before(s.retryAt):
		return activator.Outlook{State: activator.StateFailed, Rest: s.retryAt.Sub(now)}
	case len(s.waiters) > 0 || s.promised:
		return activator.Outlook{State: activator.StateQueued, Rest: max(s.retryAt.Sub(now), 0)}
	}
	return activator.Outlook{State: activator.StateAsleep}
}

// restOfStart is what remains of the start that began first, if it takes as long
// as 95 of 100 did.
func (s *service) restOfStart(now time.Time) time.Duration {
	took := s.tempo.shrink(s.decision.Inputs.StartUp)
	rest := took
	for _, i := range s.running {
		if i.State == polder.Starting {
			rest = min(rest, took-now.Sub(i.Started))
		}
	}
	return max(rest, 0)
}
