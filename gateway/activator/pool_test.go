package activator_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// counting counts the connections that a listener accepted and lets nobody in
// before open is closed: until then the kernel holds them.
type counting struct {
	net.Listener
	open     chan struct{}
	accepted atomic.Int64
	closed   atomic.Int64
}

type countedConn struct {
	net.Conn
	closed *atomic.Int64
	once   atomic.Bool
}

func (c *countedConn) Close() error {
	if !c.once.Swap(true) {
		c.closed.Add(1)
	}
	return c.Conn.Close()
}

func (c *counting) Accept() (net.Conn, error) {
	<-c.open
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.accepted.Add(1)
	return &countedConn{Conn: conn, closed: &c.closed}, nil
}

// gated runs an HTTP/2 instance that greets nobody before open is closed.
func gated(t *testing.T, streams int, handler http.Handler) (*counting, activator.Target) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &counting{Listener: listener, open: make(chan struct{})}
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: streams}}
	server.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(c)
	}()
	t.Cleanup(func() {
		select {
		case <-c.open:
		default:
			close(c.open)
		}
		server.Close()
		<-done
	})
	return c, target(listener.Addr(), polder.HTTP2)
}

func TestRequestsShareHTTP2Connections(t *testing.T) {
	for _, test := range []struct{ callers, streams, least, most int }{
		{1, 250, 1, 1},
		{250, 250, 3, 3},
		// A place that turns out to be taken is looked for elsewhere, so a few more may be made.
		{20, 4, 5, 20},
	} {
		t.Run(fmt.Sprint(test.callers, " callers, ", test.streams, " streams"), func(t *testing.T) {
			release := make(chan struct{})
			to, address := gated(t, test.streams, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
			close(to.open)
			r := newRig(t, options(at(address)))
			client := r.client(polder.HTTP2)
			var answers []<-chan result
			for range test.callers {
				answers = append(answers, start(client, newRequest(t, t.Context(), "POST", "/", strings.NewReader("x"))))
			}
			eventually(t, "all are forwarded", func() bool { return r.Stats().Forwarding == test.callers })
			if n := int(to.accepted.Load()); n < test.least || n > test.most {
				t.Errorf("%d connections, want %d to %d", n, test.least, test.most)
			}
			close(release)
			for _, answer := range answers {
				receive(t, answer, "an answer").ok(t, "")
			}
			r.idle()
			eventually(t, "no connection is left open", func() bool { return to.closed.Load() == to.accepted.Load() })
		})
	}
}

func TestInstanceThatDoesNotSpeakHTTP2IsGone(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // accepts and hangs up, as a program that dies does
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	defer func() {
		listener.Close()
		<-done
	}()
	w := newWakes()
	r := newRig(t, options(w.wake))
	got := start(r.client(polder.HTTP2), newRequest(t, t.Context(), "POST", "/", strings.NewReader("not lost")))
	w.next(t).succeed(target(listener.Addr(), polder.HTTP2))
	again := w.next(t)
	if again.cause.Kind != activator.CauseGone {
		t.Errorf("the second cause is %+v", again.cause)
	}
	again.succeed(instance(t, polder.HTTP2, echo))
	receive(t, got, "the answer").ok(t, "not lost")
	r.idle()
}
