package envoy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/polder/polder/prewarm/instance/process"
	"golang.org/x/sync/errgroup"
)

// ErrHandOver, as the cause with which Run's context ends, leaves Envoy running
// for the next Supervisor.
var ErrHandOver = errors.New("handed over to the next owner")

const (
	healthyAfter  = time.Minute            // live for so long, the next restart is a first one again
	firstRestart  = 100 * time.Millisecond // a lone crash should cost callers little
	slowRestart   = 30 * time.Second
	successorWait = time.Minute // for a successor to be live before the old one stays
	firstPoll     = 5 * time.Millisecond
	slowPoll      = 250 * time.Millisecond
)

// Supervisor keeps one Envoy running. Make one with NewSupervisor.
type Supervisor struct {
	Options
	log    *slog.Logger
	socket string // of the admin interface
	admin  *Admin

	renew    chan string    // capacity 1: why the Envoy that runs shall end
	restarts int            // Run's goroutine only
	retiring sync.WaitGroup // old Envoys that finish what they have
}

// child is one Envoy process.
type child struct {
	*process.Process
	socket string // where its admin interface can be reached now
	admin  *Admin
	began  time.Time // when we started or adopted it
}

// NewSupervisor checks the options and starts nothing.
func NewSupervisor(o Options) (*Supervisor, error) {
	o, socket, err := o.checked()
	if err != nil {
		return nil, err
	}
	return &Supervisor{Options: o, log: o.Log.With("node", o.Node), socket: socket, admin: NewAdmin(socket), renew: make(chan string, 1)}, nil
}

// Admin is the admin interface of the Envoy that runs.
func (s *Supervisor) Admin() *Admin { return s.admin }

// Restart ends the Envoy that runs, at once and without a drain, and Run starts
// another as it does after an accident: for one that cannot be trusted any
// longer. It returns at once; while no Envoy runs it does nothing.
func (s *Supervisor) Restart(reason string) {
	select {
	case s.renew <- reason:
	default: // it is to end already
	}
}

func (s *Supervisor) logFile() string { return filepath.Join(s.Dir, "envoy.log") }

// Run keeps Envoy running until ctx ends, and returns when it is stopped, or
// left to the next owner if the cause was ErrHandOver. Neither is an error. It
// also ends with a *RejectedError when Envoy does not take what it was given.
func (s *Supervisor) Run(ctx context.Context) error {
	inherited, err := s.adopt()
	if err != nil {
		return fmt.Errorf("node %s: %w", s.Node, err)
	}
	if len(inherited) == 0 {
		if _, err := process.Rotate(s.logFile(), 0); err != nil { // so that all of it is new
			s.log.Warn("Envoy's log keeps an older part", "error", err)
		}
	}
	var group errgroup.Group
	following, stopFollowing := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error { s.follow(following, len(inherited) > 0); return nil })
	group.Go(func() error { s.rotate(following); return nil })
	err = s.supervise(ctx, inherited)
	s.retiring.Wait()
	stopFollowing()
	return errors.Join(err, group.Wait())
}

// supervise starts Envoy again and again, beginning with what was inherited.
func (s *Supervisor) supervise(ctx context.Context, inherited []*child) error {
	pause := newPause()
	current, err := s.succeed(ctx, inherited)
	if err != nil {
		return err
	}
	for proven := current != nil; ; s.restarts++ {
		if current == nil && ctx.Err() != nil {
			return nil
		}
		if current == nil {
			if current, err = s.launch(); err != nil && !proven {
				return err
			}
		}
		var lived time.Duration
		var why string
		if current == nil {
			why = err.Error()
		} else {
			live := s.attend(ctx, current)
			if ctx.Err() != nil {
				return s.finish(ctx, current)
			}
			if !live.IsZero() {
				lived, proven = time.Since(live), true
			}
			if err := current.removeSocket(); err != nil {
				s.log.Warn("Envoy left its admin socket", "error", err)
			}
			exit := current.Exit()
			why = exit.String() + ": " + s.words(current.began)
			if !proven && exit.Known && exit.Signal == 0 {
				return &RejectedError{Node: s.Node, Exit: exit.String(), Words: s.words(current.began)}
			}
		}
		event := Event{State: Exited, Restarts: s.restarts, Reason: why, Wait: pause.after(lived)}
		if current != nil {
			event.PID = current.PID()
		}
		current = nil
		s.tell(event)
		s.log.Error("Envoy ended and is started again", "reason", why, "wait", event.Wait, "restarts", s.restarts+1)
		wait(ctx, event.Wait)
	}
}

// launch starts a new Envoy process.
func (s *Supervisor) launch() (*child, error) {
	file := filepath.Join(s.Dir, "bootstrap.json")
	if err := os.WriteFile(file, s.Bootstrap, 0o600); err != nil { // read once, by the process below
		return nil, fmt.Errorf("node %s: write the bootstrap of its Envoy: %w", s.Node, err)
	}
	note, err := json.Marshal(s.meta(s.socket))
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", s.Node, err)
	}
	began := time.Now()
	p, err := process.Start(process.Spec{
		Path:       s.Binary,
		Args:       s.args(file),
		Dir:        s.Dir,
		LogFile:    s.logFile(),
		RecordFile: filepath.Join(s.Dir, fmt.Sprintf("envoy-%d.json", began.UnixNano())),
		Label:      "Envoy of " + s.Node,
		Meta:       note,
	})
	if err != nil {
		return nil, err
	}
	c := &child{Process: p, socket: s.socket, admin: s.admin, began: began}
	s.tell(Event{State: Starting, PID: c.PID(), Restarts: s.restarts})
	s.log.Info("Envoy started", "pid", c.PID(), "version", Version)
	return c, nil
}

// attend returns when the process has ended or ctx has, and tells since when it
// was live, the zero time if it never was.
func (s *Supervisor) attend(ctx context.Context, c *child) (live time.Time) {
	select { // what was meant for the one before
	case <-s.renew:
	default:
	}
	if s.untilLive(ctx, c) {
		live = time.Now()
		s.tell(Event{State: Running, PID: c.PID(), Restarts: s.restarts})
		s.log.Info("Envoy is live", "pid", c.PID(), "after", live.Sub(c.began))
	}
	select {
	case <-c.Done():
	case <-ctx.Done():
	case reason := <-s.renew:
		s.log.Warn("Envoy is ended and started again", "pid", c.PID(), "reason", reason)
		if err := c.Stop(context.WithoutCancel(ctx), s.Grace); err != nil {
			s.log.Error("Envoy does not end", "pid", c.PID(), "error", err)
		}
	}
	return live
}

// untilLive waits until the process is live, and tells whether it is: not when
// it ended first, or ctx did.
func (s *Supervisor) untilLive(ctx context.Context, c *child) bool {
	next := newPoll()
	told := time.Now()
	for {
		err := c.admin.Ready(ctx)
		if err == nil {
			return true
		}
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			s.log.Warn("Envoy is not live yet: it waits for its first configuration", "pid", c.PID(), "error", err)
		}
		timer := time.NewTimer(next.NextBackOff())
		select {
		case <-timer.C:
		case <-c.Done():
			timer.Stop()
			return false
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// rotate bounds the log file until ctx ends.
func (s *Supervisor) rotate(ctx context.Context) {
	ticker := time.NewTicker(rotation)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if _, err := process.Rotate(s.logFile(), mostLog); err != nil {
			s.log.Warn("Envoy's log grows", "error", err)
		}
	}
}

func (s *Supervisor) tell(e Event) {
	if s.OnEvent != nil {
		s.OnEvent(e)
	}
}

// pause spaces the starts of an Envoy that keeps ending.
type pause struct{ *backoff.ExponentialBackOff }

func newPause() pause {
	return pause{backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(firstRestart),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.3), // three regions on one machine should not start in step
		backoff.WithMaxInterval(slowRestart),
		backoff.WithMaxElapsedTime(0))}
}

// after is how long to wait before the next start of one that was live for so
// long.
func (p pause) after(lived time.Duration) time.Duration {
	if lived >= healthyAfter {
		p.Reset()
	}
	return p.NextBackOff()
}

// newPoll spaces questions to which there is no event to wait for.
func newPoll() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(firstPoll),
		backoff.WithMaxInterval(slowPoll),
		backoff.WithMaxElapsedTime(0))
}

// wait ends after d or with ctx.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
