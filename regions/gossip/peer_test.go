package gossip

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

// key makes a key that is easy to tell from others.
func key(n byte) []byte { return bytes.Repeat([]byte{n}, KeyBytes) }

var threeRegions = regions.Disclosure{
	Regions: []polder.RegionName{"fr", "nl", "pl"},
	Permitted: func(s polder.ServiceName, r polder.RegionName) bool {
		return !strings.HasPrefix(string(s), "pinned-") || strings.HasSuffix(string(s), "-"+string(r))
	},
}

// testSigner signs as a peer of a region. Whoever knows another secret signs in
// vain.
type testSigner struct {
	peer   string
	region polder.RegionName
	secret string
}

func (s testSigner) sum(credential string, message []byte) []byte {
	sum := hmac.New(sha256.New, []byte(s.secret+" "+credential))
	sum.Write(message)
	return sum.Sum(nil)
}

func (s testSigner) Sign(message []byte) (credential, signature []byte, err error) {
	who := s.peer + " " + string(s.region)
	return []byte(who), s.sum(who, message), nil
}

func (s testSigner) Verify(credential, signature, message []byte) (string, polder.RegionName, error) {
	peer, region, _ := strings.Cut(string(credential), " ")
	if !hmac.Equal(signature, s.sum(string(credential), message)) {
		return "", "", errors.New("the signature is wrong")
	}
	return peer, polder.RegionName(region), nil
}

// sealedBy is a row as a signer sends it.
func sealedBy(s testSigner, row polder.PeerRow) []byte {
	body := regions.Encode(row)
	credential, signature, _ := s.Sign(body)
	return seal(credential, signature, body)
}

// sealedRow is a row as its peer sends it.
func sealedRow(row polder.PeerRow) []byte {
	return sealedBy(testSigner{row.Peer, row.Region, "secret"}, row)
}

// peer is a Gossip that runs.
type peer struct {
	*Gossip
	t      *testing.T
	stop   context.CancelFunc
	result chan error
}

// options are those of a peer on the loopback interface; its region is what its
// name begins with.
func options(t *testing.T, name string, epoch uint64, join ...string) Options {
	return Options{
		Peer: name, Region: polder.RegionName(name[:2]), Epoch: epoch,
		Bind: "127.0.0.1:0", Join: join, Keys: [][]byte{key(1)},
		Signer:     testSigner{name, polder.RegionName(name[:2]), "secret"},
		Disclosure: threeRegions, Log: slog.New(slog.NewTextHandler(newTestWriter(t), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// testWriter shows logs with the test that they belong to, and only if it fails.
// memberlist's timers may have a word to say a moment after the test has ended.
type testWriter struct {
	mu   sync.Mutex
	t    *testing.T
	over bool
}

func newTestWriter(t *testing.T) *testWriter {
	w := &testWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.over = true
	})
	return w
}

func (w *testWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.t.Output().Write(b)
	}
	return len(b), nil
}

// run starts a peer that ends with the test at the latest.
func run(t *testing.T, o Options) *peer {
	t.Helper()
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &peer{Gossip: g, t: t, stop: cancel, result: make(chan error, 1)}
	go func() { p.result <- g.Run(ctx) }()
	t.Cleanup(sync.OnceFunc(func() { p.end() }))
	return p
}

// end stops the peer as Ctrl-C does, and waits for it.
func (p *peer) end() {
	p.t.Helper()
	p.stop()
	select {
	case err := <-p.result:
		p.result <- nil
		if err != nil {
			p.t.Errorf("%s ended with %v", p.options.Peer, err)
		}
	case <-time.After(20 * time.Second):
		p.t.Fatalf("%s does not end", p.options.Peer)
	}
}

func (p *peer) at() string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	address, err := p.Address(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	return address
}

func (p *peer) say(row polder.PeerRow) {
	p.t.Helper()
	if err := p.Publish(row, threeRegions); err != nil {
		p.t.Fatal(err)
	}
}

// await waits until the peer's snapshot is as wanted, and says what was wanted
// if that takes too long.
func (p *peer) await(what string, ok func(*Snapshot) bool) *Snapshot {
	p.t.Helper()
	deadline := time.NewTimer(60 * time.Second)
	defer deadline.Stop()
	look := time.NewTicker(50 * time.Millisecond) // several tests' goroutines may share Changes
	defer look.Stop()
	for {
		if s := p.Snapshot(); ok(s) {
			return s
		}
		select {
		case <-p.Changes():
		case <-look.C:
		case <-deadline.C:
			p.t.Fatalf("%s never saw %s; it sees:\n%s", p.options.Peer, what, describe(p.Snapshot()))
		}
	}
}

// until waits for something that no snapshot shows.
func (p *peer) until(what string, ok func() bool) {
	p.t.Helper()
	p.await(what, func(*Snapshot) bool { return ok() })
}

func describe(s *Snapshot) string {
	var b strings.Builder
	for _, p := range s.Peers {
		fmt.Fprintf(&b, "%+v\n", p)
	}
	fmt.Fprintf(&b, "%+v joined %t ready %t", s.View, s.Joined, s.Ready)
	return b.String()
}

func row(s *Snapshot, name string) (regions.Peer, bool) {
	for _, p := range s.Peers {
		if p.Row.Peer == name {
			return p, true
		}
	}
	return regions.Peer{}, false
}

// healthy wants every named peer to be usable.
func healthy(names ...string) func(*Snapshot) bool {
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}
	return func(s *Snapshot) bool {
		found := 0
		for _, p := range s.Peers {
			if p.Usable && wanted[p.Row.Peer] {
				found++
			}
		}
		return found == len(wanted)
	}
}

func unhealthy(name string) func(*Snapshot) bool {
	return func(s *Snapshot) bool {
		p, ok := row(s, name)
		return ok && !p.Usable
	}
}

func digest(name, want string) func(*Snapshot) bool {
	return func(s *Snapshot) bool {
		p, ok := row(s, name)
		return ok && p.Row.Digest == want
	}
}

// checkLeaks must come first in a test, so that it looks last. memberlist's own
// goroutines end within a probe's time after Run has returned. It is not for
// tests that run beside others: TestMain looks after those.
func checkLeaks(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if err := noLeaks(ignore); err != nil {
			t.Error(err)
		}
	})
}

func noLeaks(options ...goleak.Option) error {
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		err := goleak.Find(options...)
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-deadline.C:
			return err
		}
	}
}

// TestMain lets more tests run side by side than there are processors: those on
// real sockets wait for most of their time.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := noLeaks(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
