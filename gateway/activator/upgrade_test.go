package activator_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/polder/polder"
)

// talker takes over the connection and sends each line back with a prefix,
// until the caller ends its side; then it says so and ends its own.
var talker = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" {
		http.Error(w, "no upgrade asked for", http.StatusUpgradeRequired)
		return
	}
	conn, both, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\nhello\n", r.Header.Get("Sec-WebSocket-Key"))
	for {
		line, err := both.ReadString('\n')
		if err != nil {
			fmt.Fprint(conn, "you ended\n")
			return
		}
		if line == "leave\n" {
			return
		}
		fmt.Fprint(conn, "> "+line)
	}
})

// upgrade sends an upgrade request and what a hasty caller sends with it.
func upgrade(t *testing.T, conn net.Conn, early string) *bufio.Reader {
	t.Helper()
	fmt.Fprint(conn, "GET /chat HTTP/1.1\r\nHost: h\r\nX-Polder-Service: svc\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Key: key\r\n\r\n"+early)
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Sec-WebSocket-Accept") != "key" ||
		response.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("got %s %v", response.Status, response.Header)
	}
	return reader
}

func expect(t *testing.T, reader *bufio.Reader, want string) {
	t.Helper()
	if line, err := reader.ReadString('\n'); line != want {
		t.Fatalf("got %q, %v, want %q", line, err, want)
	}
}

func TestUpgradedConnections(t *testing.T) {
	for name, talk := range map[string]func(t *testing.T, conn net.Conn){
		"both ways": func(t *testing.T, conn net.Conn) {
			reader := upgrade(t, conn, "")
			expect(t, reader, "hello\n")
			for i := range 3 {
				fmt.Fprintf(conn, "%d\n", i)
				expect(t, reader, fmt.Sprintf("> %d\n", i))
			}
			conn.Close()
		},
		"bytes sent before the answer": func(t *testing.T, conn net.Conn) {
			reader := upgrade(t, conn, "early\nbird")
			fmt.Fprint(conn, "s\n")
			expect(t, reader, "hello\n")
			expect(t, reader, "> early\n")
			expect(t, reader, "> birds\n")
			conn.Close()
		},
		"the caller ends its side": func(t *testing.T, conn net.Conn) {
			reader := upgrade(t, conn, "a\n")
			conn.(*net.UnixConn).CloseWrite()
			expect(t, reader, "hello\n")
			expect(t, reader, "> a\n")
			expect(t, reader, "you ended\n")
			if rest, err := io.ReadAll(reader); len(rest) > 0 || err != nil {
				t.Errorf("at the end: %q, %v", rest, err)
			}
		},
		"the instance leaves": func(t *testing.T, conn net.Conn) {
			reader := upgrade(t, conn, "leave\n")
			expect(t, reader, "hello\n")
			if rest, err := io.ReadAll(reader); len(rest) > 0 || err != nil {
				t.Errorf("at the end: %q, %v", rest, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWakes()
			r := newRig(t, options(w.wake))
			to := instance(t, polder.HTTP1, talker)
			go func() {
				select {
				case one := <-w.asked:
					one.succeed(to)
				case <-t.Context().Done():
				}
			}()
			conn := r.dial()
			talk(t, conn)
			conn.Close()
			r.idle()
			if s := r.stats("svc"); s.Cold != 1 || len(s.Failed) != 0 {
				t.Errorf("counted %+v", s)
			}
			if cold := r.ColdRequests(); len(cold) != 1 || cold[0].Status != http.StatusSwitchingProtocols {
				t.Errorf("the ledger has %+v", cold)
			}
		})
	}
}

func TestInstanceThatRefusesToUpgrade(t *testing.T) {
	r := newRig(t, options(at(instance(t, polder.HTTP1, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not today", http.StatusForbidden)
	})))))
	conn := r.dial()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: h\r\nX-Polder-Service: svc\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusForbidden {
		t.Errorf("got %+v, %v", response, err)
	}
	conn.Close()
	r.idle()
}
