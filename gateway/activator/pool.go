//lint:file-ignore SA1019 net/http has no way yet to share one HTTP/2 connection by lease, and caps the window of a connection

package activator

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/net/http2"
)

const (
	// streamsPerConn bounds the requests on one connection to an instance. A
	// thousand callers then open ten connections; a thousand at once starve a
	// small instance of the time to greet them.
	streamsPerConn = 100

	// answerWindow is how much of an answer may wait here for a slow caller, in bytes.
	answerWindow = 256 << 10
)

// pool shares HTTP/2 connections among requests that are under way at the same
// time. A connection is closed with its last request.
type pool struct {
	transport *http2.Transport

	mu    sync.Mutex
	conns map[netip.AddrPort][]*shared // each has at least one lease
}

// shared is one connection. Its maker connects; the others wait for ready.
type shared struct {
	pool    *pool
	address netip.AddrPort
	ready   chan struct{} // closed when conn or err is set; both are fixed from then on
	conn    *http2.ClientConn
	err     error

	leases int  // guarded by pool.mu
	full   bool // takes no more requests; guarded by pool.mu
}

func newPool() (*pool, error) {
	transport, err := http2.ConfigureTransports(&http.Transport{
		DisableCompression: true,
		// The connection's window stays at the library's 1 GiB, so that an answer
		// nobody reads does not stop the others.
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: answerWindow},
	})
	if err != nil {
		return nil, err
	}
	transport.AllowHTTP = true
	transport.MaxHeaderListSize = maxAnswer
	return &pool{transport: transport, conns: make(map[netip.AddrPort][]*shared)}, nil
}

// lease returns a place on a connection to the address.
func (p *pool) lease(ctx context.Context, address netip.AddrPort) (link, error) {
	for {
		s, maker := p.join(address)
		if maker {
			s.conn, s.err = p.connect(ctx, address)
			close(s.ready)
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			p.leave(s)
			return nil, context.Cause(ctx)
		}
		switch {
		case s.err == nil && s.conn.ReserveNewRequest():
			return &lease{shared: s}, nil
		case s.err == nil: // it has as many as the instance allows, or it ended
			p.fill(s)
			p.leave(s)
			if maker {
				return nil, errors.New("the instance accepts no request on a new connection")
			}
		case !maker && ctx.Err() == nil && isContext(s.err):
			p.leave(s) // the maker's caller left; that is not the instance's fault
		default:
			p.leave(s)
			return nil, s.err
		}
	}
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// join takes a place on a connection, which the caller must make if it is new.
func (p *pool) join(address netip.AddrPort) (s *shared, maker bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.conns[address] {
		if !s.full && s.leases < streamsPerConn {
			s.leases++
			return s, false
		}
	}
	s = &shared{pool: p, address: address, ready: make(chan struct{}), leases: 1}
	p.conns[address] = append(p.conns[address], s)
	return s, true
}

// fill makes that nobody joins the connection any more.
func (p *pool) fill(s *shared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.full = true
}

// leave gives back a place; the last one closes the connection.
func (p *pool) leave(s *shared) {
	p.mu.Lock()
	s.leases--
	last := s.leases == 0
	if last || isDone(s.ready) && s.err != nil {
		p.conns[s.address] = slices.DeleteFunc(p.conns[s.address], func(o *shared) bool { return o == s })
		if len(p.conns[s.address]) == 0 {
			delete(p.conns, s.address)
		}
	}
	p.mu.Unlock()
	if last && s.conn != nil {
		s.conn.Close()
	}
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// connect returns a connection on which the instance has spoken: it is known
// to be alive and to understand HTTP/2, and how many requests it takes at a
// time, before anything of a request is sent.
func (p *pool) connect(ctx context.Context, address netip.AddrPort) (*http2.ClientConn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address.String())
	if err != nil {
		return nil, err
	}
	conn, err := p.transport.NewClientConn(raw)
	if err != nil {
		raw.Close()
		return nil, err
	}
	if err := conn.Ping(ctx); err != nil { // the answer comes after the instance's settings
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// lease is one request's place on a shared connection.
type lease struct {
	*shared
	once sync.Once
}

// RoundTrip sends the one request.
func (l *lease) RoundTrip(r *http.Request) (*http.Response, error) { return l.conn.RoundTrip(r) }

// watch does nothing: the transport closes the upload when the stream ends, and
// ends the stream with its context.
func (l *lease) watch(context.Context, *upload) func() { return func() {} }

// Close gives back the place.
func (l *lease) Close() error {
	l.once.Do(func() { l.pool.leave(l.shared) })
	return nil
}
