package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/prewarm/instance"
	"github.com/polder/polder/regions/law"
)

const (
	// firstRetry is the longest pause after failed starts for which callers are
	// held on.
	firstRetry = 3 * time.Second
	// goodbyeLimit bounds how long a caller that leaves waits until its place is
	// known to be free.
	goodbyeLimit = 10 * time.Second
)

// complainAgain is after how long a reason that is still the same is logged again.
const complainAgain = time.Minute

// complaint keeps the log from repeating for each call why no instance is started.
type complaint struct {
	reason  string
	since   time.Time // when that was logged last
	repeats int       // how often it came again after that
}

// tell takes in a reason. True means to log it, and how often the one logged before
// came again meanwhile.
func (c *complaint) tell(reason string, now time.Time) (repeats int, tell bool) {
	if c.reason == reason && now.Sub(c.since) < complainAgain {
		c.repeats++
		return 0, false
	}
	repeats = c.repeats
	*c = complaint{reason: reason, since: now}
	return repeats, true
}

// waiter is a request that the activator holds.
type waiter struct {
	since time.Time
	busy  bool           // an instance was ready when it came, and had no room
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
		goodbye, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeLimit)
		defer cancel()
		r.post(goodbye, func(now time.Time) { r.dismiss(name, w, now) })
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
	if s.spec.Run == nil {
		w.reply <- refuse(activator.InstanceGone, time.Second, "none of the service's endpoints in this region accepts connections")
		return
	}
	if s.countAll().Ready == 0 {
		r.revive(s)
	}
	if s.countAll().Ready > 0 {
		s.engaged = now
		if len(s.waiters) == 0 && s.room(now) > 0 {
			w.reply <- wakeReply{target: r.target(s, s.pick(), true)}
			r.step(s, now)
			return
		}
		w.busy = true
		s.total.Saturated++
		s.waiters = append(s.waiters, w)
		r.serve(s, now)
		r.step(s, now)
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

// dismiss forgets a caller that left, and takes back what it was given meanwhile.
func (r *reconciler) dismiss(name polder.ServiceName, w *waiter, now time.Time) {
	select {
	case reply := <-w.reply:
		if reply.err == nil {
			r.released(name, reply.target.Instance, now)
		}
		return
	default:
	}
	s := r.services[name]
	if s == nil {
		return
	}
	for i, other := range s.waiters {
		if other == w {
			s.waiters = slices.Delete(s.waiters, i, i+1)
			return
		}
	}
}

// target says where a request goes, and that it goes there.
func (r *reconciler) target(s *service, i *running, warm bool) activator.Target {
	i.taken++
	ctx, name, id := r.ctx, s.spec.Name, i.ID
	return activator.Target{
		Address: i.Address, Protocol: s.spec.Protocol, Instance: i.ID, Warm: warm, Start: i.start, Why: i.Reason,
		Release: func() { r.post(ctx, func(now time.Time) { r.released(name, id, now) }) },
	}
}

// serve gives waiting requests the instances that have room, in the order in
// which they came.
func (r *reconciler) serve(s *service, now time.Time) {
	n := min(s.room(now), len(s.waiters))
	for _, w := range s.waiters[:max(n, 0)] {
		target := r.target(s, s.pick(), false)
		target.Busy = w.busy
		w.reply <- wakeReply{target: target}
	}
	s.waiters = slices.Delete(s.waiters, 0, max(n, 0))
	r.saturate(s, now)
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
	if errors.Is(err, instance.ErrNotServing) {
		return false // the region ends: who waits is told so, and Envoy brings them to the next Polder if there is one
	}
	var full *instance.Full
	if errors.As(err, &full) && s.leaving() {
		return false // one that ends makes room, and its end asks again
	}
	if err != nil {
		waiting := len(s.waiters)
		s.failure = err.Error()
		s.retryAt = now.Add(time.Second)
		patient := false
		var backoff *instance.Backoff
		if errors.As(err, &backoff) {
			s.retryAt = backoff.Until
			// A few bad starts may be chance: callers wait for the next one.
			patient = s.retryAt.Sub(now) < firstRetry
		}
		if s.countAll().Warm() == 0 && !patient {
			s.fail(refuse(activator.StartFailed, s.retryAt.Sub(now), "%s", s.failure))
		}
		if s.berth.IsValid() {
			r.publishEndpoints(s)
			r.tendBerth(s)
		}
		if repeats, tell := s.unstarted.tell(s.failure, now); tell {
			r.log.Warn("no instance was started", "service", s.spec.Name, "reason", err, "retry-at", s.retryAt, "waiting", waiting, "repeats", repeats)
		}
		return false
	}
	r.spending.book.Named(reservation, id)
	s.unstarted = complaint{}
	s.total.Starts++
	s.running[id] = &running{Instance: polder.Instance{
		ID: id, Service: s.spec.Name, Region: r.gateway.Region, State: polder.Starting, Started: now, Reason: reason}}
	return true
}
