package envoy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

const (
	quietPoll   = 25 * time.Millisecond
	quietRounds = 2 // a request may be on its way between two looks

	// leaveWait is how long connections on which nothing happens get to leave an
	// Envoy whose successor serves. Their clients are told to with the next answer;
	// whoever sends something as Envoy ends would get none.
	leaveWait = 5 * time.Second
)

// finish ends the supervision of a running Envoy.
func (s *Supervisor) finish(ctx context.Context, c *child) error {
	if handsOver(ctx) {
		c.Release()
		s.tell(Event{State: Left, PID: c.PID(), Restarts: s.restarts})
		s.log.Info("Envoy is left running for the next Polder", "pid", c.PID())
		return nil
	}
	s.tell(Event{State: Draining, PID: c.PID(), Restarts: s.restarts})
	s.log.Info("Envoy finishes what it has", "pid", c.PID(), "most", s.DrainTime)
	if err := s.stop(ctx, c); err != nil {
		return err
	}
	s.tell(Event{State: Stopped, PID: c.PID(), Restarts: s.restarts})
	s.log.Info("Envoy stopped", "pid", c.PID())
	return nil
}

func handsOver(ctx context.Context) bool { return errors.Is(context.Cause(ctx), ErrHandOver) }

// stop drains the process and ends it, also when ctx has ended already. With
// ErrHandOver, it leaves it to the next owner instead, to be stopped there.
func (s *Supervisor) stop(ctx context.Context, c *child) error {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.DrainTime)
	defer cancel()
	leaving, over := context.WithTimeout(ctx, leaveWait) // no time at all once ctx has ended: then nobody else serves
	defer over()
	watch := context.AfterFunc(ctx, func() {
		if handsOver(ctx) {
			cancel()
		}
	})
	defer watch()
	if err := drain(bounded, leaving, c.Done(), c.admin); err != nil && !handsOver(ctx) {
		s.log.Warn("Envoy is stopped with requests in progress", "pid", c.PID(), "error", err)
	}
	if handsOver(ctx) {
		c.Release()
		return nil
	}
	if err := c.Stop(context.WithoutCancel(ctx), s.Grace); err != nil {
		return err
	}
	return c.removeSocket()
}

// removeSocket removes what an ended Envoy leaves behind.
func (c *child) removeSocket() error {
	if err := os.Remove(c.socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the admin socket: %w", err)
	}
	return nil
}

// drain asks clients to leave, stops accepting, and returns when no request is
// in progress and no connection is passed through, or the process has ended. Until
// leaving ends, connections without a request count as well.
func drain(ctx, leaving context.Context, ended <-chan struct{}, admin *Admin) error {
	select {
	case <-ended:
		return nil
	default:
	}
	if err := errors.Join(admin.DrainListeners(ctx, true), admin.DrainListeners(ctx, false)); err != nil {
		return err
	}
	ticker := time.NewTicker(quietPoll)
	defer ticker.Stop()
	for quiet := 0; ; {
		busy, err := admin.InProgress(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if quiet++; busy > 0 {
			quiet = 0
		}
		if err == nil && quiet >= quietRounds && (leaving.Err() != nil || nobodyLeft(ctx, admin)) {
			return nil
		}
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%d requests or connections are left after the drain time", busy)
		case <-ticker.C:
		}
	}
}

// nobodyLeft tells whether all clients have closed their connections.
func nobodyLeft(ctx context.Context, admin *Admin) bool {
	connected, err := admin.Connected(ctx)
	return err == nil && connected == 0
}
