package instance

import (
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/polder/polder"
)

// Backoff is the error of Manager.Start for a service whose last starts failed.
type Backoff struct {
	Service  polder.ServiceName
	Until    time.Time         // no start before; in the past while a trial is under way
	Trial    polder.InstanceID // the one start that is allowed, if it is under way
	Failures int               // in a row
	Reason   string            // of the last failure
}

func (b *Backoff) Error() string {
	when := "not started again before " + b.Until.Format(time.TimeOnly)
	if b.Trial != "" {
		when = fmt.Sprintf("not started again before instance %s has proved itself", b.Trial)
	}
	return fmt.Sprintf("service %s: %s: %d starts failed in a row, the last one: %s", b.Service, when, b.Failures, b.Reason)
}

// breaker keeps one service from being started again and again in vain. It
// opens with a failure, for longer each time; then it lets one trial through,
// and others once that is ready; a failure opens it again, and when an instance
// has held the Manager throws it away. It is pure: the caller brings the time.
type breaker struct {
	service  polder.ServiceName
	delay    *backoff.ExponentialBackOff
	failures int
	last     time.Time // of the last failure
	until    time.Time
	trial    polder.InstanceID // started while open, not yet ready
	reason   string
}

func newBreaker(service polder.ServiceName, t Timing) *breaker {
	delay := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(t.FirstDelay),
		backoff.WithMaxInterval(t.MaxDelay),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.2), // services that fail together need not come back together
		backoff.WithMaxElapsedTime(0),
	)
	return &breaker{service: service, delay: delay}
}

// allow is nil if a start may be made now.
func (b *breaker) allow(now time.Time) error {
	if b.failures == 0 || (b.trial == "" && !now.Before(b.until)) {
		return nil
	}
	return &Backoff{Service: b.service, Until: b.until, Trial: b.trial, Failures: b.failures, Reason: b.reason}
}

// started notes a start that was allowed.
func (b *breaker) started(id polder.InstanceID) {
	if b.failures > 0 {
		b.trial = id
	}
}

// settled notes that a start has come to an end other than failure: ready, or
// stopped on request.
func (b *breaker) settled(id polder.InstanceID) {
	if b.trial == id {
		b.trial = ""
	}
}

// failed notes a failed start, or a crash soon after. Of instances that were
// asked for before the last failure only the reason counts: one bad release
// with twenty instances is one failure.
func (b *breaker) failed(id polder.InstanceID, asked, now time.Time, reason string) {
	b.settled(id)
	b.reason = reason
	if b.failures > 0 && !asked.After(b.last) {
		return
	}
	b.failures++
	b.last = now
	b.until = now.Add(b.delay.NextBackOff())
}
