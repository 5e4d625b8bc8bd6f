package gossip

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// air is a network in memory, for fake time: packets are lost, late and
// counted; parts of it can be cut off from each other. Loss and delay come from
// a seed.
type air struct {
	mu     sync.Mutex
	random *rand.Rand
	ends   map[netip.AddrPort]*end
	loss   float64                                     // share of packets
	delay  func(from, to netip.AddrPort) time.Duration // one way; nil: a millisecond
	cut    func(from, to netip.AddrPort) bool          // nil: nothing is cut
	ear    func(from netip.AddrPort, packet []byte)    // hears every packet that is sent; nil: nobody does
}

func newAir(seed uint64) *air {
	return &air{random: rand.New(rand.NewPCG(seed, seed)), ends: map[netip.AddrPort]*end{}}
}

// end is one peer's place in the air.
type end struct {
	air     *air
	at      netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

// join gives a peer a place. An address that was in use goes over to it.
func (a *air) join(at netip.AddrPort) *end {
	e := &end{air: a, at: at, packets: make(chan *memberlist.Packet, 1024), streams: make(chan net.Conn), closed: make(chan struct{})}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ends[at] = e
	return e
}

func (e *end) network() *network { return &network{transport: e, dial: e.dial} }

// path finds the receiver and how long the way takes; false if nothing arrives.
func (a *air) path(from, to netip.AddrPort, lossy bool) (*end, time.Duration, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	late := time.Millisecond
	if a.delay != nil {
		late = a.delay(from, to)
	}
	if a.cut != nil && a.cut(from, to) || lossy && a.random.Float64() < a.loss {
		return nil, late, false
	}
	e, ok := a.ends[to]
	return e, late, ok
}

// sever replaces what is cut; nil heals all.
func (a *air) sever(cut func(from, to netip.AddrPort) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cut = cut
}

// listen lets somebody hear every packet, one at a time; nil ends it.
func (a *air) listen(ear func(from netip.AddrPort, packet []byte)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ear = ear
}

func (a *air) overhear(from netip.AddrPort, packet []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ear != nil {
		a.ear(from, append([]byte(nil), packet...))
	}
}

func (e *end) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return e.at.Addr().AsSlice(), int(e.at.Port()), nil
}

func (e *end) WriteTo(b []byte, address string) (time.Time, error) {
	now := time.Now()
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return now, err
	}
	select {
	case <-e.closed:
		return now, net.ErrClosed
	default:
	}
	e.air.overhear(e.at, b)
	receiver, late, ok := e.air.path(e.at, to, true)
	if !ok {
		return now, nil // lost packets are not noticed
	}
	packet := &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(e.at)}
	time.AfterFunc(late, func() {
		packet.Timestamp = time.Now()
		select {
		case <-receiver.closed:
		case receiver.packets <- packet:
		default: // its buffer is full
		}
	})
	return now, nil
}

func (e *end) PacketCh() <-chan *memberlist.Packet { return e.packets }

func (e *end) StreamCh() <-chan net.Conn { return e.streams }

func (e *end) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return e.dial(ctx, address)
}

func (e *end) dial(ctx context.Context, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	receiver, late, ok := e.air.path(e.at, to, false)
	if !ok { // as behind a firewall that drops
		<-ctx.Done()
		return nil, ctx.Err()
	}
	handshake := time.NewTimer(2 * late)
	defer handshake.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-handshake.C:
	}
	here, there := net.Pipe()
	select {
	case <-receiver.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	case receiver.streams <- &cable{there, receiver, e.at}:
		return &cable{here, e, to}, nil
	}
}

func (e *end) Shutdown() error {
	e.once.Do(func() { close(e.closed) })
	return nil
}

// cable is a stream that breaks when its path is cut.
type cable struct {
	net.Conn
	near *end
	far  netip.AddrPort
}

func (c *cable) Write(b []byte) (int, error) {
	if _, _, ok := c.near.air.path(c.near.at, c.far, false); !ok {
		return 0, errors.New("connection reset")
	}
	return c.Conn.Write(b)
}

func (c *cable) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.far) }

// The air itself has to keep its word, or tests over it prove nothing.
func TestAirLosesWhatItSays(t *testing.T) {
	a := newAir(7)
	a.loss = 0.3
	from, to := a.join(netip.MustParseAddrPort("10.0.0.1:1")), a.join(netip.MustParseAddrPort("10.0.0.2:1"))
	lost := 0
	for range 10000 {
		if _, _, ok := a.path(from.at, to.at, true); !ok {
			lost++
		}
	}
	if lost < 2800 || lost > 3200 {
		t.Errorf("%d of 10000 lost, want about 3000", lost)
	}
	a.sever(func(f, _ netip.AddrPort) bool { return f == from.at })
	if _, _, ok := a.path(from.at, to.at, false); ok {
		t.Error("a cut path carried something")
	}
	if _, _, ok := a.path(to.at, from.at, false); !ok {
		t.Error("the way back was cut too")
	}
}
