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
	// movesPerMinute bounds the streams of one service that are moved in a minute,
	// which is more than a wake takes. Envoy repeats only so many requests of a
	// service at a time, and hands on our answer to those that it does not.
	movesPerMinute = 1024
	// movesOfOne is how often one request is moved. An acknowledgement precedes
	// Envoy's workers: one of them may send it here again. Requests by methods of
	// which Envoy repeats more than what was not sent have fewer tries, and one move.
	movesOfOne = 3
	// moveAgain is how long a request that came again waits before it is moved
	// again, times the number of times that it was.
	moveAgain = 10 * time.Millisecond
	// movedKept is how many requests are remembered as moved.
	movedKept = 4096
	// movedBody is the length in bytes of a body that Envoy has surely kept whole,
	// whatever the versions of HTTP before and behind it.
	movedBody = 16 << 10
)

// errMoved says that Envoy shall send the request to the instance itself.
var errMoved = errors.New("moved to the instance")

// movable tells whether the request may last so long that its end here would be
// felt, and Envoy can send it again. before is how often it was moved already.
func (c *call) movable() (before int, ok bool) {
	if c.stays || c.options.Published == nil || c.id == "" || !mayLast(c.r) || !isKept(c.r) {
		return 0, false
	}
	most := movesOfOne
	if isSafe(c.r.Method) {
		most = 1
	}
	return c.movers.may(c.service, c.id, most, time.Now())
}

// isSafe tells whether Envoy's route for safe methods has a request.
func isSafe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// mayLast tells whether a request asks for something that may stay open: an
// upgrade, server-sent events, or a call whose kind nobody can tell before it ends.
func mayLast(r *http.Request) bool {
	kind := r.Header.Get("Content-Type")
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket") ||
		strings.Contains(r.Header.Get("Accept"), "text/event-stream") ||
		strings.HasPrefix(kind, "application/grpc") || strings.HasPrefix(kind, "application/connect+")
}

// isKept tells whether Envoy has all of the request that it has sent here, and will
// have it until it sends it again. Over HTTP/2 it has whatever the body's length,
// because nothing of a body is read while it is held: flow control lets Envoy take
// in no more than its route lets it keep (request_body_buffer_limit). HTTP/1 has no
// flow control of its own, so the body must be short.
func isKept(r *http.Request) bool {
	if r.ContentLength >= 0 && r.ContentLength <= movedBody {
		return true
	}
	return r.ProtoMajor == 2
}

// settles waits until Envoy knows the instance.
func (c *call) settles(ctx context.Context, before int) bool {
	ctx, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	if before > 0 {
		again := time.NewTimer(time.Duration(before) * moveAgain)
		defer again.Stop()
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
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
	minute int64      // that moves counts
	moves  map[polder.ServiceName]int
	seen   map[string]int // how often each was moved
	ring   []string       // of seen, in order; grows to movedKept, then next is overwritten
	next   int
}

func newMovers() *movers {
	return &movers{moves: map[polder.ServiceName]int{}, seen: map[string]int{}}
}

// may tells whether a request that may be moved so often at most may be moved
// now, notes that it is, and tells how often it was before.
func (m *movers) may(service polder.ServiceName, id string, most int, now time.Time) (before int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if minute := now.Unix() / 60; minute != m.minute {
		m.minute = minute
		clear(m.moves)
	}
	before = m.seen[id]
	if before >= most || m.moves[service] >= movesPerMinute {
		return before, false
	}
	m.moves[service]++
	m.seen[id]++
	if before > 0 {
		return before, true
	}
	if len(m.ring) < movedKept {
		m.ring = append(m.ring, id)
		return 0, true
	}
	delete(m.seen, m.ring[m.next])
	m.ring[m.next] = id
	m.next = (m.next + 1) % movedKept
	return 0, true
}
