package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/regions"
	"github.com/polder/polder/regions/gossip"
	"github.com/polder/polder/regions/law"
)

// heard is a membership of fixed peers that notes what it is told of them.
type heard struct {
	peers []regions.Peer

	mu        sync.Mutex
	suspected map[string]bool
}

func (h *heard) Snapshot() *gossip.Snapshot { return &gossip.Snapshot{Peers: h.peers} }

func (h *heard) Suspect(peer string, until time.Time) { h.set(peer, until.After(time.Now())) }

func (h *heard) Trust(peer string) { h.set(peer, false) }

func (h *heard) set(peer string, suspected bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.suspected == nil {
		h.suspected = map[string]bool{}
	}
	h.suspected[peer] = suspected
}

func (h *heard) suspects(peer string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.suspected[peer]
}

func lives(peer string, region polder.RegionName, address string) regions.Peer {
	return regions.Peer{Standing: regions.Alive, Row: polder.PeerRow{Peer: peer, Region: region, Address: address, Sequence: 1}}
}

// entrance is where a peer takes connections: it makes handshakes, or says nothing.
type entrance struct {
	net.Listener
	silent chan bool // capacity 1: how it is
	ended  chan struct{}
}

func openEntrance(t *testing.T, at string, as authority.Identity) *entrance {
	t.Helper()
	own, err := as.TLS()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	e := &entrance{Listener: l, silent: make(chan bool, 1), ended: make(chan struct{})}
	e.silent <- false
	go e.keep(&tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert})
	t.Cleanup(e.shut)
	return e
}

func (e *entrance) keep(config *tls.Config) {
	defer close(e.ended)
	var open sync.WaitGroup
	defer open.Wait()
	var silent []net.Conn
	defer func() {
		for _, c := range silent {
			c.Close()
		}
	}()
	for {
		c, err := e.Accept()
		if err != nil {
			return
		}
		is := <-e.silent
		e.silent <- is
		if is {
			silent = append(silent, c)
			continue
		}
		open.Go(func() {
			defer c.Close()
			io.Copy(io.Discard, tls.Server(c, config))
		})
	}
}

func (e *entrance) shut() { e.Close(); <-e.ended }

func (e *entrance) be(silent bool) { <-e.silent; e.silent <- silent }

// TestProber holds the prober against a peer that hangs, is gone, and comes back,
// and against Envoy's word.
func TestProber(t *testing.T) {
	ca, err := authority.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	identity := func(region polder.RegionName, peer string) authority.Identity {
		issuer, err := ca.Issuer(region, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		own, err := issuer.Peer(peer)
		if err != nil {
			t.Fatal(err)
		}
		return own
	}
	nl, pl := openEntrance(t, "127.0.0.1:0", identity("nl", "nl-1")), openEntrance(t, "127.0.0.1:0", identity("pl", "pl-1"))
	h := &heard{peers: []regions.Peer{
		lives("fr-1", "fr", "127.0.0.1:1"), lives("nl-1", "nl", nl.Addr().String()), lives("pl-1", "pl", pl.Addr().String()),
		lives("pl-2", "pl", nl.Addr().String()), // somebody else is at its address
	}}
	own := identity("fr", "fr-1")
	p := newProber("fr-1", h, func() authority.Identity { return own }, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx) }()
	defer func() { stop(); <-ended }()
	eventually(t, "somebody else at a peer's address is suspected", func() bool { return h.suspects("pl-2") })
	if h.suspects("nl-1") || h.suspects("fr-1") {
		t.Error("peers are suspected that answer, or that are oneself")
	}
	nl.be(true)
	eventually(t, "a peer that hangs is suspected", func() bool { return h.suspects("nl-1") })
	nl.be(false)
	eventually(t, "a peer that answers again is trusted", func() bool { return !h.suspects("nl-1") })
	at := nl.Addr().String()
	nl.shut()
	eventually(t, "a peer that is gone is suspected", func() bool { return h.suspects("nl-1") })
	openEntrance(t, at, identity("nl", "nl-1"))
	eventually(t, "a peer that has come back is trusted", func() bool { return !h.suspects("nl-1") })
	p.givenUp("stranger")
	h.mu.Lock()
	delete(h.suspected, "pl-1")
	h.mu.Unlock()
	p.givenUp("pl-1")
	eventually(t, "Envoy's word counts, until the next handshake", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		suspected, told := h.suspected["pl-1"]
		return told && !suspected
	})
}

// passingTo is a region whose real Envoy passes callers of one service on to these
// peers of another.
func passingTo(t *testing.T, peers ...string) *passing {
	t.Helper()
	services := []polder.Service{{Name: "passed", Hosts: []polder.Host{"passed.example.com"}, Timeout: time.Minute,
		Residency: polder.Residency{Allow: []polder.Place{"fr"}, Elsewhere: polder.PassThrough, Failover: polder.Failover{Class: polder.FailoverClosed}},
		Endpoints: map[polder.RegionName][]netip.AddrPort{"fr": {netip.MustParseAddrPort("127.0.0.1:1")}}}} // nobody comes so far
	ca, err := authority.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	nl := &passing{place: newPlace(t, "nl", ca, services)}
	nl.node.Ejections = filepath.Join(nl.dir, "ejections.log")
	nl.node.PeerOf = map[polder.RegionName][]string{"fr": peers, "nl": {nl.node.Peer.String()}}
	nl.node.RTT = map[polder.RegionName]time.Duration{"fr": time.Millisecond}
	nl.publish(t, map[string]law.Home{}, services...)
	nl.startEnvoy(t)
	return nl
}

// callPassed calls until the test ends; the channel is closed when the call ended by
// itself.
func (p *passing) callPassed(t *testing.T) <-chan struct{} {
	t.Helper()
	caller, err := net.Dial("tcp", p.node.HTTPS.String())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tls.Client(caller, &tls.Config{ServerName: "passed.example.com", InsecureSkipVerify: true}).Handshake() // nobody answers it
	}()
	t.Cleanup(func() { caller.Close(); <-ended })
	return ended
}

// TestEnvoyTellsWhomItGivesUp lets a real Envoy pass callers on to peers that hang:
// it comes to the prober's ears by what Envoy writes.
func TestEnvoyTellsWhomItGivesUp(t *testing.T) {
	stuck, _ := stuckPeer(t)
	other, _ := stuckPeer(t) // one of the two is given up: the last one never is
	nl := passingTo(t, stuck, other)
	p := newProber("nl-1", &heard{peers: []regions.Peer{lives("nl-1", "nl", nl.node.Peer.String()), lives("fr-1", "fr", stuck), lives("fr-2", "fr", other)}}, nil, slog.New(slog.DiscardHandler))
	first, second := p.open("fr-1"), p.open("fr-2")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.watchEjections(ctx, nl.node.Ejections) }()
	defer func() { stop(); <-ended }()
	nl.callPassed(t)
	select {
	case <-first:
	case <-second:
	case <-time.After(patience):
		said, _ := os.ReadFile(nl.node.Ejections)
		t.Fatalf("nobody heard that Envoy gave a peer up; the file holds %q", said)
	}
}

// TestTheLastPeerIsTriedOn: a caller whose only peer takes no connection is not closed
// after the second try, as it would be if that peer were given up.
func TestTheLastPeerIsTriedOn(t *testing.T) {
	stuck, reached := stuckPeer(t)
	ended := passingTo(t, stuck).callPassed(t)
	for try := range 5 {
		select {
		case <-reached:
		case <-ended:
			t.Fatalf("the caller was closed after %d tries", try)
		case <-time.After(patience):
			t.Fatalf("no try follows the %d that were made", try)
		}
	}
}

func TestEjectionsAreReadOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ejections.log")
	line := func(address, action string) string {
		return fmt.Sprintf(`{"type":"CONSECUTIVE_LOCAL_ORIGIN_FAILURE","cluster_name":"pass/fr","upstream_url":"%s","action":"%s"}`+"\n", address, action)
	}
	write := func(text string) {
		t.Helper()
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	e := ejections{tail{file: file}}
	wants := func(why string, addresses ...string) {
		t.Helper()
		found, err := e.read()
		var got []string
		for _, f := range found {
			got = append(got, f.Address)
		}
		if err != nil || strings.Join(got, " ") != strings.Join(addresses, " ") {
			t.Errorf("%s: %v, %v; want %v", why, got, err, addresses)
		}
	}
	wants("no file yet")
	write(line("10.0.0.1:7443", "EJECT") + line("10.0.0.2:7443", "UNEJECT") + "nonsense\n")
	wants("one is given up", "10.0.0.1:7443")
	wants("nothing new")
	half := line("10.0.0.3:7443", "EJECT")
	write(half[:20])
	wants("half a line")
	write(half[20:])
	wants("the other half", "10.0.0.3:7443")
	write(strings.Repeat(line("10.0.0.4:7443", "UNEJECT"), maxEjections/100))
	wants("much that is no news")
	if info, err := os.Stat(file); err != nil || info.Size() != 0 {
		t.Errorf("the file is not bounded: %v, %v", info.Size(), err)
	}
	write(line("10.0.0.5:7443", "EJECT"))
	wants("the file began anew", "10.0.0.5:7443")
}
