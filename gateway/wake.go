package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/prewarm/instance"
	"github.com/polder/polder/regions/law"
)

// firstRetry is the longest pause after failed starts for which callers are
// held on.
const firstRetry = 3 * time.Second

// waiter is a request that the activator holds.
type waiter struct {
	since time.Time
	reply chan wakeReply // capacity 1; answered at most once
}

type wakeReply struct {
	target activator.Target
	err    error
}

func refuse(reason activator.Reason, after time.Duration, format string, values ...any) wakeReply {
	return wakeReply{err: &activator.Failure{Reason: reason, RetryAfter: after, Err: fmt.Errorf(format, values...)}}
}

// Wake is the activator's: it blocks until an instance of the service answers,
// or says why there is none.
func (r *reconciler) Wake(ctx context.Context, name polder.ServiceName, cause activator.Cause) (activator.Target, error) {
	w := &waiter{since: time.Now(), reply: make(chan wakeReply, 1)}
	if !r.post(ctx, func(now time.Time) { r.admit(name, cause, w, now) }) {
		return activator.Target{}, ctx.Err()
	}
	select {
	case reply := <-w.reply:
		return reply.target, reply.err
	case <-ctx.Done():
		// The reconciler may itself be stopping; then nobody needs to know.
		goodbye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		r.post(goodbye, func(time.Time) { r.dismiss(name, w) })
		return activator.Target{}, ctx.Err()
	}
}

// admit answers a request from a ready instance, or lets it wait for one.
func (r *reconciler) admit(name polder.ServiceName, cause activator.Cause, w *waiter, now time.Time) {
	s := r.services[name]
	if s == nil || s.approved.Verdict() != law.Serve {
		w.reply <- refuse(activator.UnknownService, 0, "service %q is not served in this region", name)
		return
	}
	if cause.Kind == activator.CauseGone {
		r.distrust(s, cause.Gone)
	} else {
		s.arrivals++
		r.spending.called(name, 1, now)
	}
	i, ok := s.pick()
	if !ok && r.revive(s) {
		i, ok = s.pick()
	}
	if ok {
		s.engaged = now
		w.reply <- wakeReply{target: s.target(i, true)}
		r.step(s, now)
		return
	}
	if s.spec.Run == nil {
		w.reply <- refuse(activator.InstanceGone, time.Second, "none of the service's endpoints in this region accepts connections")
		return
	}
	s.total.Cold++
	s.waiters = append(s.waiters, w)
	if now.Add(firstRetry).Before(s.retryAt) && s.count().Starting == 0 {
		s.fail(refuse(activator.CrashLoop, s.retryAt.Sub(now), "%s", s.failure))
		return
	}
	r.step(s, now)
}

// distrust takes an instance out that accepted no connection. Its manager tells
// soon that it ended; if it has not, it is asked to.
func (r *reconciler) distrust(s *service, address netip.AddrPort) {
	for _, i := range s.running {
		if i.State == polder.Ready && i.Address == address {
			r.retire(s, i, "accepts no connections")
			i.asked = true // whatever it does until then, it is not brought back
		}
	}
}

func (r *reconciler) dismiss(name polder.ServiceName, w *waiter) {
	s := r.services[name]
	if s == nil {
		return
	}
	for i, other := range s.waiters {
		if other == w {
			s.waiters = append(s.waiters[:i], s.waiters[i+1:]...)
			return
		}
	}
}

// target says where a request goes.
func (s *service) target(i *running, warm bool) activator.Target {
	return activator.Target{
		Address: i.Address, Protocol: s.spec.Protocol, Instance: i.ID, Warm: warm, Start: i.start, Why: i.Reason,
	}
}

// serve gives the waiting requests the instance that became ready.
func (s *service) serve(i *running) {
	for _, w := range s.waiters {
		w.reply <- wakeReply{target: s.target(i, false)}
	}
	s.waiters = nil
}

// fail tells the waiting requests that no instance comes.
func (s *service) fail(reply wakeReply) {
	for _, w := range s.waiters {
		w.reply <- reply
	}
	s.waiters = nil
}

func (r *reconciler) releaseWaiters() {
	for _, s := range r.services {
		s.fail(refuse(activator.Stopping, time.Second, "the region is stopping"))
	}
}

// start asks for one more instance. False means that none can be had now.
func (r *reconciler) start(s *service, reason string, now time.Time) bool {
	if now.Before(s.retryAt) {
		return false
	}
	reservation, ok := r.reserve(s, now)
	if !ok {
		return false
	}
	id, err := r.instances.Start(r.ctx, s.spec, reason)
	if err != nil {
		r.spending.book.Release(now, reservation)
	}
	var full *instance.Full
	if errors.As(err, &full) && s.leaving() {
		return false // one that ends makes room, and its end asks again
	}
	if err != nil {
		s.failure = err.Error()
		s.retryAt = now.Add(time.Second)
		patient := false
		var backoff *instance.Backoff
		if errors.As(err, &backoff) {
			s.retryAt = backoff.Until
			// A few bad starts may be chance: callers wait for the next one.
			patient = s.retryAt.Sub(now) < firstRetry
		}
		if s.count().Starting == 0 && !patient {
			s.fail(refuse(activator.StartFailed, s.retryAt.Sub(now), "%s", s.failure))
		}
		if s.berth.IsValid() {
			r.publishEndpoints(s)
			r.tendBerth(s)
		}
		r.log.Warn("no instance was started", "service", s.spec.Name, "reason", err, "retry-at", s.retryAt)
		return false
	}
	r.spending.book.Named(reservation, id)
	s.total.Starts++
	s.running[id] = &running{Instance: polder.Instance{
		ID: id, Service: s.spec.Name, Region: r.gateway.Region, State: polder.Starting, Started: now, Reason: reason}}
	return true
}
