package gossip

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/polder/polder"
	"github.com/polder/polder/internal/faketime"
	"github.com/polder/polder/regions"
)

func TestOptionsNameEveryFault(t *testing.T) {
	tests := map[string]struct {
		change func(*Options)
		want   []string // parts of the one error; none means no error
	}{
		"as they should be":    {func(*Options) {}, nil},
		"WAN":                  {func(o *Options) { o.Profile = WAN }, nil},
		"several keys":         {func(o *Options) { o.Keys = [][]byte{key(1), key(2)} }, nil},
		"no key":               {func(o *Options) { o.Keys = nil }, []string{"never unencrypted"}},
		"short key":            {func(o *Options) { o.Keys = [][]byte{key(1), key(1)[:16]} }, []string{"key 2 has 16 bytes"}},
		"too many keys":        {func(o *Options) { o.Keys = make([][]byte, MaxKeys+1) }, []string{"at most 8"}},
		"peer":                 {func(o *Options) { o.Peer = "fr_1" }, []string{"peer name"}},
		"region":               {func(o *Options) { o.Region = "de" }, []string{`own region "de" is not among`}},
		"epoch":                {func(o *Options) { o.Epoch = 0 }, []string{"epoch 0"}},
		"profile":              {func(o *Options) { o.Profile = "moon" }, []string{`profile "moon" is unknown`}},
		"bind":                 {func(o *Options) { o.Bind = "127.0.0.1" }, []string{`"127.0.0.1" is not host:port`}},
		"bind port":            {func(o *Options) { o.Bind = "127.0.0.1:70000" }, []string{`port "70000"`}},
		"advertise everywhere": {func(o *Options) { o.Advertise = ":7946" }, []string{"needs a host and a port"}},
		"join without port":    {func(o *Options) { o.Join = []string{"a.example.com"} }, []string{`"a.example.com" is not host:port`}},
		"join port nought":     {func(o *Options) { o.Join = []string{"a.example.com:0"} }, []string{"needs a host and a port"}},
		"no logger":            {func(o *Options) { o.Log = nil }, []string{"logger"}},
		"no identity":          {func(o *Options) { o.Signer = nil }, []string{"identity to sign"}},
		"all at once": {func(o *Options) { o.Keys, o.Bind, o.Profile = nil, "x", "moon" },
			[]string{"never unencrypted", "not host:port", "unknown"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := options(t, "fr-1", 1)
			tt.change(&o)
			_, err := New(o)
			if len(tt.want) == 0 && err != nil {
				t.Fatal(err)
			}
			for _, part := range tt.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("error %v, want one with %q", err, part)
				}
			}
		})
	}
}

func TestKeysStayOutOfErrors(t *testing.T) {
	secret := bytes.Repeat([]byte("topsecret"), 3)
	o := options(t, "fr-1", 1)
	o.Keys = [][]byte{secret}
	if _, err := New(o); err == nil || strings.Contains(err.Error(), "topsecret") {
		t.Errorf("error %v", err)
	}
}

func TestPublishRefusesWhatCannotBeSent(t *testing.T) {
	g, err := New(options(t, "fr-1", 1))
	if err != nil {
		t.Fatal(err)
	}
	for name, publish := range map[string]func() error{
		"bad service": func() error {
			return g.Publish(polder.PeerRow{Warm: []polder.ServiceName{"a b"}}, threeRegions)
		},
		"bad address": func() error { return g.Publish(polder.PeerRow{Address: "nowhere"}, threeRegions) },
		"own region unknown": func() error {
			return g.Publish(polder.PeerRow{}, regions.Disclosure{Regions: []polder.RegionName{"nl"}})
		},
	} {
		if publish() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	warm := []polder.ServiceName{"b", "a", "b"}
	if err := g.Publish(polder.PeerRow{Warm: warm}, threeRegions); err != nil || warm[0] != "b" {
		t.Errorf("error %v, and the caller's list is %v", err, warm)
	}
}

func TestRunFailsWithAReason(t *testing.T) {
	checkLeaks(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, tt := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"address in use":        {func(o *Options) { o.Bind = taken.Addr().String() }, "cannot listen on"},
		"address of nobody":     {func(o *Options) { o.Bind = "192.0.2.1:7946" }, "cannot listen on"},
		"everywhere, IPv6 only": {func(o *Options) { o.Bind = "[::]:0" }, "name it to advertise"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, "fr-1", 1)
			tt.change(&o)
			g, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			err = g.Run(ctx)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "fr-1") {
				t.Errorf("error %v, want one with %q and the peer's name", err, tt.want)
			}
			if _, err := g.Address(ctx); err == nil {
				t.Error("an address of a peer that does not listen")
			}
			if err := g.Run(ctx); err == nil || !strings.Contains(err.Error(), "runs already") {
				t.Errorf("a second Run: %v", err)
			}
		})
	}
}

// Rotation while others decrypt, under the race detector; at each moment a
// message in either of the two keys in use can be read.
func TestRotateUnderLoad(t *testing.T) {
	checkLeaks(t)
	ring, err := newKeyring([][]byte{key(0)})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, k := range ring.ring.GetKeys() {
					if len(k) != KeyBytes {
						t.Errorf("a torn key of %d bytes", len(k))
						return
					}
				}
			}
		})
	}
	for round := range 3000 {
		n := byte(round % 100)
		for _, keys := range [][][]byte{{key(n), key(n + 1), key(200)}, {key(n + 1), key(n), key(200)}, {key(n + 1)}} {
			if err := ring.rotate(keys); err != nil {
				t.Fatal(err)
			}
			held := ring.ring.GetKeys()
			if len(held) != len(keys) || !bytes.Equal(held[0], keys[0]) {
				t.Fatalf("%d keys held of %d, the first begins with %d", len(held), len(keys), held[0][0])
			}
			for _, k := range keys {
				if !contains(held, k) {
					t.Fatalf("key %d is missing", k[0])
				}
			}
		}
	}
	close(stop)
	readers.Wait()
	if err := ring.rotate(nil); err == nil {
		t.Error("no key at all was accepted")
	}
	fresh := make([]byte, KeyBytes)
	rand.Read(fresh)
	given := [][]byte{fresh}
	if err := ring.rotate(given); err != nil {
		t.Fatal(err)
	}
	given[0][0] ^= 1
	if bytes.Equal(ring.ring.GetPrimaryKey(), given[0]) {
		t.Error("the ring's key changes with the caller's")
	}
}

func TestMailboxIsBounded(t *testing.T) {
	b := newMailbox()
	message := []byte("hello")
	for range maxMessages {
		if !b.put(message) {
			t.Fatal("full too early")
		}
	}
	if b.put(message) {
		t.Error("more messages than allowed")
	}
	message[0] = 'j'
	got, _ := b.take()
	if len(got) != maxMessages || string(got[0]) != "hello" {
		t.Errorf("took %d messages, the first is %q", len(got), got[0])
	}
	large := make([]byte, maxMessageBytes/2+1)
	if !b.put(large) || b.put(large) {
		t.Error("the bound on bytes does not hold")
	}
	if !b.put(message) {
		t.Error("a small message should still fit")
	}
	b.take()
	if !b.put(large) {
		t.Error("taking frees nothing")
	}
}

func TestRosterIsBounded(t *testing.T) {
	var r roster
	for i := range regions.MaxPeers - 1 {
		name := "p-" + strings.Repeat("x", i%40) + string(rune('a'+i%26)) + strings.Repeat("y", i/26)
		if !r.room(name) {
			t.Fatalf("no room for peer %d", i)
		}
		r.set(name, member{alive: true, life: life{"fr", 1}})
	}
	if n := r.size(); n != regions.MaxPeers-1 {
		t.Fatalf("%d names, the test's names repeat", n)
	}
	if r.room("one-more") {
		t.Error("room for one more")
	}
}

func TestLibraryLog(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	l := &libraryLog{log: logger, count: &counters{}, report: &throttle{log: logger}}
	for _, tt := range []struct{ line, want string }{
		{"[DEBUG] memberlist: Stream connection from=1.2.3.4:5", `level=DEBUG msg=membership detail="Stream connection`},
		{"[WARN] memberlist: Refuting a suspect message", "level=WARN"},
		{"[ERR] memberlist: Failed to send ping: use of closed network connection", "level=DEBUG"},
		{"[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=1.2.3.4:5", "do all peers hold the same keys?"},
		{"[WARN] memberlist: ignoring alive message for 'x': reasons", ""},
		{"no level at all", "no level at all"},
	} {
		out.Reset()
		if _, err := l.Write([]byte(tt.line + "\n")); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%q is logged as %q, want %q in it", tt.line, got, tt.want)
		}
	}
	if n := l.count.undecryptable.Load(); n != 1 {
		t.Errorf("%d counted as undecryptable, want 1", n)
	}
}

func TestWarningsAreThrottled(t *testing.T) {
	faketime.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		th := &throttle{log: slog.New(slog.NewTextHandler(&out, nil))}
		for range 1000 {
			th.warn("again")
		}
		if n := strings.Count(out.String(), "again"); n != throttleLines {
			t.Errorf("%d lines, want %d", n, throttleLines)
		}
		th.warn("something else")
		if !strings.Contains(out.String(), "something else") {
			t.Error("one kind of warning silenced another")
		}
		<-time.After(throttleWindow) // fake time
		out.Reset()
		th.warn("again")
		th.warn("again")
		if want := fmt.Sprint("withheld=", 1000-throttleLines); strings.Count(out.String(), want) != 1 {
			t.Errorf("%q does not say once that %s", out.String(), want)
		}
	})
}

// A newer row of the same peer replaces the queued one: the queue is bounded by
// the number of peers, whatever the rate of changes.
func TestQueueHoldsOneRowPerPeer(t *testing.T) {
	q := &memberlist.TransmitLimitedQueue{NumNodes: func() int { return 5 }, RetransmitMult: retransmit}
	sent := make(chan struct{}, 1)
	q.QueueBroadcast(&rowBroadcast{peer: "fr-1", message: []byte("old"), sent: sent})
	q.QueueBroadcast(&rowBroadcast{peer: "fr-1", message: []byte("new")})
	q.QueueBroadcast(&rowBroadcast{peer: "nl-1", message: []byte("other")})
	if n := q.NumQueued(); n != 2 {
		t.Errorf("%d queued, want 2", n)
	}
	select {
	case <-sent:
	default:
		t.Error("the replaced row's waiter was not told")
	}
}

func TestSeekerRemembersTheLost(t *testing.T) {
	now := time.Now()
	s := newSeeker([]string{"a:1", "b:1"})
	check := func(want string) {
		t.Helper()
		if got := strings.Join(s.targets(now), " "); got != want {
			t.Errorf("looks for %q, want %q", got, want)
		}
	}
	check("a:1 b:1")
	s.meet("a:1")
	s.meet("b:1")
	check("")
	s.gone("nl-1", "c:1", now)
	check("a:1 b:1 c:1")
	s.meet("a:1")
	s.found("nl-1")
	check("b:1")
	s.meet("b:1")
	s.gone("nl-1", "", now) // with a goodbye: its address may never be used again
	check("a:1 b:1")
	s.gone("nl-2", "a:1", now)
	check("a:1 b:1")
	s.meet("a:1")
	s.meet("b:1")
	check("")
	s.gone("nl-3", "d:1", now)
	now = now.Add(seekLost + time.Second)
	check("a:1 b:1")
	for i := range regions.MaxPeers + 10 {
		s.gone(strings.Repeat("x", i+1), "e:1", now.Add(time.Duration(i)))
	}
	if len(s.lost) != regions.MaxPeers {
		t.Errorf("%d lost peers remembered, bound is %d", len(s.lost), regions.MaxPeers)
	}
}
