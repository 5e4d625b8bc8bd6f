package gossip

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// wire is the way to the network. It adds three things to memberlist's
// transport: bytes are counted, every stream has a deadline from the start (for
// messages memberlist sets none), and hangUp ends all dialling and all streams
// that were opened here, so that stopping does not wait for a dead peer.
type wire struct {
	memberlist.Transport
	dial   func(ctx context.Context, address string) (net.Conn, error)
	stream time.Duration
	count  *counters

	mu    sync.Mutex
	over  bool
	next  int
	calls map[int]func() // ends a dial or a stream
}

var _ memberlist.NodeAwareTransport = (*wire)(nil)

func newWire(n *network, stream time.Duration, count *counters) *wire {
	return &wire{Transport: n.transport, dial: n.dial, stream: stream, count: count, calls: map[int]func(){}}
}

// WriteTo sends a packet.
func (w *wire) WriteTo(b []byte, address string) (time.Time, error) {
	w.count.packets.Add(1)
	w.count.bytes.Add(uint64(len(b)))
	return w.Transport.WriteTo(b, address)
}

// WriteToAddress sends a packet.
func (w *wire) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	return w.WriteTo(b, to.Addr)
}

// DialTimeout opens a stream.
func (w *wire) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	id, ok := w.register(cancel)
	if !ok {
		return nil, net.ErrClosed
	}
	conn, err := w.dial(ctx, address)
	if err != nil {
		w.forget(id)
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(w.stream)); err != nil {
		w.forget(id)
		conn.Close()
		return nil, err
	}
	s := &stream{Conn: conn, wire: w, id: id}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		conn.Close()
		return nil, net.ErrClosed
	}
	w.calls[id] = func() { conn.Close() }
	return s, nil
}

// DialAddressTimeout opens a stream.
func (w *wire) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return w.DialTimeout(to.Addr, timeout)
}

func (w *wire) register(end func()) (int, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return 0, false
	}
	w.next++
	w.calls[w.next] = end
	return w.next, true
}

func (w *wire) forget(id int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.calls, id)
}

// hangUp ends every dial and stream, and lets no new one begin. Packets still
// flow: a goodbye needs them.
func (w *wire) hangUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	for id, end := range w.calls {
		end()
		delete(w.calls, id)
	}
}

// stream counts what passes.
type stream struct {
	net.Conn
	wire *wire
	id   int
}

func (s *stream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.wire.count.bytes.Add(uint64(n))
	return n, err
}

func (s *stream) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	s.wire.count.bytes.Add(uint64(n))
	return n, err
}

func (s *stream) Close() error {
	s.wire.forget(s.id)
	return s.Conn.Close()
}
