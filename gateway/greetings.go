package gateway

import (
	"sync"
	"time"

	"github.com/polder/polder"
)

// greetingEvery is how often one service's ClientHellos are passed on: a service
// wakes once, however many greet it meanwhile.
const greetingEvery = 50 * time.Millisecond

// greetings thins out what Envoys tell of ClientHellos: unlike questions for
// keys, these come for every connection, also to services that are awake. Safe
// for concurrent use.
type greetings struct {
	mu   sync.Mutex
	last map[polder.ServiceName]time.Time // bounded by the services that are served
}

// due tells whether to pass a service's ClientHello on.
func (g *greetings) due(service polder.ServiceName, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if last, ok := g.last[service]; ok && now.Sub(last) < greetingEvery {
		return false
	}
	if g.last == nil {
		g.last = map[polder.ServiceName]time.Time{}
	}
	g.last[service] = now
	return true
}

// forget drops services that are not served any more.
func (g *greetings) forget(services []polder.ServiceName) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, service := range services {
		delete(g.last, service)
	}
}

// greeted is told of a ClientHello. It never waits: Envoy's answer does not
// depend on it, and a reconciler with a full queue has more to do than wake
// whom a request will wake as well.
func (r *Region) greeted(name string) {
	service, ok := r.keys.owns(name)
	if !ok || !r.greetings.due(service, time.Now()) {
		return
	}
	r.reconciler.offer(func(now time.Time) { r.reconciler.announce(service, signHello, now) })
}
