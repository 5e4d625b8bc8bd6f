package gateway

import (
	"context"
	"time"

	"github.com/polder/polder"
)

const (
	// helloGrace is how long a request may take to follow its ClientHello.
	helloGrace = 30 * time.Second
	// helloPenalty is how long ClientHellos are ignored after one that no request
	// followed; it doubles each time, up to helloPenaltyMax. Scanners greet every
	// name and ask for nothing.
	helloPenalty    = time.Minute
	helloPenaltyMax = time.Hour
)

// hello is what the reconciler remembers of ClientHellos, or of DNS queries, for a
// sleeping service.
type hello struct {
	since  time.Time // of the one whose request has not come yet; zero for none
	misses int       // in a row
	deaf   time.Time // until then they are ignored
}

// heard takes in a ClientHello, and tells whether it announces a request.
func (h *hello) heard(now time.Time) bool {
	h.expire(now)
	if now.Before(h.deaf) {
		return false
	}
	if h.since.IsZero() {
		h.since = now
	}
	return true
}

// followed notes that a request came.
func (h *hello) followed() { *h = hello{} }

// expire notes that none came in time.
func (h *hello) expire(now time.Time) {
	if h.since.IsZero() || now.Sub(h.since) < helloGrace {
		return
	}
	h.since = time.Time{}
	h.deaf = now.Add(min(helloPenalty<<min(h.misses, 10), helloPenaltyMax))
	h.misses++
}

// Hello tells that the ClientHello of a caller has arrived, whose request will
// follow within a round trip or two: the service wakes in the meantime. Where keys
// come on demand, Envoy asks for the key of a service that sleeps, and of no
// other, so this costs nothing while a service is awake.
func (r *reconciler) Hello(ctx context.Context, name polder.ServiceName) {
	r.announced(ctx, name, signHello)
}

func signHello(s *service) *hello { return &s.hello }

// heardHello finds whose name an Envoy asks the key for.
func (r *Region) heardHello(name string) {
	if service, ok := r.keys.owns(name); ok {
		r.reconciler.Hello(r.context(), service)
	}
}

// fellAsleep takes a sleeping service's key out of Envoy's memory. The next
// ClientHello brings it back, and wakes the service.
func (r *Region) fellAsleep(service polder.ServiceName) {
	for _, s := range r.servers() {
		var names []string
		for _, name := range s.SecretNames() {
			if owner, ok := r.keys.owns(name); ok && owner == service {
				names = append(names, name)
			}
		}
		s.Withdraw(names...)
	}
}
