package activator_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// gone checks that a held request's share is free although nobody answered Wake.
func gone(t *testing.T, r *rig, asked *wake) {
	t.Helper()
	receive(t, asked.ctx.Done(), "Wake to be told that the caller left")
	r.idle()
	eventually(t, "it is counted, and in the ledger", func() bool {
		return r.stats("svc").Failed[activator.CallerGone] == 1 && len(r.ColdRequests()) > 0
	})
	if cold := r.ColdRequests(); len(cold) != 1 || cold[0].Status != 0 || cold[0].Reason != activator.CallerGone {
		t.Errorf("the ledger has %+v", cold)
	}
}

func TestCallerThatLeavesFreesItsShare(t *testing.T) {
	bodies := map[string]func() io.Reader{
		"without a body":         func() io.Reader { return nil },
		"with a body not read":   func() io.Reader { return strings.NewReader("unread") },
		"with a large body":      func() io.Reader { return bytes.NewReader(make([]byte, 4<<20)) },
		"in the midst of a body": func() io.Reader { r, w := io.Pipe(); go w.Write([]byte("half")); return r },
	}
	protocols(t, func(t *testing.T, p polder.Protocol) {
		for name, body := range bodies {
			t.Run(name, func(t *testing.T) {
				w := newWakes()
				r := newRig(t, options(w.wake))
				ctx, leave := context.WithCancel(t.Context())
				reader := body()
				got := start(r.client(p), newRequest(t, ctx, "POST", "/", reader))
				asked := w.next(t)
				leave()
				gone(t, r, asked)
				if c, ok := reader.(io.Closer); ok {
					c.Close() // or the client goes on reading it
				}
				receive(t, got, "the end of the call")
			})
		}
	})
}

// A connection may carry several requests; each must be watched.
func TestCallerThatLeavesAtItsSecondRequest(t *testing.T) {
	w := newWakes()
	r := newRig(t, options(w.wake))
	conn := r.dial()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: h\r\nX-Polder-Service: svc\r\n\r\n")
	w.next(t).succeed(instance(t, polder.HTTP1, echo))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, response.Body)
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: h\r\nX-Polder-Service: svc\r\nContent-Length: 5\r\n\r\nabc")
	asked := w.next(t)
	conn.Close()
	receive(t, asked.ctx.Done(), "Wake to be told that the caller left")
	r.idle()
}

func TestCallerThatLeavesEndsWhatWasForwarded(t *testing.T) {
	for _, path := range []string{"/stall", "/stream"} {
		protocols(t, func(t *testing.T, p polder.Protocol) {
			began, ended := make(chan struct{}), make(chan struct{})
			r := newRig(t, options(at(instance(t, p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(ended)
				if r.URL.Path == "/stream" {
					io.WriteString(w, "begin")
					http.NewResponseController(w).Flush()
				}
				close(began)
				<-r.Context().Done() // what it stalls on ends only with the connection
			})))))
			ctx, leave := context.WithCancel(t.Context())
			got := start(r.client(p), newRequest(t, ctx, "GET", path, nil))
			receive(t, began, "the request")
			leave()
			receive(t, ended, "the instance to be told that the caller left")
			receive(t, got, "the end of the call")
			eventually(t, "it is counted", func() bool { return r.stats("svc").Failed[activator.CallerGone] == 1 })
			r.idle()
		})
	}
}

// The stall is the instance's: it neither reads the body nor answers.
func TestCallerThatLeavesAnInstanceThatDoesNotRead(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	r := newRig(t, options(at(target(listener.Addr(), polder.HTTP1))))
	ctx, leave := context.WithCancel(t.Context())
	got := start(r.client(polder.HTTP1), newRequest(t, ctx, "POST", "/", bytes.NewReader(make([]byte, 64<<20))))
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	eventually(t, "it is forwarded", func() bool { return r.stats("svc").Forwarding == 1 })
	leave()
	receive(t, got, "the end of the call")
	r.idle()
	conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the instance still has its connection")
	}
}

// The caller pauses in the midst of its body: it must be told all the same.
func TestInstanceThatDiesDuringAnUpload(t *testing.T) {
	protocols(t, func(t *testing.T, p polder.Protocol) {
		r := newRig(t, options(at(instance(t, p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.ReadFull(r.Body, make([]byte, 4))
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				conn.Close() // over HTTP/1 the server would wait for the rest of the body
				return
			}
			panic(http.ErrAbortHandler)
		})))))
		reader, writer := io.Pipe()
		defer writer.Close()
		got := start(r.client(p), newRequest(t, t.Context(), "POST", "/", reader))
		io.WriteString(writer, "half")
		receive(t, got, "the refusal").refused(t, 502, activator.InstanceFailed)
		r.idle()
	})
}
