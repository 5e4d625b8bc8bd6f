package loadtest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// LateAfter is how far after its intended time a request may leave before it
// counts as late.
const LateAfter = 10 * time.Millisecond

// Progress is how far a run is.
type Progress struct {
	Elapsed    time.Duration
	Length     time.Duration // of the plan
	Planned    uint64        // requests of the plan
	Scheduled  uint64        // arrivals whose time has come
	Sent       uint64
	Done       uint64 // answered, failed or interrupted
	Errors     uint64 // as in Summary
	Dropped    uint64
	Late       uint64
	ColdStarts uint64
	InProgress uint64  // sent and not done
	SentRate   float64 // a second, since the last Progress
	DoneRate   float64 // a second, since the last Progress
	Latency    Quantiles
	Stopping   bool // the context ended; waiting for what is under way
}

// Run sends what the plan schedules, waits for the replies, and reports. It
// blocks as long as the plan says and until the last reply or its timeout.
//
// When ctx ends it sends nothing further, lets what is under way finish for
// Options.Grace, and returns the report of what happened, marked as Stopped,
// without an error. An error means that the plan or the options are wrong (then
// nothing was sent and the report is empty), or that Options.Results failed.
func Run(ctx context.Context, plan Plan, options Options) (Report, error) {
	if err := errors.Join(plan.Validate(), options.Validate()); err != nil {
		return Report{}, fmt.Errorf("load plan: %w", err)
	}
	c, err := newClient(plan.Targets, options)
	if err != nil {
		return Report{}, fmt.Errorf("load plan: %w", err)
	}
	defer c.close()
	return run(ctx, plan, options, c.send, newWaiter)
}

// run is Run with a sender and a clock of the caller's. The goroutine of run records; the
// engine's goroutines send and have ended when it returns.
func run(ctx context.Context, plan Plan, options Options, send sender, clock func(context.Context) waiter) (Report, error) {
	// Ends requests under way; ctx only ends the sending of further ones.
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	sending, stop := context.WithCancel(ctx)
	defer stop()

	e := newEngine(plan, options, send, clock)
	rec := newRecorder(plan, options, e.start)
	show := newDisplay(plan, options, e)
	defer show.stop()
	go e.dispatch(sending, hard) // ends after closing e.results

	ended := sending.Done()
	var graceOver <-chan time.Time
	var fault error
	for {
		select {
		case r, more := <-e.results:
			if !more {
				show.show(rec, ended == nil)
				cut := e.stopped.Load() || rec.total.sum.Interrupted > 0
				return rec.report(e.now(), cut), fault
			}
			rec.add(r)
			if options.Results != nil && fault == nil {
				if err := options.Results(r); err != nil {
					fault = fmt.Errorf("load results: %w", err)
					stop()
				}
			}
		case <-show.tick:
			show.show(rec, ended == nil)
		case <-ended:
			ended = nil
			timer := time.NewTimer(options.Grace)
			defer timer.Stop()
			graceOver = timer.C
		case <-graceOver:
			cancel()
		}
	}
}

// display calls the progress function of the options.
type display struct {
	call   func(Progress)
	plan   Progress // what does not change
	engine *engine
	tick   <-chan time.Time
	ticker *time.Ticker // nil without a progress function
	last   Progress
}

func newDisplay(plan Plan, options Options, e *engine) *display {
	d := &display{call: options.Progress, engine: e}
	if d.call == nil {
		return d
	}
	d.plan = Progress{Length: plan.Length(), Planned: plan.Count()}
	d.ticker = time.NewTicker(options.ProgressEvery)
	d.tick = d.ticker.C
	return d
}

func (d *display) stop() {
	if d.ticker != nil {
		d.ticker.Stop()
	}
}

func (d *display) show(rec *recorder, stopping bool) {
	if d.call == nil {
		return
	}
	p, total := d.plan, &rec.total.sum
	p.Elapsed, p.Stopping = d.engine.now(), stopping
	p.Done = total.Answered + total.Failed + total.Interrupted
	p.Errors, p.Dropped, p.Late, p.ColdStarts = total.Errors, total.Dropped, total.Late, total.ColdStarts
	// Read after what was recorded: what is done has been sent, what was sent
	// has been scheduled.
	p.Sent = d.engine.sent.Load()
	p.Scheduled = d.engine.scheduled.Load()
	p.InProgress = p.Sent - p.Done
	p.Latency = rec.total.latency.quantiles()
	if span := (p.Elapsed - d.last.Elapsed).Seconds(); span > 0 {
		p.SentRate = float64(p.Sent-d.last.Sent) / span
		p.DoneRate = float64(p.Done-d.last.Done) / span
	}
	d.last = p
	d.call(p)
}
