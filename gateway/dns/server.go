package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v4"
	wire "github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sync/errgroup"

	"github.com/polder/polder"
)

const (
	// wakesPerSecond and wakeBurst bound how many services queries may wake: a
	// scanner that knows all hosts wakes them slowly.
	wakesPerSecond, wakeBurst = 10.0, 50.0
	// bindFirst and bindMost bound the pauses before the address is tried again.
	bindFirst, bindMost = 200 * time.Millisecond, 30 * time.Second
)

// Options of a Server.
type Options struct {
	Region polder.RegionName
	Listen netip.AddrPort // UDP and TCP; port 0 takes a free one
	// Asked is told of queries that were answered with addresses of this region: a
	// request will follow. It is called at a bounded rate, and must not block. May be nil.
	Asked func(polder.ServiceName)
	Log   *slog.Logger
}

// Server answers DNS queries.
type Server struct {
	options   Options
	directory atomic.Pointer[directory] // nil before the first World in which somebody can take callers
	limiter   *limiter
	count     counters
	begun     time.Time
	bound     atomic.Pointer[netip.AddrPort]

	wakeMu sync.Mutex // guards the bucket of wakes
	wakes  float64
	wakeAt time.Duration
}

// New makes a server. It starts nothing.
func New(o Options) *Server {
	return &Server{options: o, limiter: newLimiter(), begun: time.Now(), wakes: wakeBurst}
}

// Update lets answers be made from another World. Until the first one with a region
// that can take callers the server answers that it is not ready (SERVFAIL), so that
// resolvers ask another: who has just started knows of itself before it knows of
// others, and its own Envoy does not listen yet. One that is as before costs nothing.
// One goroutine at a time may call it.
func (s *Server) Update(w World) {
	d := s.directory.Load()
	if d == nil && !w.usable() {
		return
	}
	if d == nil || !d.world.equal(w) || !d.turns.IsZero() && !w.Now.Before(d.turns) {
		s.directory.Store(newDirectory(w))
	}
}

// Address is where the server listens; not valid while it does not.
func (s *Server) Address() netip.AddrPort {
	if at := s.bound.Load(); at != nil {
		return *at
	}
	return netip.AddrPort{}
}

// Run answers until ctx ends, and returns nil when everything that it started
// has ended. While the address cannot be had, it says so and tries again.
func (s *Server) Run(ctx context.Context) error {
	pauses := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(bindFirst), backoff.WithMaxInterval(bindMost), backoff.WithMaxElapsedTime(0))
	for ctx.Err() == nil {
		err := s.serve(ctx, pauses.Reset)
		if ctx.Err() != nil {
			break
		}
		pause := pauses.NextBackOff()
		s.options.Log.Error("DNS is not served", "region", s.options.Region, "address", s.options.Listen.String(), "reason", err, "pause", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	return nil
}

// serve listens and answers until ctx ends or a socket fails.
func (s *Server) serve(ctx context.Context, bound func()) error {
	packets, streams, err := listen(s.options.Listen)
	if err != nil {
		return err
	}
	at := netip.MustParseAddrPort(streams.Addr().String())
	s.bound.Store(&at)
	defer s.bound.Store(nil)
	bound()
	s.options.Log.Info("DNS is served", "region", s.options.Region, "address", at.String())
	group, inner := errgroup.WithContext(ctx)
	for range max(2, runtime.GOMAXPROCS(0)) {
		group.Go(func() error { return s.answerPackets(inner, packets) })
	}
	server := &wire.Server{
		Net: "tcp", Listener: newDoorman(streams, func() { s.count.refused.Add(1) }), Handler: wire.HandlerFunc(s.answerStream),
		ReadTimeout: streamIO, WriteTimeout: streamIO, IdleTimeout: func() time.Duration { return streamIdle }, MaxTCPQueries: mostQueries,
		MsgAcceptFunc: acceptStream,
	}
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	group.Go(server.ActivateAndServe)
	group.Go(func() error {
		<-inner.Done()
		packets.Close()
		select {
		case <-started:
			return server.ShutdownContext(context.WithoutCancel(ctx)) // connections have deadlines
		default:
			return streams.Close()
		}
	})
	return group.Wait()
}

// listen opens both sockets on one port.
func listen(at netip.AddrPort) (*net.UDPConn, net.Listener, error) {
	const tries = 20 // of a free port that has to be free for both
	for try := 1; ; try++ {
		streams, err := net.Listen("tcp", at.String())
		if err != nil {
			return nil, nil, err
		}
		packets, err := net.ListenPacket("udp", streams.Addr().String())
		if err != nil {
			streams.Close()
			if at.Port() == 0 && try < tries {
				continue
			}
			return nil, nil, err
		}
		conn := packets.(*net.UDPConn)
		if err := tellDestination(conn); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("DNS on %s: %w", at, err), conn.Close(), streams.Close())
		}
		return conn, streams, nil
	}
}

// tellDestination makes the socket tell to which address of this machine a packet
// came, so that the answer comes from there. One of the two always fails: a
// socket is of one family, or of both and counts as IPv6.
func tellDestination(conn *net.UDPConn) error {
	err6 := ipv6.NewPacketConn(conn).SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true)
	err4 := ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true)
	if err6 != nil && err4 != nil {
		return err4
	}
	return nil
}

// answerPackets answers queries over UDP, one after the other.
func (s *Server) answerPackets(ctx context.Context, conn *net.UDPConn) error {
	buffer := make([]byte, wire.MaxMsgSize)
	for {
		n, session, err := wire.ReadFromSessionUDP(conn, buffer)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if temporary := net.Error(nil); errors.As(err, &temporary) && temporary.Timeout() || errors.Is(err, syscall.ECONNREFUSED) {
				continue // of an earlier answer, and nobody's fault here
			}
			return fmt.Errorf("DNS over UDP: %w", err)
		}
		reply := s.packet(buffer[:n], sourceOf(session.RemoteAddr()), time.Since(s.begun))
		if reply == nil {
			continue
		}
		// Who cannot be reached does not get an answer, and that is all.
		_, _ = wire.WriteToSessionUDP(conn, reply, session)
	}
}

// packet answers one packet from an address; nil is no answer.
func (s *Server) packet(data []byte, from netip.Addr, now time.Duration) []byte {
	s.count.packets.Add(1)
	judged := s.limiter.take(from, now)
	if judged == dropIt {
		s.count.limited.Add(1)
		return nil
	}
	q := new(wire.Msg)
	if err := q.Unpack(data); err != nil || q.Response {
		s.count.garbage.Add(1)
		if err == nil || q.Response || len(data) < 12 || data[2]&0x80 != 0 {
			return nil // an answer to an answer would go to and fro for ever
		}
		return s.pack(malformed(data))
	}
	if judged == truncateIt {
		s.count.limited.Add(1)
		m := new(wire.Msg).SetReply(q)
		m.Truncated = true
		return s.pack(m)
	}
	return s.pack(s.reply(q, from, now, false))
}

// malformed answers what has a header and is no message.
func malformed(data []byte) *wire.Msg {
	m := new(wire.Msg)
	m.Id, m.Response, m.Rcode = uint16(data[0])<<8|uint16(data[1]), true, wire.RcodeFormatError
	m.Opcode = int(data[2]>>3) & 0xF
	return m
}

func (s *Server) pack(m *wire.Msg) []byte {
	s.count.answered(m)
	data, err := m.Pack()
	if err != nil {
		s.options.Log.Error("a DNS answer cannot be written", "region", s.options.Region, "reason", err)
		return nil
	}
	return data
}

// acceptStream lets what is no answer through to the handler.
func acceptStream(h wire.Header) wire.MsgAcceptAction {
	if h.Bits&(1<<15) != 0 {
		return wire.MsgIgnore
	}
	return wire.MsgAccept
}

// answerStream answers one query over TCP.
func (s *Server) answerStream(w wire.ResponseWriter, q *wire.Msg) {
	s.count.streams.Add(1)
	m := s.reply(q, sourceOf(w.RemoteAddr()), time.Since(s.begun), true)
	s.count.answered(m)
	_ = w.WriteMsg(m) // who has gone does not want it
}

// reply answers a query, and passes on what it tells of requests to come.
func (s *Server) reply(q *wire.Msg, from netip.Addr, now time.Duration, stream bool) *wire.Msg {
	d := s.directory.Load()
	if d == nil {
		return new(wire.Msg).SetRcode(q, wire.RcodeServerFailure)
	}
	m, h := d.answer(q, from, stream)
	if h.service != "" && h.region == s.options.Region && s.options.Asked != nil {
		if s.mayWake(now) {
			s.count.wakes.Add(1)
			s.options.Asked(h.service)
		} else {
			s.count.unheard.Add(1)
		}
	}
	return m
}

func (s *Server) mayWake(now time.Duration) bool {
	s.wakeMu.Lock()
	defer s.wakeMu.Unlock()
	if now > s.wakeAt {
		s.wakes = min(wakeBurst, s.wakes+(now-s.wakeAt).Seconds()*wakesPerSecond)
		s.wakeAt = now
	}
	if s.wakes < 1 {
		return false
	}
	s.wakes--
	return true
}
