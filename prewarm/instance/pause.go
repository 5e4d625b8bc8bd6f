package instance

import (
	"errors"
	"fmt"
	"time"

	"github.com/polder/polder"
)

// pageOutAfter is how long a paused instance keeps its memory in RAM: one that
// is needed again soon then answers as fast as a warm one.
const pageOutAfter = 30 * time.Second

// Pause freezes an instance that is ready and was taken out of service, and
// returns at once: a Paused event follows. One that cannot be paused is stopped
// instead, for the reason.
func (m *Manager) Pause(id polder.InstanceID, reason string) error {
	e, err := m.resting(id, polder.Ready)
	if err != nil {
		return fmt.Errorf("pause instance %s: %w", id, err)
	}
	m.lives.Go(func() {
		e.rest.Lock()
		defer e.rest.Unlock()
		err := errors.New("its provider cannot")
		if p, ok := e.handle.(Pauser); ok {
			err = p.Pause()
		}
		if err == nil {
			m.become(e, polder.Paused)
			return
		}
		m.o.Log.Warn("an instance is stopped instead of paused", "region", m.o.Region, "instance", id, "reason", err)
		_ = m.Stop(id, reason) // gone already otherwise
	})
	return nil
}

// Resume lets a paused instance go on, and returns at once: a Ready event
// follows. One that cannot is stopped, as one that crashed.
func (m *Manager) Resume(id polder.InstanceID) error {
	e, err := m.resting(id, polder.Paused)
	if err != nil {
		return fmt.Errorf("resume instance %s: %w", id, err)
	}
	m.lives.Go(func() {
		e.rest.Lock()
		defer e.rest.Unlock()
		if err := e.handle.(Pauser).Resume(); err != nil {
			m.o.Log.Error("a paused instance is stopped: it cannot go on", "region", m.o.Region, "instance", id, "reason", err)
			_ = m.Stop(id, "it could not be resumed")
			return
		}
		m.become(e, polder.Ready)
	})
	return nil
}

// pageOut takes the memory of a paused instance out of RAM, as far as that can be
// done, and tells in a Paused event what is left there.
func (m *Manager) pageOut(e *entry) {
	e.rest.Lock()
	defer e.rest.Unlock()
	m.mu.Lock()
	paused := e.instance.State == polder.Paused && !m.leaving
	m.mu.Unlock()
	if !paused {
		return
	}
	before, after, err := e.handle.(Pauser).PageOut()
	if err != nil {
		m.o.Log.Debug("a paused instance keeps its memory", "region", m.o.Region, "instance", e.instance.ID, "reason", err)
	} else {
		m.o.Log.Info("paused instance paged out", "region", m.o.Region, "instance", e.instance.ID, "before", before, "after", after)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if before > 0 && !e.stopping && m.table[e.instance.ID] == e {
		event := e.event()
		event.Paging = Paging{Before: before, After: after}
		m.announce(event)
	}
}

// resting finds an instance in the state from which it shall go.
func (m *Manager) resting(id polder.InstanceID, from polder.InstanceState) (*entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.table[id]
	switch {
	case e == nil:
		return nil, fmt.Errorf("region %s has no such instance", m.o.Region)
	case e.stopping || m.leaving || e.instance.State != from:
		return nil, fmt.Errorf("it is %s", e.instance.State)
	}
	return e, nil
}

// become notes that an instance was paused or resumed.
func (m *Manager) become(e *entry, state polder.InstanceState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.stopping || m.table[e.instance.ID] != e {
		return
	}
	e.instance.State = state
	m.announce(e.event())
	if e.pageOut != nil {
		e.pageOut.Stop()
		e.pageOut = nil
	}
	if state == polder.Paused {
		e.pageOut = time.AfterFunc(pageOutAfter, func() { m.pageOut(e) })
	}
}
