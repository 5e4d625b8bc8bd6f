package envoy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// TestIdleConnectionsLeave: an Envoy with a successor does not end under a connection
// that may be used at any moment. Its client is told to leave with the next answer,
// and is not waited for without end.
func TestIdleConnectionsLeave(t *testing.T) {
	p := newPlace(t)
	r := p.run(p.options(p.answering("hello")))
	pid := r.await(Running).PID
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	reader := bufio.NewReader(conn)
	ask := func() (last bool) {
		t.Helper()
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if text, err := io.ReadAll(response.Body); err != nil || string(text) != "hello" {
			t.Fatalf("got %q, %v", text, err)
		}
		return response.Close
	}
	if ask() {
		t.Fatal("the connection is closed after the first request: this shows nothing")
	}
	over, end := context.WithCancel(t.Context())
	end()
	if err := drain(t.Context(), over, nil, r.s.Admin()); err != nil {
		t.Errorf("with a connection that is idle for too long: %v", err)
	}

	drained := make(chan error, 1)
	go func() { drained <- drain(t.Context(), t.Context(), nil, r.s.Admin()) }()
	until(t, "new connections are refused", func() bool {
		another, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
		if err == nil {
			another.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	looks := 0
	until(t, "Envoy has been looked at often enough", func() bool { looks++; return looks > 50 })
	if len(drained) > 0 {
		t.Fatalf("it would end under an open connection: %v", <-drained)
	}
	if !ask() {
		t.Error("the client is not told to leave")
	}
	select {
	case err := <-drained:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("all have left, and it is waited for")
	}
	r.stop(nil)
	p.nothingLeft(pid)
}
