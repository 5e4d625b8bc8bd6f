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
	watch := context.AfterFunc(ctx, func() {
		if handsOver(ctx) {
			cancel()
		}
	})
	defer watch()
	if err := drain(bounded, c); err != nil && !handsOver(ctx) {
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
// in progress and no connection is passed through, or the process has ended.
func drain(ctx context.Context, c *child) error {
	select {
	case <-c.Done():
		return nil
	default:
	}
	if err := errors.Join(c.admin.DrainListeners(ctx, true), c.admin.DrainListeners(ctx, false)); err != nil {
		return err
	}
	ticker := time.NewTicker(quietPoll)
	defer ticker.Stop()
	for quiet := 0; ; {
		busy, err := c.admin.InProgress(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if quiet++; busy > 0 {
			quiet = 0
		}
		if err == nil && quiet >= quietRounds {
			return nil
		}
		select {
		case <-c.Done():
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%d requests or connections are left after the drain time", busy)
		case <-ticker.C:
		}
	}
}
