package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/regions"
	"github.com/polder/polder/regions/gossip"
)

const (
	// probeEach and probeShare are how often each other peer is connected to: once
	// in probeEach, and in a large membership once in probeShare per peer, so that
	// a peer makes forty handshakes a second at most.
	probeEach  = 250 * time.Millisecond
	probeShare = 25 * time.Millisecond
	// probeLimit ends a handshake that takes too long, and with probeEach bounds how
	// many are under way at a time.
	probeLimit = time.Second
	// probeStall is by how much later than planned a prober runs when the process
	// itself, or its machine, had no time.
	probeStall = 200 * time.Millisecond
	// suspicion is how long a peer is suspected after the last word against it.
	suspicion = 3 * time.Second
)

// membership is what a prober needs of the gossip.
type membership interface {
	Snapshot() *gossip.Snapshot
	Suspect(peer string, until time.Time)
	Trust(peer string)
}

// prober connects to every other peer as passed-on connections do, and tells the map
// what comes of it and what Envoy says of its own connections, before the membership
// has agreed on anything. It is this peer's own evidence, and nobody else is told.
type prober struct {
	own        string // name of this peer
	membership membership
	identity   func() authority.Identity
	log        *slog.Logger

	mu    sync.Mutex
	lanes map[string]chan struct{} // by peer that is probed, capacity 1: Envoy has given it up
}

func newProber(own string, m membership, identity func() authority.Identity, log *slog.Logger) *prober {
	return &prober{own: own, membership: m, identity: identity, log: log, lanes: map[string]chan struct{}{}}
}

// run probes all living peers until ctx ends.
func (p *prober) run(ctx context.Context) error {
	stops := map[string]context.CancelFunc{}
	var running sync.WaitGroup
	defer running.Wait()
	ticker := time.NewTicker(probeEach)
	defer ticker.Stop()
	ctx, stopAll := context.WithCancel(ctx)
	defer stopAll()
	for {
		alive := map[string]bool{}
		for _, peer := range p.membership.Snapshot().Peers {
			if peer.Standing != regions.Alive || peer.Row.Peer == p.own || peer.Row.Address == "" {
				continue
			}
			name := peer.Row.Peer
			alive[name] = true
			if stops[name] == nil {
				own, stop := context.WithCancel(ctx)
				stops[name] = stop
				lane := p.open(name)
				running.Go(func() { p.probe(own, name, lane) })
			}
		}
		for name, stop := range stops {
			if !alive[name] {
				stop()
				delete(stops, name)
				p.close(name)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *prober) open(peer string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	lane := make(chan struct{}, 1)
	p.lanes[peer] = lane
	return lane
}

func (p *prober) close(peer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lanes, peer)
}

// givenUp hears that Envoy sends no more connections to the peer for now.
func (p *prober) givenUp(peer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.lanes[peer] <- struct{}{}:
	default: // it has been told already, or nobody probes the peer
	}
}

// handshaken is how a handshake ended.
type handshaken struct {
	number uint64
	err    error
}

// probe makes handshakes with one peer on a schedule that does not wait for answers,
// until ctx ends. Its goroutine owns the evidence.
func (p *prober) probe(ctx context.Context, peer string, lane <-chan struct{}) {
	var (
		evidence  regions.Evidence
		suspected bool
		reason    error
		inFlight  int
		running   sync.WaitGroup
	)
	defer running.Wait()
	answers := make(chan handshaken, int(probeLimit/probeEach)+2)
	begin := func() {
		if inFlight == cap(answers) {
			return
		}
		inFlight++
		number := evidence.Begin(time.Now())
		running.Go(func() { answers <- handshaken{number, p.connectOnce(ctx, peer)} })
	}
	begin()
	next := time.NewTimer(p.pace()) // the next handshake
	defer next.Stop()
	overdue := time.NewTimer(0) // when silence begins to mean something
	defer overdue.Stop()
	planned := time.Now().Add(p.pace()) // of the next handshake
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			if now := time.Now(); now.Sub(planned) > probeStall {
				evidence.Paused(now)
			}
			begin()
			next.Reset(p.pace())
			planned = time.Now().Add(p.pace())
		case <-lane:
			evidence.GivenUp(time.Now())
			reason = errors.New("Envoy gives up connecting to it")
			begin()
		case a := <-answers:
			inFlight--
			if a.err == nil {
				evidence.Succeeded(a.number, time.Now())
			} else {
				evidence.Failed(a.number, errors.Is(a.err, syscall.ECONNREFUSED))
				reason = a.err
			}
		case <-overdue.C:
		}
		now := time.Now()
		switch was := suspected; {
		case evidence.Suspects(now):
			suspected = true
			p.membership.Suspect(peer, now.Add(suspicion))
			if !was {
				p.log.Warn("connections to the peer fail; others are preferred to it", "peer", peer, "reason", saidOr(reason))
			}
		case was:
			suspected, reason = false, nil
			p.membership.Trust(peer)
			p.log.Info("connections to the peer succeed again", "peer", peer)
		}
		if at := evidence.Next(now); !at.IsZero() {
			overdue.Reset(time.Until(at))
		}
	}
}

// saidOr is why a peer is suspected; what is only overdue has not failed yet.
func saidOr(err error) error {
	if err == nil {
		return errors.New("it does not answer")
	}
	return err
}

// pace is the time from one handshake with a peer to the next.
func (p *prober) pace() time.Duration {
	return max(probeEach, probeShare*time.Duration(len(p.membership.Snapshot().Peers)))
}

// connectOnce makes one handshake with a peer, at the address that it tells now.
func (p *prober) connectOnce(ctx context.Context, peer string) error {
	for _, known := range p.membership.Snapshot().Peers {
		if known.Row.Peer == peer {
			ctx, cancel := context.WithTimeout(ctx, probeLimit)
			defer cancel()
			return shakeHands(ctx, p.identity(), known.Row)
		}
	}
	return nil // it is forgotten
}

func shakeHands(ctx context.Context, own authority.Identity, with polder.PeerRow) error {
	config, err := own.DialConfig(with.Region, with.Peer)
	if err != nil {
		return err
	}
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: config}).DialContext(ctx, "tcp", with.Address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// at names the peers that can be reached at an address, as Envoy names it: an IP
// address and a port.
func (p *prober) at(ctx context.Context, address string) []string {
	var names []string
	for _, peer := range p.membership.Snapshot().Peers {
		if peer.Row.Peer != p.own && peer.Row.Address != "" && (peer.Row.Address == address || slices.Contains(resolved(ctx, peer.Row.Address), address)) {
			names = append(names, peer.Row.Peer)
		}
	}
	return names
}

// resolved gives the addresses behind a host:port that names no IP address.
func resolved(ctx context.Context, address string) []string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || net.ParseIP(host) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil // whoever cannot resolve it is not connected to either; the handshakes tell
	}
	for i, ip := range ips {
		ips[i] = net.JoinHostPort(ip, port)
	}
	return ips
}
