package activator

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// Whoever connects for the others may leave; that must not be their failure.
func TestMakerOfAConnectionThatLeavesTakesNobodyAlong(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddrPort(listener.Addr().String())
	p, err := newPool()
	if err != nil {
		t.Fatal(err)
	}
	leases := func() (n int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, s := range p.conns[address] {
			n += s.leases
		}
		return n
	}
	type leased struct {
		link
		error
	}
	got := make(chan leased, 8)
	lease := func(ctx context.Context, want int) {
		t.Helper()
		go func() {
			l, err := p.lease(ctx, address)
			got <- leased{l, err}
		}()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for deadline := time.After(time.Minute); leases() < want; {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("%d leases, want %d", leases(), want)
			}
		}
	}
	next := func() leased {
		t.Helper()
		select {
		case l := <-got:
			return l
		case <-time.After(time.Minute):
			t.Fatal("a lease is neither given nor refused")
			panic("unreachable")
		}
	}

	// The kernel accepts, and nobody greets yet.
	maker, leave := context.WithCancel(t.Context())
	lease(maker, 1)
	const others = 5
	for i := range others {
		lease(t.Context(), 2+i)
	}
	leave()
	if l := next(); !errors.Is(l.error, context.Canceled) {
		t.Errorf("the one who left got %v", l.error)
	}
	server := &http.Server{Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(listener)
	}()
	defer func() {
		server.Close()
		<-done
	}()
	var links []link
	for range others {
		l := next()
		if l.error != nil {
			t.Fatalf("another got %v", l.error)
		}
		links = append(links, l.link)
	}
	if n := leases(); n != others {
		t.Errorf("%d places are taken by %d", n, others)
	}
	for _, l := range links {
		l.Close()
		l.Close() // a second time gives nothing back
	}
	if len(p.conns) != 0 {
		t.Errorf("connections without a request are kept: %v", p.conns)
	}
}
