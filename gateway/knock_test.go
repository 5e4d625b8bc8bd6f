package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

// TestQueriesReachTheHome asks for the address of services whose callers go on to
// another peer: its home hears of it, once a minute, unless it is known to be warm.
func TestQueriesReachTheHome(t *testing.T) {
	elsewhere := started("billing", time.Minute)
	elsewhere.Residency.Allow = []polder.Place{"nl"}
	elsewhere.Scale.Prewarm = polder.PrewarmAuto
	here := started("catalog", time.Minute)
	here.Scale.Prewarm = polder.PrewarmAuto
	quiet := started("deaf", time.Minute)
	quiet.Residency.Allow = []polder.Place{"nl"}
	inWorld(t, []polder.Service{elsewhere, here, quiet}, func(w *world) {
		var told []polder.Host
		w.r.do(w.ctx, func(time.Time) { w.r.knock = func(h polder.Host) { told = append(told, h) } })
		ask := func(want int, why string) {
			t.Helper()
			for _, name := range []polder.ServiceName{"billing", "catalog", "deaf", "nobody"} {
				for range 5 {
					w.r.Queried(w.ctx, name)
				}
				w.r.Hello(w.ctx, name) // reaches the home by itself
			}
			w.r.do(w.ctx, func(time.Time) {
				if len(told) != want || slices.ContainsFunc(told, func(h polder.Host) bool { return h != "billing.example.com" }) {
					t.Errorf("%s: told of %v, want billing %d times", why, told, want)
				}
			})
		}
		around := surroundings{health: polder.RegionHealth{"fr": true, "nl": true}, peerOf: map[polder.RegionName][]string{"nl": {"192.0.2.1:7443"}}}
		w.r.SetSurroundings(w.ctx, around)
		ask(1, "five queries at once")
		after(knockEvery - time.Second)
		ask(1, "within a minute")
		after(2 * time.Second)
		ask(2, "a minute later")
		around.agreeing = []regions.Peer{{Row: polder.PeerRow{Peer: "nl-1", Region: "nl", Warm: []polder.ServiceName{"billing"}}, Usable: true}}
		w.r.SetSurroundings(w.ctx, around)
		after(2 * knockEvery)
		ask(2, "while the home is warm")
	})
}

// TestKnockIsAClientHello: what is told is a ClientHello with the service's name, or
// one below a wildcard; nothing waits for an entrypoint that does not answer, and
// what is too much is dropped.
func TestKnockIsAClientHello(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 2)
	served := make(chan struct{})
	go func() {
		defer close(served)
		for range cap(heard) {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			tls.Server(conn, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				heard <- h.ServerName
				return nil, net.ErrClosed
			}}).Handshake() // fails, once it has heard
			conn.Close()
		}
	}()
	k := newKnocker(netip.MustParseAddrPort(listener.Addr().String()))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	k.offer("billing.example.com")
	k.offer("*.catalog.example.com")
	got := []string{<-heard, <-heard}
	slices.Sort(got)
	if want := []string{"billing.example.com", "www.catalog.example.com"}; !slices.Equal(got, want) {
		t.Errorf("heard %v, want %v", got, want)
	}
	<-served
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	listener.Close()
	for range 3 * knockQueue { // nobody takes them, and nobody waits
		k.offer("billing.example.com")
	}
	if len(k.hosts) != knockQueue {
		t.Errorf("%d wait, want %d", len(k.hosts), knockQueue)
	}
	if any := newKnocker(netip.MustParseAddrPort("[::]:8443")); any.address != netip.MustParseAddrPort("127.0.0.1:8443") {
		t.Errorf("an entrypoint on all addresses is reached at %s", any.address)
	}
}
