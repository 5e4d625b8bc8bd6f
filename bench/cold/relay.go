package cold

import (
	"context"
	"net"
	"sync"
	"time"
)

const (
	// relayQueue bounds the pieces on their way in one direction.
	relayQueue = 1024
	// relayPiece is the most bytes of a piece.
	relayPiece = 32 << 10
)

// relay carries TCP connections to an address, and each byte half a round trip
// later: a caller that is far away. Only its own dialling costs no time.
type relay struct {
	listener net.Listener
	to       string
	oneWay   time.Duration
	carrying sync.WaitGroup
}

// newRelay listens on a free port of loopback.
func newRelay(to string, rtt time.Duration) (*relay, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &relay{listener: listener, to: to, oneWay: rtt / 2}, nil
}

func (r *relay) address() string { return r.listener.Addr().String() }

// run carries until ctx ends, and returns when every connection has ended.
func (r *relay) run(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { r.listener.Close() })()
	defer r.carrying.Wait()
	for {
		caller, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.carrying.Go(func() { r.carry(ctx, caller) })
	}
}

func (r *relay) carry(ctx context.Context, caller net.Conn) {
	defer caller.Close()
	callee, err := new(net.Dialer).DialContext(ctx, "tcp", r.to)
	if err != nil {
		return
	}
	defer callee.Close()
	defer context.AfterFunc(ctx, func() { caller.Close(); callee.Close() })()
	var both sync.WaitGroup
	both.Go(func() { r.delay(callee, caller) })
	both.Go(func() { r.delay(caller, callee) })
	both.Wait()
}

// piece is what arrived at one instant.
type piece struct {
	due  time.Time
	data []byte
}

// delay carries one direction until its end, which it passes on.
func (r *relay) delay(to, from net.Conn) {
	queue := make(chan piece, relayQueue)
	go func() {
		defer close(queue)
		for {
			data := make([]byte, relayPiece)
			n, err := from.Read(data)
			if n > 0 {
				queue <- piece{time.Now().Add(r.oneWay), data[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range queue {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			from.Close()
			for range queue { // until its reader has seen the end
			}
			return
		}
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}
