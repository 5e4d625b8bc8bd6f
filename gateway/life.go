package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/prewarm/instance"
	"github.com/polder/polder/xds"
)

const (
	// ackDeadline bounds the wait for Envoys to acknowledge a removal; one that
	// does not is not using what it was told either.
	ackDeadline = 3 * time.Second
	// settle is how long after an acknowledgement Envoy's workers may still use
	// what was removed. 60 ms lost no request in measurements.
	settle = 100 * time.Millisecond
	// drainLimit bounds how long an unpublished instance may finish its requests
	// before it is asked to end, which it may answer by finishing them too.
	drainLimit = 30 * time.Second
	// drainTick is how often the load reports are asked whether it finished.
	drainTick = 200 * time.Millisecond
)

// instanceChanged takes one step in the life of an instance. The endpoint is
// published in the same step in which its state changes.
func (r *reconciler) instanceChanged(e instance.Event, now time.Time) {
	i := e.Instance
	if i.State == polder.Stopped {
		r.spending.book.Release(now, i.ID)
	}
	s := r.services[i.Service]
	if s == nil {
		if i.State == polder.Ready || i.State == polder.Starting {
			r.stopInstance(i.ID, "service is not in the configuration")
		}
		return
	}
	known := s.running[i.ID]
	if i.State == polder.Stopped {
		if known != nil {
			r.instanceGone(s, known, i, now)
		}
		return
	}
	if i.State == polder.Paused {
		switch left, paged := e.Paging.Left(); {
		case paged: // it was paused before, and may have been asked to end since
			s.pagedOut(left)
		case known != nil:
			r.instancePaused(s, known, now)
		}
		return
	}
	if known == nil { // adopted
		known = &running{}
		s.running[i.ID] = known
		r.meter(i, now)
		r.expectClients(s, now)
	}
	if known.State == polder.Draining || known.State == polder.Ready && i.State == polder.Starting {
		return // told before, out of turn
	}
	became := known.State != polder.Ready && i.State == polder.Ready
	if became && !known.resumed.IsZero() {
		r.wentOn(s, known, now)
		return
	}
	known.Instance = i
	if !became {
		return
	}
	if !e.Adopted {
		s.startUps = append(s.startUps, i.Ready.Sub(i.Started))
	}
	known.start = activator.Start{Decided: e.Phases.Asked, Started: e.Phases.Spawned, Listening: e.Phases.Listening, Ready: e.Phases.Ready}
	s.failure, s.retryAt = "", time.Time{}
	r.wokeAtBerth(s, known)
	if len(s.waiters)+s.atBerthNow > 0 {
		s.engaged = now
	}
	r.serve(s, now)
	r.publishEndpoints(s)
	r.step(s, now)
}

// instanceGone handles an end, asked for or not.
func (r *reconciler) instanceGone(s *service, was *running, i polder.Instance, now time.Time) {
	delete(s.running, i.ID)
	switch was.State {
	case polder.Draining: // as asked
	case polder.Paused:
		s.total.Crashes++
	case polder.Ready:
		s.total.Crashes++
		r.publishEndpoints(s)
	default:
		s.failure = i.Reason
		s.knocked = time.Time{} // the activator takes them in
	}
	if s.berth.IsValid() {
		r.publishEndpoints(s) // the berth opens with an end, and closes with a failure
		r.tendBerth(s)
	}
	r.step(s, now)
	if len(s.running) == 0 {
		r.asleep(s.spec.Name)
	}
}

// retire puts one instance to sleep in the order that loses nothing: remove its
// endpoint, wait for the acknowledgement, let the workers settle, let it finish
// what it has, then ask it to end. Until that last step revive can bring it back.
func (r *reconciler) retire(s *service, i *running, reason string) {
	i.why = i.Reason
	i.State, i.Reason = polder.Draining, reason
	i.retired++
	r.publishEndpoints(s)
	key := xds.Key{Type: xds.TypeEndpoint, Name: xds.ServiceCluster(s.spec.Name)}
	id, name, turn := i.ID, s.spec.Name, i.retired
	r.retiring.Go(func() {
		r.awaitAck(key)
		if !pause(r.ctx, settle) {
			return // the manager ends, or keeps, all instances
		}
		r.reported()
		r.awaitIdle(name)
		r.post(r.ctx, func(time.Time) { r.endRetired(name, id, turn, reason) })
	})
}

// endRetired asks a retired instance to end, unless it was brought back.
func (r *reconciler) endRetired(name polder.ServiceName, id polder.InstanceID, turn int, reason string) {
	if s := r.services[name]; s != nil {
		if i := s.running[id]; i != nil {
			if i.State != polder.Draining || i.retired != turn {
				return
			}
			i.asked = true
			if i.rests && !i.unpaid && r.instances.Pause(id, reason) == nil {
				return
			}
			i.rests = false
		}
	}
	r.stopInstance(id, reason)
}

// revive brings back an instance that is retired and was not asked to end yet:
// whoever calls while a service falls asleep need not wait for another start,
// for which there may be no room. False means that there is none.
func (r *reconciler) revive(s *service) bool {
	for _, i := range s.running {
		if i.State == polder.Draining && !i.asked && !i.unpaid && !i.outdated && i.Address.IsValid() {
			i.State, i.Reason, i.rests = polder.Ready, i.why, false
			r.serve(s, time.Now())
			r.publishEndpoints(s)
			return true
		}
	}
	return r.resume(s)
}

func (r *reconciler) awaitAck(key xds.Key) {
	ctx, cancel := context.WithTimeout(r.ctx, r.acknowledged)
	defer cancel()
	if err := r.publisher.Wait(ctx, key); err != nil && r.ctx.Err() == nil {
		r.log.Warn("going on without an acknowledgement", "reason", err)
		r.publisher.GiveUp(key)
	}
}

// Published is the activator's: it returns when the region's Envoys know the
// ready instances of the service. Their workers learn it a moment later.
func (r *reconciler) Published(ctx context.Context, name polder.ServiceName) error {
	if r.Saturated(name) {
		return errors.New("all instances are busy, and Envoy sends them nothing")
	}
	// An instance answers callers in the step in which it is published, and before.
	r.do(ctx, func(time.Time) {})
	return r.publisher.Wait(ctx, xds.Key{Type: xds.TypeEndpoint, Name: xds.ServiceCluster(name)})
}

// awaitIdle returns when no request of the service is open, or after r.finished.
// Load reports leave out endpoints that were removed, so Envoy is asked.
func (r *reconciler) awaitIdle(name polder.ServiceName) {
	ctx, cancel := context.WithTimeout(r.ctx, r.finished)
	defer cancel()
	for {
		open := 0
		if r.open != nil {
			open, _ = r.open(ctx, name) // without an answer the last load report has to do
		}
		busy := make(chan int, 1)
		asked := r.post(ctx, func(now time.Time) {
			n := open
			if s := r.services[name]; s != nil {
				n = max(n, s.busy(now))
			}
			busy <- n
		})
		if !asked {
			return
		}
		select {
		case n := <-busy:
			if n == 0 || !pause(ctx, drainTick) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// stopAll retires every instance of a service.
func (r *reconciler) stopAll(s *service, reason string) {
	for _, i := range s.running {
		switch i.State {
		case polder.Ready:
			r.retire(s, i, reason)
		case polder.Starting, polder.Paused:
			i.State, i.Reason, i.asked = polder.Draining, reason, true
			r.stopInstance(i.ID, reason)
		}
	}
}

func (r *reconciler) stopInstance(id polder.InstanceID, reason string) {
	if err := r.instances.Stop(id, reason); err != nil {
		r.log.Warn("cannot stop the instance", "instance", id, "reason", err)
	}
}

// pause waits, and tells whether the context is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
