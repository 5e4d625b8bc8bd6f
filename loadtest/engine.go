package loadtest

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// resultBuffer lets workers hand over results while the recorder is busy with
// others. Beyond it they wait, and so do the arrivals behind them, visibly.
const resultBuffer = 4096

// engine sends on schedule. One goroutine, dispatch, walks the schedule and
// starts the workers; the workers send.
type engine struct {
	// Fixed after construction.
	plan    Plan
	options Options
	send    sender
	clock   func(context.Context) waiter
	start   time.Time
	jobs    chan job
	results chan Result // closed by dispatch when all is over

	// Atomic.
	busy      atomic.Int64 // jobs that wait or are being sent
	scheduled atomic.Uint64
	sent      atomic.Uint64
	stopped   atomic.Bool // the sending ended before the schedule did
}

// job is an arrival whose time has come.
type job struct {
	target   int
	intended time.Duration
}

func newEngine(plan Plan, options Options, send sender, clock func(context.Context) waiter) *engine {
	return &engine{
		plan: plan, options: options, send: send, clock: clock, start: time.Now(),
		// Room for all that is admitted, so that dispatch never blocks here.
		jobs:    make(chan job, options.InProgress+options.Backlog),
		results: make(chan Result, resultBuffer),
	}
}

// now is the time since the start of the run.
func (e *engine) now() time.Duration { return time.Since(e.start) }

// dispatch hands each arrival to the workers at its intended time, until the
// schedule or the context sending ends. Then it waits for the workers, whose
// requests live as long as hard does, and closes the results.
func (e *engine) dispatch(sending, hard context.Context) {
	var workers sync.WaitGroup
	defer close(e.results)
	defer workers.Wait()
	defer close(e.jobs)

	schedule := newSchedule(e.plan.Targets)
	defer schedule.stop()
	clock := e.clock(sending)
	defer clock.stop()
	started := 0
	for {
		j, ok := schedule.next()
		if !ok {
			return
		}
		if !clock.wait(e.start.Add(j.intended)) {
			e.stopped.Store(true)
			return
		}
		e.scheduled.Add(1)
		// Admission is by count and not by whether a worker happens to be free at
		// this moment: a job is dropped only if that many are truly there.
		n := e.busy.Add(1)
		if n > int64(cap(e.jobs)) {
			e.busy.Add(-1)
			e.results <- Result{Target: e.plan.Targets[j.target].Name, Outcome: Dropped, Intended: j.intended, Done: e.now()}
			continue
		}
		if n > int64(started) && started < e.options.InProgress {
			started++
			workers.Go(func() { e.work(sending, hard) })
		}
		e.jobs <- j
	}
}

// work sends jobs until there are no more. Jobs that still wait when sending
// ends are abandoned.
func (e *engine) work(sending, hard context.Context) {
	for j := range e.jobs {
		e.results <- e.result(sending, hard, j)
		e.busy.Add(-1)
	}
}

func (e *engine) result(sending, hard context.Context, j job) Result {
	r := Result{Target: e.plan.Targets[j.target].Name, Intended: j.intended}
	if sending.Err() != nil {
		e.stopped.Store(true)
		r.Outcome, r.Done = Abandoned, e.now()
		return r
	}
	e.sent.Add(1)
	r.Sent = e.now()
	a := e.send(hard, j.target)
	r.Done = e.now()
	r.Status, r.Protocol, r.Cold, r.Bytes = a.status, a.protocol, a.cold, a.bytes
	r.Fresh, r.Retries, r.Note = a.fresh, a.retries, a.note
	switch {
	case a.err == nil:
		r.Outcome = Answered
	case hard.Err() != nil:
		r.Outcome, r.Error = Interrupted, reason(a.err)
	default:
		r.Outcome, r.Error = Failed, reason(a.err)
	}
	return r
}
