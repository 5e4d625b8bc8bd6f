package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/polder/polder"
)

// spawn has the instance made and sees it through its life.
func (m *Manager) spawn(e *entry, o Order) {
	handle, err := m.make(e, o)
	if err != nil {
		m.end(e, err, nil)
		return
	}
	m.watch(e, handle)
}

func (m *Manager) make(e *entry, o Order) (Handle, error) {
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-e.start.Done():
		return nil, fmt.Errorf("not started: %w", context.Cause(e.start))
	}
	if err := os.MkdirAll(filepath.Dir(o.LogFile), 0o700); err != nil {
		return nil, err
	}
	return m.o.Provider.Start(e.start, o)
}

// watch sees an instance that exists through the rest of its life.
func (m *Manager) watch(e *entry, handle Handle) {
	m.spawned(e, handle)
	listening, err := handle.AwaitReady(e.start)
	switch {
	case m.left(e):
		handle.Release()
		m.drop(e)
		return
	case err == nil && m.ready(e, listening):
		select {
		case <-handle.Done():
			err = handle.Died()
		case <-e.stop:
		case <-m.release:
			if m.left(e) {
				handle.Release()
				m.drop(e)
				return
			}
		}
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("not ready after %v: %w", e.limit, err)
	}
	grace := m.o.Timing.Grace
	if err != nil && !m.asked(e) {
		grace = 0 // it failed: there is nothing to finish
	}
	stop := handle.Stop(m.life, grace)
	m.end(e, err, stop)
}

// spawned notes that the instance exists.
func (m *Manager) spawned(e *entry, handle Handle) {
	address := handle.Identity().Address
	m.mu.Lock()
	defer m.mu.Unlock()
	e.handle, e.instance.Address = handle, address
	e.phases.Spawned = time.Now()
	e.told = true
	m.announce(e.event())
}

// ready notes that the instance answers, unless it is being stopped.
func (m *Manager) ready(e *entry, listening time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.stopping {
		return false
	}
	e.instance.State, e.instance.Ready = polder.Ready, time.Now()
	e.phases.Listening, e.phases.Ready = listening, e.instance.Ready
	if b := m.breakers[e.instance.Service]; b != nil {
		b.settled(e.instance.ID)
	}
	m.announce(e.event())
	e.giveUp() // releases the deadline's timer
	return true
}

// left tells whether the instance is to be left running. Stop comes first.
func (m *Manager) left(e *entry) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leaving && !e.stopping
}

// asked tells whether somebody asked for the end of the instance.
func (m *Manager) asked(e *entry) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return e.stopping
}

// drop takes an instance that is left running out of the table.
func (m *Manager) drop(e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.table, e.instance.ID)
	e.giveUp()
	if e.pageOut != nil {
		e.pageOut.Stop()
	}
}

// end notes that the instance is gone: because of failed if nobody asked.
// stop is what went wrong while stopping it.
func (m *Manager) end(e *entry, failed, stop error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	service, id := e.instance.Service, e.instance.ID
	delete(m.table, id)
	e.giveUp()
	if e.pageOut != nil {
		e.pageOut.Stop()
	}
	e.instance.State, e.instance.Reason = polder.Stopped, e.stopReason
	event := e.event()
	switch b := m.breakers[service]; {
	case e.stopping:
		if b != nil {
			b.settled(id)
		}
	default:
		event.Failed = true
		event.Reason = m.failure(e, failed)
		if died := (*Died)(nil); errors.As(failed, &died) {
			event.LastLines = died.LastLines
		}
		m.learn(e, now, event.Reason)
	}
	if stop != nil {
		event.Reason += fmt.Sprintf(" (%v)", stop)
		m.o.Log.Error("instance did not stop cleanly", "region", m.o.Region, "service", service, "instance", id, "error", stop)
	}
	m.announce(event)
}

// failure words what happened, without the log's lines.
func (m *Manager) failure(e *entry, failed error) string {
	text := failed.Error()
	if died := (*Died)(nil); errors.As(failed, &died) {
		text = died.Exit
	}
	if e.instance.Ready.IsZero() {
		return "start failed: " + text
	}
	return "crashed: " + text
}

// learn tells the service's breaker of a failure.
func (m *Manager) learn(e *entry, now time.Time, reason string) {
	b := m.breakers[e.instance.Service]
	if m.held(e, now) {
		if b != nil && e.instance.Started.After(b.last) {
			delete(m.breakers, e.instance.Service)
		} else if b != nil {
			b.settled(e.instance.ID)
		}
		return // whatever made it crash, starting another one is no storm
	}
	if b == nil {
		b = newBreaker(e.instance.Service, m.o.Timing)
		m.breakers[e.instance.Service] = b
	}
	b.failed(e.instance.ID, e.instance.Started, now, reason)
}

func (e *entry) event() Event {
	return Event{Instance: e.instance, Phases: e.phases, Adopted: e.adopt}
}

// announce queues an event. The caller holds mu, so that the order of events
// is that of the changes.
func (m *Manager) announce(event Event) {
	m.events = append(m.events, event)
	select {
	case m.news <- struct{}{}:
	default:
	}
}

// tell hands events to the owner, from this one goroutine, until all
// instances have ended and everything is told.
func (m *Manager) tell(ended <-chan struct{}) {
	for last := false; ; {
		m.mu.Lock()
		events := m.events
		m.events = nil
		m.mu.Unlock()
		for _, event := range events {
			m.log(event)
			m.o.Events(event)
		}
		if len(events) > 0 {
			continue
		}
		if last {
			return
		}
		select {
		case <-m.news:
		case <-ended:
			last = true
		}
	}
}

func (m *Manager) log(event Event) {
	attrs := []any{"region", event.Region, "service", event.Service, "instance", event.ID, "reason", event.Reason}
	switch {
	case event.Paging != (Paging{}): // pageOut has said it
	case event.Failed:
		m.o.Log.Warn("instance failed", append(attrs, "last_lines", event.LastLines)...)
	case event.State == polder.Ready:
		m.o.Log.Info("instance ready", append(attrs, "address", event.Address, "start_up", event.Phases.Ready.Sub(event.Phases.Asked))...)
	default:
		m.o.Log.Info("instance "+string(event.State), attrs...)
	}
}
