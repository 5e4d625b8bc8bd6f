package activator_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

func TestStoppingFinishesWhatIsHeld(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		w := newWakes()
		r := newRig(t, options(w.wake))
		got := start(r.client(p), newRequest(t, t.Context(), "POST", "/", strings.NewReader("held")))
		asked := w.next(t)
		r.stop()
		eventually(t, "nobody else is accepted", func() bool {
			conn, err := net.Dial("unix", r.socket)
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
		asked.succeed(instance(t, p, echo))
		receive(t, got, "the answer").ok(t, "held")
		if err := r.ended(); err != nil {
			t.Error(err)
		}
	})
}

func TestStoppingRefusesWhatIsHeldTooLong(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		w := newWakes()
		o := options(w.wake)
		o.Limits.Stop = 10 * time.Millisecond
		r := newRig(t, o)
		got := start(r.client(p), newRequest(t, t.Context(), "POST", "/", bytes.NewReader(make([]byte, 1<<20))))
		asked := w.next(t)
		r.stop()
		receive(t, got, "the refusal").refused(t, 503, activator.Stopping)
		receive(t, asked.ctx.Done(), "Wake to be told")
		if err := r.ended(); err != nil {
			t.Error(err)
		}
		r.idle()
		if n := r.stats("svc").Failed[activator.Stopping]; n != 1 {
			t.Errorf("counted %d", n)
		}
	})
}

// What an instance has taken is broken off and never answered with advice to
// send it again.
func TestStoppingBreaksOffWhatIsForwardedTooLong(t *testing.T) {
	for name, request := range map[string]struct {
		path string
		body func() io.Reader
	}{
		"before the answer":      {"/stall", func() io.Reader { return nil }},
		"in the midst of it":     {"/stream", func() io.Reader { return nil }},
		"in the midst of a body": {"/stall", func() io.Reader { r, w := io.Pipe(); go w.Write([]byte("half")); return r }},
	} {
		protocols(t, func(t *testing.T, p polder.Protocol) {
			began := make(chan struct{})
			o := options(at(instance(t, p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/stream" {
					io.WriteString(w, "begin")
					http.NewResponseController(w).Flush()
				}
				close(began)
				if r.ContentLength != 0 {
					io.Copy(io.Discard, r.Body)
				}
				<-r.Context().Done()
			}))))
			o.Limits.Stop = 10 * time.Millisecond
			r := newRig(t, o)
			body := request.body()
			got := start(r.client(p), newRequest(t, t.Context(), "POST", request.path, body))
			receive(t, began, "the request")
			r.stop()
			if err := r.ended(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if c, ok := body.(io.Closer); ok {
				c.Close()
			}
			if g := receive(t, got, "the end of the call"); g.err == nil {
				t.Errorf("%s: got %s %q", name, g.Status, g.text)
			}
			r.idle()
			if n := r.stats("svc").Failed[activator.Stopping]; n != 1 {
				t.Errorf("%s: counted %+v", name, r.stats("svc").Failed)
			}
		})
	}
}

func TestStoppingEndsUpgradedConnections(t *testing.T) {
	o := options(at(instance(t, polder.HTTP1, talker)))
	o.Limits.Stop = 10 * time.Millisecond
	r := newRig(t, o)
	conn := r.dial()
	reader := upgrade(t, conn, "")
	expect(t, reader, "hello\n")
	r.stop()
	if err := r.ended(); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(reader); len(rest) > 0 || err != nil {
		t.Errorf("at the end: %q, %v", rest, err)
	}
	r.idle()
}

func TestServeSaysWhyItFailed(t *testing.T) {
	r := newRig(t, options(newWakes().wake))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if err := r.Serve(t.Context(), listener); err == nil || !strings.Contains(err.Error(), listener.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

// Idle connections are Envoy's to close: were one closed here, a request that
// is on its way would be lost.
func TestConnectionsAreUsedAgain(t *testing.T) {
	r := newRig(t, options(at(instance(t, polder.HTTP1, echo))))
	conn := r.dial()
	reader := bufio.NewReader(conn)
	for i := range 5 {
		body := fmt.Sprint("request ", i)
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: h\r\nX-Polder-Service: svc\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(response.Body); string(text) != body || err != nil || response.Close {
			t.Errorf("got %q, %v, close %v", text, err, response.Close)
		}
	}
}

func TestOneActivatorServesSeveralListeners(t *testing.T) {
	r := newRig(t, options(at(instance(t, polder.HTTP1, echo))))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.Serve(t.Context(), listener) }()
	transport := new(http.Transport)
	request := newRequest(t, t.Context(), "POST", "/", strings.NewReader("tcp"))
	request.URL.Host = listener.Addr().String()
	send(&http.Client{Transport: transport, Timeout: patience}, request).ok(t, "tcp")
	transport.CloseIdleConnections()
	send(r.client(polder.HTTP1), newRequest(t, t.Context(), "POST", "/", strings.NewReader("unix"))).ok(t, "unix")
	if s := r.stats("svc"); s.Cold != 2 {
		t.Errorf("counted %+v", s)
	}
	listener.Close()
	if err := receive(t, served, "the end of Serve"); err == nil {
		t.Error("a listener that was closed from outside is no failure")
	}
}
