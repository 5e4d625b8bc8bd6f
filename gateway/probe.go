package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/polder/polder/regions"
)

const (
	// probeEach and probeShare are how often each other peer is connected to: once
	// in probeEach, and in a large membership once in probeShare per peer, so that
	// a peer makes ten handshakes a second at most.
	probeEach  = 500 * time.Millisecond
	probeShare = 100 * time.Millisecond
	// probeAgain is the pause after a failure: it takes two in a row, so that one
	// lost packet is no evidence.
	probeAgain = 50 * time.Millisecond
	// probePatience is how long a handshake may take.
	probePatience = 900 * time.Millisecond
	// suspicion is how long a peer is suspected after the last failure.
	suspicion = 3 * time.Second
)

// probePeers connects to every other peer as passed-on connections do, and tells
// the map what comes of it, before the membership has agreed on anything. It is
// this peer's own evidence, and nobody else is told.
func (r *Region) probePeers(ctx context.Context) error {
	probes := map[string]context.CancelFunc{}
	var running sync.WaitGroup
	defer running.Wait()
	ticker := time.NewTicker(probeEach)
	defer ticker.Stop()
	ctx, stopAll := context.WithCancel(ctx)
	defer stopAll()
	for {
		alive := map[string]bool{}
		for _, p := range r.gossip.Snapshot().Peers {
			if p.Standing != regions.Alive || p.Row.Peer == r.options.Peer || p.Row.Address == "" {
				continue
			}
			alive[p.Row.Peer] = true
			if probes[p.Row.Peer] == nil {
				own, stop := context.WithCancel(ctx)
				probes[p.Row.Peer] = stop
				running.Go(func() { r.probePeer(own, p.Row.Peer) })
			}
		}
		for peer, stop := range probes {
			if !alive[peer] {
				stop()
				delete(probes, peer)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// probePeer connects to one peer, again and again until ctx ends.
func (r *Region) probePeer(ctx context.Context, peer string) {
	failures := 0
	for {
		began := time.Now()
		err := r.connectOnce(ctx, peer)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if failures > 1 {
				r.options.Log.Info("connections to the peer succeed again", "peer", peer)
			}
			failures = 0
			r.gossip.Trust(peer)
			if !pause(ctx, max(probeEach, probeShare*time.Duration(len(r.gossip.Snapshot().Peers)))-time.Since(began)) {
				return
			}
			continue
		}
		if failures++; failures >= 2 {
			r.gossip.Suspect(peer, time.Now().Add(suspicion))
		}
		if failures == 2 {
			r.options.Log.Warn("connections to the peer fail; others are preferred to it", "peer", peer, "reason", err)
		}
		wait := probeAgain
		if failures > 2 {
			wait = probeEach
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// connectOnce makes one handshake with a peer, at the address that it tells now.
func (r *Region) connectOnce(ctx context.Context, peer string) error {
	for _, p := range r.gossip.Snapshot().Peers {
		if p.Row.Peer != peer {
			continue
		}
		config, err := r.keys.peerIdentity().DialConfig(p.Row.Region, peer)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, probePatience)
		defer cancel()
		conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: config}).DialContext(ctx, "tcp", p.Row.Address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return nil // it is forgotten
}
