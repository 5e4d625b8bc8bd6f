package envoy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/polder/polder/prewarm/instance/process"
)

// adopt takes over every Envoy that an owner before us left running in our
// folder, the newest first. There is more than one only if that owner died
// between a successor's start and the old one's end.
func (s *Supervisor) adopt() (_ []*child, err error) {
	records, err := filepath.Glob(filepath.Join(s.Dir, "envoy-*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(records) // by time: the number is one of 19 digits
	slices.Reverse(records)
	var found []*child
	for _, record := range records {
		p, err := process.Adopt(record)
		if errors.Is(err, process.ErrGone) {
			continue
		}
		if err != nil {
			release(found)
			return nil, err
		}
		c := &child{Process: p, socket: s.socket, began: time.Now()}
		if m, err := readMeta(p); err == nil && m.Admin != "" {
			c.socket = m.Admin
		}
		if old := parked(c.socket, p.PID()); exists(old) {
			c.socket = old
		}
		c.admin = NewAdmin(c.socket)
		found = append(found, c)
	}
	return found, s.sweep(found)
}

// sweep removes the parked sockets of Envoys that are gone.
func (s *Supervisor) sweep(alive []*child) error {
	sockets, err := filepath.Glob(filepath.Join(filepath.Dir(s.socket), "old-*.sock"))
	if err != nil {
		return err
	}
	for _, socket := range sockets {
		if slices.ContainsFunc(alive, func(c *child) bool { return c.socket == socket }) {
			continue
		}
		if err := os.Remove(socket); err != nil {
			return err
		}
	}
	return nil
}

// succeed decides what becomes of inherited Envoys. One that is as we would
// start it is taken over. Otherwise a successor is started beside them and
// returned once it is live. Those that are not needed retire.
func (s *Supervisor) succeed(ctx context.Context, inherited []*child) (*child, error) {
	if len(inherited) == 0 {
		return nil, nil
	}
	want := s.meta(s.socket)
	same := slices.IndexFunc(inherited, func(c *child) bool {
		m, err := readMeta(c.Process)
		return err == nil && m == want && c.socket == s.socket
	})
	if same >= 0 {
		heir := inherited[same]
		s.tell(Event{State: Adopted, PID: heir.PID()})
		s.log.Info("Envoy of an earlier Polder taken over", "pid", heir.PID())
		s.retire(ctx, slices.Delete(inherited, same, same+1), heir)
		return heir, nil
	}
	heir, err := s.replace(ctx, inherited)
	if err != nil && ctx.Err() == nil {
		release(inherited)
		return nil, err
	}
	s.retire(ctx, inherited, heir)
	return heir, nil
}

// replace starts a successor, and returns it once it is live. If it does not
// come up, the inherited Envoys are as they were.
func (s *Supervisor) replace(ctx context.Context, inherited []*child) (_ *child, err error) {
	s.log.Info("Envoy of an earlier Polder is replaced: its program, options or bootstrap differ", "pid", inherited[0].PID())
	for _, c := range inherited {
		if c.socket != s.socket {
			continue
		}
		// A socket keeps its listener under any name. The successor binds the old one.
		if err := c.move(parked(s.socket, c.PID())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("node %s: make room for the successor of its Envoy: %w", s.Node, err)
		}
		defer func() {
			if err != nil && c.socket != s.socket {
				err = errors.Join(err, c.move(s.socket))
			}
		}()
	}
	heir, err := s.launch()
	if err != nil {
		return nil, err
	}
	deadline, cancel := context.WithTimeout(ctx, successorWait)
	defer cancel()
	if s.untilLive(deadline, heir) {
		return heir, nil
	}
	select {
	case <-heir.Done():
		return nil, &RejectedError{Node: s.Node, Exit: heir.Exit().String(), Words: s.words(heir.began)}
	default:
		err := fmt.Errorf("node %s: the successor of its Envoy was not live within %s, the old one (pid %d) stays", s.Node, successorWait, inherited[0].PID())
		return nil, errors.Join(err, heir.Stop(context.WithoutCancel(ctx), s.Grace))
	}
}

// retire hands what old processes would still be given to their heir, if there
// is one, and stops them, in the background: Run waits for it.
func (s *Supervisor) retire(ctx context.Context, old []*child, heir *child) {
	if len(old) == 0 {
		return
	}
	s.retiring.Go(func() {
		release, err := s.steer(ctx, old, heir)
		defer release()
		if err != nil && ctx.Err() == nil {
			s.log.Warn("connections that arrive while Envoy is replaced may be reset", "error", err)
		}
		var group sync.WaitGroup
		for _, c := range old {
			group.Go(func() {
				s.log.Info("old Envoy finishes what it has", "pid", c.PID())
				if err := s.stop(ctx, c); err != nil {
					s.log.Error("old Envoy does not stop", "pid", c.PID(), "error", err)
				}
			})
		}
		group.Wait()
	})
}

// steer is the function of that name for processes, bounded by the drain time.
func (s *Supervisor) steer(ctx context.Context, old []*child, heir *child) (release func(), err error) {
	if heir == nil {
		return func() {}, nil
	}
	var pids []int
	for _, c := range old {
		pids = append(pids, c.PID())
	}
	bounded, cancel := context.WithTimeout(ctx, s.DrainTime)
	defer cancel()
	return steer(bounded, pids, heir.PID())
}

// move gives the admin socket another name.
func (c *child) move(socket string) error {
	if err := os.Rename(c.socket, socket); err != nil {
		return err
	}
	c.socket, c.admin = socket, NewAdmin(socket)
	return nil
}

func release(children []*child) {
	for _, c := range children {
		c.Release()
	}
}

func readMeta(p *process.Process) (meta, error) {
	var m meta
	err := json.Unmarshal(p.Record().Meta, &m)
	return m, err
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}
