package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/polder/polder"
)

// TestStreamsThatBeganColdOutlivePolder: server-sent events and a WebSocket that
// woke their service are not the activator's for life. Envoy takes them to the
// instance, and kill -9 of Polder cuts neither.
func TestStreamsThatBeganColdOutlivePolder(t *testing.T) {
	u := startUp(t, "testdata/cold.yaml")
	events := u.open(t, "streams.example.com", "GET /events HTTP/1.1\r\nAccept: text/event-stream\r\n", http.StatusOK)
	socket := u.open(t, "sockets.example.com", upgrade, http.StatusSwitchingProtocols)
	socket.echo(t, "before")
	u.say(t, "before")
	events.find(t, "data: before")

	u.wantMoved(t, "streams")
	u.wantMoved(t, "sockets")
	before, err := u.status("fr")
	if err != nil {
		t.Fatal(err)
	}
	u.kill(before.PID)
	u.wantGone(map[int]string{before.PID: "region fr"})
	socket.echo(t, "meanwhile")
	eventually(t, "region fr is back", func() bool {
		after, err := u.status("fr")
		return err == nil && after.PID != before.PID && after.Serving()
	})
	socket.echo(t, "after")
	u.say(t, "after")
	events.find(t, "data: after")
}

// wantMoved checks that the only request which a service has on record was taken to
// its instance, and accounts for its time.
func (u *fleetUnderTest) wantMoved(t *testing.T, service polder.ServiceName) {
	t.Helper()
	why := u.why(t, string(service))
	if len(why.Requests) != 1 || !why.Requests[0].Moved {
		t.Errorf("the stream that woke %s: %+v", service, why.Requests)
	}
	for _, r := range why.Requests {
		wantPhases(t, r)
	}
}

// stream is a connection to the entrypoint of fr on which an answer has begun.
type stream struct {
	net.Conn
	lines *bufio.Reader
}

func (u *fleetUnderTest) open(t *testing.T, host, head string, want int) *stream {
	t.Helper()
	return newStream(t, u.greet(t, &tls.Config{RootCAs: u.roots, ServerName: host, NextProtos: []string{"http/1.1"}}), head, host, want)
}

// newStream sends a request's header and reads that of the answer.
func newStream(t *testing.T, conn net.Conn, head, host string, want int) *stream {
	t.Helper()
	fmt.Fprintf(conn, "%sHost: %s\r\n\r\n", head, host)
	s := &stream{conn, bufio.NewReader(conn)}
	response, err := http.ReadResponse(s.lines, nil)
	if err != nil || response.StatusCode != want {
		t.Fatalf("%s: got %v, %v, want %d", head, response, err, want)
	}
	return s
}

// find reads until a line has the text.
func (s *stream) find(t *testing.T, text string) {
	t.Helper()
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ended before %q: %v", text, err)
		}
		if strings.Contains(line, text) {
			return
		}
	}
}

func (s *stream) echo(t *testing.T, text string) {
	t.Helper()
	fmt.Fprintf(s, "%s\n", text)
	s.find(t, text)
}

// say sends a line to all who listen to events.
func (u *fleetUnderTest) say(t *testing.T, line string) {
	t.Helper()
	if response, _ := u.send(t, http.MethodPost, "streams.example.com", "/say", line, nil); response.StatusCode != http.StatusOK {
		t.Fatalf("say: %s", response.Status)
	}
}
