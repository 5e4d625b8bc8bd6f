package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/polder/polder"
)

// patience only ends a failed test.
const patience = 60 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server until the test ends.
func serve(t *testing.T, at string, asked func(polder.ServiceName)) (*Server, string) {
	t.Helper()
	s := New(Options{Region: "nl", Listen: netip.MustParseAddrPort(at), Asked: asked, Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	await(t, "it listens", func() bool { return s.Address().IsValid() })
	return s, s.Address().String()
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline, again := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func exchange(t *testing.T, network, address string, q *wire.Msg) *wire.Msg {
	t.Helper()
	client := &wire.Client{Net: network, Timeout: patience, UDPSize: wire.MaxMsgSize}
	m, _, err := client.Exchange(q, address)
	if err != nil {
		t.Fatalf("%s: %v", network, err)
	}
	return m
}

// TestServer asks over real sockets, of one family and of both.
func TestServer(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::]:0"} {
		t.Run(at, func(t *testing.T) {
			var mu sync.Mutex
			var asked []polder.ServiceName
			s, address := serve(t, at, func(n polder.ServiceName) { mu.Lock(); defer mu.Unlock(); asked = append(asked, n) })
			address = strings.Replace(address, "[::]", "127.0.0.1", 1)
			if m := exchange(t, "udp", address, query("open.example.com", wire.TypeA, "")); m.Rcode != wire.RcodeServerFailure {
				t.Errorf("before it knows anything it says %v", m)
			}
			s.Update(seen(t, countries)) // it sees itself, and that its Envoy does not listen yet
			if m := exchange(t, "udp", address, query("open.example.com", wire.TypeA, "")); m.Rcode != wire.RcodeServerFailure {
				t.Errorf("before it knows of a region that can take callers it says %v", m)
			}
			s.Update(seen(t, countries, "fr", "nl", "pl"))
			for _, network := range []string{"udp", "tcp"} {
				if m := exchange(t, network, address, query("open.example.com", wire.TypeA, "")); fmt.Sprint(told(m)) != "[192.0.2.2]" {
					t.Errorf("%s: %v", network, m)
				}
				// Another region's, and a name that is nobody's, wake nobody here.
				exchange(t, network, address, query("pinned.example.com", wire.TypeA, ""))
				exchange(t, network, address, query("none.example.com", wire.TypeA, ""))
			}
			s.Update(seen(t, countries, "fr"))
			if m := exchange(t, "udp", address, query("open.example.com", wire.TypeA, "")); fmt.Sprint(told(m)) != "[192.0.2.1]" {
				t.Errorf("after nl was lost: %v", m)
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(asked, []polder.ServiceName{"open", "open"}) {
				t.Errorf("the queries announced %v", asked)
			}
			if c := s.Counters(); c.Wakes != 2 || c.Packets != 6 || c.Streams != 3 || c.Answers["NXDOMAIN"] != 2 {
				t.Errorf("counted %+v", c)
			}
		})
	}
}

// TestTruncatedAnswersAreWholeOverTCP goes the way of a resolver.
func TestTruncatedAnswersAreWholeOverTCP(t *testing.T) {
	var public []string
	for i := range 120 {
		public = append(public, fmt.Sprintf("192.0.3.%d", i))
	}
	s, address := serve(t, "127.0.0.1:0", nil)
	s.Update(seen(t, strings.Replace(countries, "192.0.2.2, ", strings.Join(public, ", ")+", ", 1), "nl"))
	q := query("open.example.com", wire.TypeA, "")
	if m := exchange(t, "udp", address, q); !m.Truncated {
		t.Errorf("%d records came in one packet", len(m.Answer))
	}
	if m := exchange(t, "tcp", address, q); m.Truncated || len(m.Answer) != 120 {
		t.Errorf("%d records came over TCP", len(m.Answer))
	}
}

// TestATakenAddress keeps trying, and serves once it is free.
func TestATakenAddress(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	said := &lines{}
	s := New(Options{Region: "nl", Listen: netip.MustParseAddrPort(taken.Addr().String()), Log: slog.New(slog.NewTextHandler(said, nil))})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	await(t, "it says that it cannot", func() bool { return strings.Contains(said.String(), "DNS is not served") })
	taken.Close()
	await(t, "it serves", func() bool { return s.Address().IsValid() })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}
func (l *lines) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.text.String() }

// TestAFloodIsBounded sends more than one network may, in no time at all.
func TestAFloodIsBounded(t *testing.T) {
	s := New(Options{Region: "nl", Log: slog.New(slog.DiscardHandler)})
	s.Update(seen(t, countries, "nl"))
	data, err := query("open.example.com", wire.TypeA, "").Pack()
	if err != nil {
		t.Fatal(err)
	}
	count := func(from string, n int, now time.Duration) (whole, truncated int) {
		for range n {
			if reply := s.packet(data, netip.MustParseAddr(from), now); reply != nil {
				m := new(wire.Msg)
				if err := m.Unpack(reply); err != nil {
					t.Fatal(err)
				}
				if m.Truncated {
					truncated++
				} else {
					whole++
				}
			}
		}
		return whole, truncated
	}
	if whole, truncated := count("198.51.100.7", 1000, time.Second); whole != burst || truncated != (1000-burst)/(slip+1) {
		t.Errorf("of 1000 packets %d were answered and %d told to use TCP", whole, truncated)
	}
	if whole, _ := count("198.51.100.99", 10, time.Second); whole != 0 {
		t.Error("a neighbour in the same network has a rate of its own")
	}
	if whole, _ := count("2001:db8::1", 10, time.Second); whole != 10 {
		t.Errorf("another network got %d answers of 10", whole)
	}
	if whole, _ := count("198.51.100.7", 1000, 2*time.Second); whole != perSecond {
		t.Errorf("a second later %d are answered", whole)
	}
}

// TestWakesAreBounded holds the rate at which queries may wake services.
func TestWakesAreBounded(t *testing.T) {
	n := 0
	s := New(Options{Region: "nl", Asked: func(polder.ServiceName) { n++ }, Log: slog.New(slog.DiscardHandler)})
	s.Update(seen(t, countries, "nl"))
	for i := range 1000 {
		s.reply(query("open.example.com", wire.TypeA, ""), netip.AddrFrom4([4]byte{10, 0, byte(i), 1}), time.Second, false)
	}
	if c := s.Counters(); n != wakeBurst || c.Wakes != wakeBurst || c.Unheard != 1000-wakeBurst {
		t.Errorf("woke %d times, counted %+v", n, c)
	}
}

// TestStreamsAreBounded opens more connections than one network may have.
func TestStreamsAreBounded(t *testing.T) {
	s, address := serve(t, "127.0.0.1:0", nil)
	s.Update(seen(t, countries, "nl"))
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range mostOfOne + 8 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	await(t, "those beyond are closed", func() bool { return s.Counters().Refused == 8 })
	for _, c := range open {
		c.Close()
	}
	open = nil
	await(t, "others get in", func() bool {
		m, _, err := (&wire.Client{Net: "tcp", Timeout: patience}).Exchange(query("open.example.com", wire.TypeA, ""), address)
		return err == nil && len(m.Answer) == 1
	})
}

// FuzzPacket throws anything at the handler. Whatever it answers is a DNS message
// for the same question, of a size that was asked for, with no address that the
// owner of the one service refuses.
func FuzzPacket(f *testing.F) {
	for _, q := range []*wire.Msg{
		query("secret.example.com", wire.TypeA, "203.0.113.0/24"), query("example.com", wire.TypeNS, ""),
		query("open.example.com", wire.TypeHTTPS, "2001:db8:f::/48"), query("x.open.example.com", wire.TypeANY, ""),
	} {
		data, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{1, 2, 0, 0, 0, 9})
	w := seen(f, countries, "nl", "pl")
	f.Fuzz(func(t *testing.T, data []byte) {
		s := New(Options{Region: "nl", Asked: func(polder.ServiceName) {}, Log: slog.New(slog.DiscardHandler)})
		s.Update(w)
		reply := s.packet(data, netip.MustParseAddr("203.0.113.9"), time.Second)
		if reply == nil {
			return
		}
		m := new(wire.Msg)
		if err := m.Unpack(reply); err != nil {
			t.Fatalf("the answer is no message: %v", err)
		}
		if !m.Response || m.Id != uint16(data[0])<<8|uint16(data[1]) {
			t.Fatal("it is no answer to this")
		}
		if len(reply) > mostPacket {
			t.Fatalf("%d bytes", len(reply))
		}
		for _, rr := range m.Answer {
			if strings.EqualFold(rr.Header().Name, "secret.example.com.") && len(told(m)) > 0 && !slices.Contains(told(m), "192.0.2.1") && !slices.Contains(told(m), "2001:db8::1") {
				t.Fatalf("secret is at %v", told(m))
			}
		}
	})
}
