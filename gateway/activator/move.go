package activator

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/polder/polder"
)

// Published returns when every Envoy of the region knows the ready instances of
// the service, or why that is not known.
type Published func(ctx context.Context, service polder.ServiceName) error

const (
	// publishLimit is how long a stream may wait until Envoy knows its instance.
	// After that it stays here, as every other request does.
	publishLimit = 500 * time.Millisecond
	// movesPerSecond bounds the streams of one service that are moved in a second.
	// Envoy repeats at least 64 requests of a service at a time and answers the
	// others as we did, so most of these are left to repeats for better reasons.
	movesPerSecond = 16
	// movedKept is how many requests are remembered as moved, so that none is
	// moved twice: Envoy's patience ends, and the second time it found no instance.
	movedKept = 4096
)

// errMoved says that Envoy shall send the request to the instance itself.
var errMoved = errors.New("moved to the instance")

// movable tells whether the request will last long enough that its end here
// would be felt, and can be sent again: it has no body.
func (c *call) movable() bool {
	return c.options.Published != nil && c.id != "" && isStream(c.r) && c.movers.may(c.service, c.id, time.Now())
}

// isStream tells whether a request without a body asks for a connection that
// stays open: an upgrade, or server-sent events.
func isStream(r *http.Request) bool {
	if r.ContentLength != 0 {
		return false
	}
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket") ||
		r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}

// settles waits until Envoy knows the instance.
func (c *call) settles(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	if err := c.options.Published(ctx, c.service); err != nil {
		c.quiet.Printf("a stream of %s stays here: %v", c.service, err)
		return false
	}
	c.published = time.Now()
	return true
}

// move answers Envoy, whose routes repeat the request at the instance. The
// status is the one for "ask elsewhere", and no failure of anybody.
func (c *call) move() {
	c.book.move(c.service, c.class, c.bytes)
	c.stage = failed // nothing more is counted
	if !c.target.Warm {
		c.record(c.published, http.StatusMisdirectedRequest, nil)
	}
	header := c.w.Header()
	header.Set(reasonHeader, string(Moved))
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusMisdirectedRequest)
}

// movers remembers what was moved. It is bounded, and forgets the oldest.
type movers struct {
	mu     sync.Mutex // guards all below
	second int64      // that moves counts
	moves  map[polder.ServiceName]int
	seen   map[string]bool
	ring   []string // of seen, in order; grows to movedKept, then next is overwritten
	next   int
}

func newMovers() *movers {
	return &movers{moves: map[polder.ServiceName]int{}, seen: map[string]bool{}}
}

// may tells whether a request may be moved now, and notes that it is.
func (m *movers) may(service polder.ServiceName, id string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if second := now.Unix(); second != m.second {
		m.second = second
		clear(m.moves)
	}
	if m.seen[id] || m.moves[service] >= movesPerSecond {
		return false
	}
	m.moves[service]++
	m.seen[id] = true
	if len(m.ring) < movedKept {
		m.ring = append(m.ring, id)
		return true
	}
	delete(m.seen, m.ring[m.next])
	m.ring[m.next] = id
	m.next = (m.next + 1) % movedKept
	return true
}
