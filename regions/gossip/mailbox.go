package gossip

import (
	"maps"
	"sync"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

const (
	maxMessages     = 1024     // waiting messages
	maxMessageBytes = 32 << 20 // of waiting messages together: two full states and some
)

// mailbox is what memberlist's goroutines and callers leave for the loop. No
// method blocks for longer than it takes to copy. Only messages can be many;
// they are bounded in number and bytes. Everything else keeps the latest word
// per peer.
type mailbox struct {
	wake chan struct{} // capacity 1: there is something to take

	mu       sync.Mutex
	messages [][]byte
	bytes    int
	rest     letters
}

// letters is all but the messages.
type letters struct {
	members   map[string]member        // latest word of the failure detector
	rtts      map[string]time.Duration // latest sample
	evidence  map[string]time.Time     // suspected until; zero: trusted again
	published *publication
	joined    bool // a join of ours succeeded, and its rows are among the messages
	alone     bool // there is nobody to join
}

// member is a peer as memberlist knows it.
type member struct {
	alive   bool
	address string // host:port of its gossip
	life    life
}

type publication struct {
	row        polder.PeerRow
	disclosure regions.Disclosure
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// put adds a copy of a message. It tells whether there was room.
func (b *mailbox) put(message []byte) bool {
	b.mu.Lock()
	room := len(b.messages) < maxMessages && b.bytes+len(message) <= maxMessageBytes
	if room {
		b.messages = append(b.messages, append([]byte(nil), message...))
		b.bytes += len(message)
	}
	b.mu.Unlock()
	b.signal()
	return room
}

// leave changes the letters.
func (b *mailbox) leave(write func(*letters)) {
	b.mu.Lock()
	write(&b.rest)
	b.mu.Unlock()
	b.signal()
}

func (b *mailbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default: // it has been told already
	}
}

// take empties the mailbox.
func (b *mailbox) take() ([][]byte, letters) {
	b.mu.Lock()
	defer b.mu.Unlock()
	messages, rest := b.messages, b.rest
	b.messages, b.bytes, b.rest = nil, 0, letters{}
	return messages, rest
}

// set writes into a map that may not exist yet.
func set[V any](m *map[string]V, key string, value V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = value
}

// roster is who is admitted, as the callbacks need to know it at once. It is
// safe for concurrent use.
type roster struct {
	mu    sync.Mutex
	alive map[string]polder.RegionName // own peer excluded
	known map[polder.RegionName]bool   // regions of the configuration
}

func (r *roster) learn(d regions.Disclosure) {
	known := map[polder.RegionName]bool{}
	for _, name := range d.Regions {
		known[name] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = known
}

func (r *roster) knows(region polder.RegionName) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[region]
}

// room tells whether the peer is known already or may still be added.
func (r *roster) room(peer string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.alive[peer]
	return ok || len(r.alive) < regions.MaxPeers-1
}

func (r *roster) set(peer string, m member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alive == nil {
		r.alive = map[string]polder.RegionName{}
	}
	if m.alive {
		r.alive[peer] = m.life.region
	} else {
		delete(r.alive, peer)
	}
}

func (r *roster) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.alive)
}

// regions are those that have a live peer.
func (r *roster) regions() []polder.RegionName {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[polder.RegionName]bool{}
	for _, region := range r.alive {
		seen[region] = true
	}
	names := make([]polder.RegionName, 0, len(seen))
	for region := range maps.Keys(seen) {
		names = append(names, region)
	}
	return names
}
