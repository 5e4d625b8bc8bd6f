package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

const (
	// knockEvery is how often one service's home is told that callers may come: the
	// home itself ignores those whom no request follows, for longer and longer.
	knockEvery = time.Minute
	// knockLimit ends a handshake that takes too long: by then the caller is there.
	knockLimit = 5 * time.Second
	// knockers is how many handshakes are under way at a time, and knockQueue how
	// many more wait; what is beyond is dropped.
	knockers, knockQueue = 4, 64
)

// knocker tells homes elsewhere that callers of their services may come. It does as
// such a caller does: it connects to this gateway's own entrypoint, sends a
// ClientHello with the service's name, and goes. So the word takes the way that the
// caller's own connection would take, unopened, inside the peers' mTLS, to where the
// law sends callers and nowhere else; and the home hears what it hears of any caller.
type knocker struct {
	address netip.AddrPort // of the entrypoint
	hosts   chan string
}

func newKnocker(entrypoint netip.AddrPort) *knocker {
	if entrypoint.Addr().IsUnspecified() {
		entrypoint = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), entrypoint.Port())
	}
	return &knocker{address: entrypoint, hosts: make(chan string, knockQueue)}
}

// offer queues a host. It never waits.
func (k *knocker) offer(host polder.Host) {
	select {
	case k.hosts <- strings.Replace(string(host), "*", "www", 1): // any name below a wildcard
	default:
	}
}

// Run knocks until the context ends.
func (k *knocker) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for range knockers {
		group.Go(func() error {
			for {
				select {
				case host := <-k.hosts:
					k.knock(ctx, host)
				case <-ctx.Done():
					return nil
				}
			}
		})
	}
	return group.Wait()
}

// knock makes one handshake. Whether the certificate is good is the caller's
// question: nothing is sent after the ClientHello, and by its end the home has heard.
func (k *knocker) knock(ctx context.Context, host string) {
	ctx, cancel := context.WithTimeout(ctx, knockLimit)
	defer cancel()
	dialer := tls.Dialer{NetDialer: &net.Dialer{}, Config: &tls.Config{ServerName: host}}
	if conn, err := dialer.DialContext(ctx, "tcp", k.address.String()); err == nil {
		conn.Close()
	}
}

// passOn lets a sign of callers reach the service's home elsewhere, unless the home
// is known to be warm or was told of late. A ClientHello reaches it by itself.
func (r *reconciler) passOn(s *service, now time.Time) {
	passes := s.elsewhere() || s.approved.Verdict() == law.Pass
	if !passes || r.knock == nil || s.spec.Scale.Prewarm == polder.PrewarmOff || now.Sub(s.passedOn) < knockEvery || r.warmElsewhere(s) {
		return
	}
	s.passedOn = now
	r.knock(s.spec.Hosts[0])
}

// warmElsewhere tells whether a peer that a caller may be sent to is known to have
// an instance of the service.
func (r *reconciler) warmElsewhere(s *service) bool {
	for _, p := range r.around.agreeing {
		if _, warm := slices.BinarySearch(p.Row.Warm, s.spec.Name); warm && p.Usable && p.Row.Peer != r.peer {
			return true
		}
	}
	return false
}
