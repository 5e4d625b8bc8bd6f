package loadtest

import (
	"context"
	"time"
)

// waiter lets one goroutine wait for instants.
type waiter interface {
	// wait returns true at the instant, or at once when it is past, and false
	// when the context that the waiter was made with ended first.
	wait(until time.Time) bool
	stop()
}

// timerWaiter waits with a timer of the runtime. On Linux such a timer is late
// by half a millisecond on average, since the runtime sleeps in whole ones.
type timerWaiter struct {
	ctx   context.Context // a waiter lives within one call of dispatch
	timer *time.Timer
}

func newTimerWaiter(ctx context.Context) waiter {
	w := &timerWaiter{ctx: ctx, timer: time.NewTimer(0)}
	<-w.timer.C
	return w
}

func (w *timerWaiter) wait(until time.Time) bool {
	left := time.Until(until)
	if left <= 0 {
		return w.ctx.Err() == nil
	}
	w.timer.Reset(left)
	select {
	case <-w.timer.C:
		return w.ctx.Err() == nil
	case <-w.ctx.Done():
		return false
	}
}

func (w *timerWaiter) stop() { w.timer.Stop() }
