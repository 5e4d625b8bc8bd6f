package instance

import (
	"time"

	"github.com/polder/polder"
)

// Computer is a Handle that knows how much processor time its instance has
// used since it was started. A provider need not offer it.
type Computer interface {
	Computed() (time.Duration, error)
}

// CPU returns the processor time of every instance that can tell.
func (m *Manager) CPU() map[polder.InstanceID]time.Duration {
	m.mu.Lock()
	handles := make(map[polder.InstanceID]Computer, len(m.table))
	for id, e := range m.table {
		if c, ok := e.handle.(Computer); ok {
			handles[id] = c
		}
	}
	m.mu.Unlock()
	used := make(map[polder.InstanceID]time.Duration, len(handles))
	for id, c := range handles {
		if d, err := c.Computed(); err == nil { // one that ended meanwhile tells nothing
			used[id] = d
		}
	}
	return used
}
