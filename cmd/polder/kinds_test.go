package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/internal/grpctest"
)

const kinds = "testdata/kinds.yaml"

// kindsOf are further answers of an instance:
//
//	/up      200 once TEST_READY_AFTER has passed since it listens; everything else is refused until then
//	/hash    the sum of the body, and of its trailer "proof", in a trailer "sum"
//	/echo    the body, piece by piece as it comes
func kindsOf(mux *http.ServeMux) http.Handler {
	after, _ := time.ParseDuration(os.Getenv("TEST_READY_AFTER"))
	ready := time.Now().Add(after)
	mux.HandleFunc("/up", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/hash", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "sum")
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%d bytes, %v", n, err)
		w.Header().Set("sum", fmt.Sprintf("%x %s", sum.Sum(nil), r.Trailer.Get("proof")))
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		out := http.NewResponseController(w)
		out.EnableFullDuplex() // HTTP/1.1 answers only then before it has the whole body
		out.Flush()
		piece := make([]byte, 1<<10)
		for {
			n, err := r.Body.Read(piece)
			w.Write(piece[:n])
			out.Flush()
			if err != nil {
				return
			}
		}
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if time.Now().Before(ready) {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// wake calls a service that sleeps, and wants it to be started once for that.
func (u *fleetUnderTest) wake(t *testing.T, service polder.ServiceName, call func() error) {
	t.Helper()
	eventually(t, string(service)+" sleeps", func() bool { return len(u.service("fr", service).Instances) == 0 })
	before := u.service("fr", service).Totals
	if err := call(); err != nil {
		t.Error(err)
	}
	if after := u.service("fr", service).Totals; after.Starts != before.Starts+1 || after.Cold != before.Cold+1 || after.Crashes != 0 {
		t.Errorf("%s: %+v became %+v, want one start for one cold request", service, before, after)
	}
}

// TestKindsOfCalls makes calls of every kind while their service sleeps, through a
// real Envoy to real instances. Their service answers 503 until its readiness path
// says otherwise, so whoever is let through too early is noticed.
func TestKindsOfCalls(t *testing.T) {
	u := startUp(t, kinds)
	for _, http2 := range []bool{false, true} {
		name := map[bool]string{false: "HTTP/1.1", true: "HTTP/2"}[http2]
		client := u.client(t, http2)
		t.Run(name+", a large body in chunks with trailers", func(t *testing.T) {
			u.wake(t, "plain", func() error { return u.upload(client) })
		})
		t.Run(name+", a slow body, and an answer that comes with it", func(t *testing.T) {
			u.wake(t, "plain", func() error { return u.converse(client) })
		})
		t.Run(name+", a caller who leaves", func(t *testing.T) {
			u.leave(t, client)
		})
	}
	for name, call := range grpctest.Kinds {
		t.Run("gRPC, "+name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			u.wake(t, "calls", func() error { return call(ctx, u.dialRPC(t, "calls.example.com")) })
		})
	}
	t.Run("server-sent events", func(t *testing.T) {
		u.wake(t, "events", func() error {
			s := u.open(t, "events.example.com", "GET /events HTTP/1.1\r\nAccept: text/event-stream\r\n", http.StatusOK)
			u.sayTo(t, "events.example.com", "hello")
			s.find(t, "data: hello")
			return s.Close()
		})
	})
	t.Run("a WebSocket", func(t *testing.T) {
		u.wake(t, "sockets", func() error {
			s := u.open(t, "sockets.example.com", webSocket, http.StatusSwitchingProtocols)
			s.echo(t, "hello")
			return s.Close()
		})
	})
}

const webSocket = "GET /upgrade HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// client is a caller of fr with connections of its own.
func (u *fleetUnderTest) client(t *testing.T, http2 bool) *http.Client {
	t.Helper()
	c := &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: u.roots}, ForceAttemptHTTP2: http2,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", u.listen["fr"].HTTPS)
		},
	}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// upload sends 8 MiB of unknown length with a trailer, and wants their sum.
func (u *fleetUnderTest) upload(client *http.Client) error {
	sent := bytes.Repeat([]byte("0123456789abcdef"), 512<<10)
	request, err := http.NewRequest(http.MethodPost, "https://plain.example.com/hash", io.MultiReader(bytes.NewReader(sent)))
	if err != nil {
		return err
	}
	request.ContentLength = -1
	request.Trailer = http.Header{"Proof": {"whole"}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	want := fmt.Sprintf("%x whole", sha256.Sum256(sent))
	if err != nil || string(text) != fmt.Sprintf("%d bytes, <nil>", len(sent)) || response.Trailer.Get("sum") != want {
		return fmt.Errorf("%s: %q, trailers %v, want sum %s, %w", response.Status, text, response.Trailer, want, err)
	}
	return nil
}

// converse sends each piece of a body only after the one before has come back.
func (u *fleetUnderTest) converse(client *http.Client) error {
	from, into := io.Pipe()
	defer into.Close()
	request, err := http.NewRequest(http.MethodPost, "https://plain.example.com/echo", from)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	for i := range 5 {
		piece := fmt.Sprintf("piece %d", i)
		if _, err := io.WriteString(into, piece); err != nil {
			return err
		}
		back := make([]byte, len(piece))
		if _, err := io.ReadFull(response.Body, back); err != nil || string(back) != piece {
			return fmt.Errorf("%s: %q came back for %q: %w", response.Status, back, piece, err)
		}
	}
	return nil
}

// leave calls a service that is not ready while it waits, and leaves: its share
// of what may be held is free again.
func (u *fleetUnderTest) leave(t *testing.T, client *http.Client) {
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://never.example.com/", strings.NewReader("never read"))
	if err != nil {
		t.Fatal(err)
	}
	left := make(chan error, 1)
	go func() {
		response, err := client.Do(request)
		if err == nil {
			err = fmt.Errorf("answered %s", response.Status)
			response.Body.Close()
		}
		left <- err
	}()
	eventually(t, "the request is held", func() bool { return u.holds(t, "never", 1) })
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller who left got %v", err)
	}
	eventually(t, "nothing is held", func() bool { return u.holds(t, "never", 0) })
}

// holds tells whether so many requests of the service wait, and no others.
func (u *fleetUnderTest) holds(t *testing.T, service polder.ServiceName, n int) bool {
	t.Helper()
	return u.service("fr", service).Waiting == n && strings.Contains(u.metrics(t), fmt.Sprintf(`polder_held_requests{class="cold",peer="fr-1",region="fr"} %d`+"\n", n))
}

// visit sends one request, which must be answered.
func (u *fleetUnderTest) visit(t *testing.T, host string) {
	t.Helper()
	if response, text := u.send(t, http.MethodGet, host, "/", "", nil); response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s", host, response.Status, text)
	}
}

// sayTo sends a line to all who listen to a service's events.
func (u *fleetUnderTest) sayTo(t *testing.T, host, line string) {
	t.Helper()
	if response, _ := u.send(t, http.MethodPost, host, "/say", line, nil); response.StatusCode != http.StatusOK {
		t.Fatalf("say: %s", response.Status)
	}
}

// TestOpenStreamsKeepAwake: an event stream, a WebSocket and a gRPC call that are
// open, with nothing on them, keep their instances, though their services would
// fall asleep after a tenth of a second. Another service falls asleep again and
// again meanwhile. What Polder itself asks, and who asks Polder, keep nobody awake.
func TestOpenStreamsKeepAwake(t *testing.T) {
	u := startUp(t, kinds)
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	call, err := u.dialRPC(t, "calls.example.com").FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := grpctest.Talk(call, 1); err != nil {
		t.Fatal(err)
	}
	events := u.open(t, "events.example.com", "GET /events HTTP/1.1\r\nAccept: text/event-stream\r\n", http.StatusOK)
	socket := u.open(t, "sockets.example.com", webSocket, http.StatusSwitchingProtocols)
	socket.echo(t, "before")
	names := []polder.ServiceName{"calls", "events", "sockets"}
	awake := map[polder.ServiceName]gateway.InstanceStatus{}
	for _, name := range names {
		instances := u.service("fr", name).Instances
		if len(instances) != 1 {
			t.Fatalf("%s has the instances %+v", name, instances)
		}
		awake[name] = instances[0]
	}
	for range 3 {
		u.visit(t, "witness.example.com")
		u.asleep("witness")
	}
	for _, name := range names {
		s := u.service("fr", name)
		if len(s.Instances) != 1 || s.Instances[0].Instance != awake[name].Instance || s.Totals.Starts != 1 {
			t.Errorf("%s has an open stream, and had %s: %+v", name, awake[name].Instance, s)
		}
	}
	if err := grpctest.Talk(call, 2); err != nil {
		t.Errorf("the call: %v", err)
	}
	socket.echo(t, "after")
	u.sayTo(t, "events.example.com", "after")
	events.find(t, "data: after")

	if err := errors.Join(call.CloseSend(), events.Close(), socket.Close()); err != nil {
		t.Error(err)
	}
	for _, name := range names {
		u.asleep(name)
	}
}

// TestAsleepOverQUIC: a sleeping service is called over QUIC, also on a connection
// that resumes a session. A session is resumed by the worker that began it: so
// callers connect until it happened.
func TestAsleepOverQUIC(t *testing.T) {
	u := startUp(t, kinds)
	config := &tls.Config{RootCAs: u.roots, ServerName: "quick.example.com", NextProtos: []string{http3.NextProtoH3}, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	for _, resumed := range []bool{false, true} {
		eventually(t, "a request on a connection with the session that is wanted is answered", func() bool {
			u.asleep("quick")
			before := u.service("fr", "quick").Totals
			conn := u.quic(t, config)
			defer conn.CloseWithError(0, "")
			u.askOver(t, conn, "quick.example.com")
			if after := u.service("fr", "quick").Totals; after.Starts != before.Starts+1 {
				t.Errorf("a call over QUIC started %d instances", after.Starts-before.Starts)
			}
			return conn.ConnectionState().TLS.DidResume || !resumed
		})
	}
}

// TestNothingWaitsBeforeStreamsOverQUIC: requests in the packets that end the
// handshake are answered, however long Polder is silent.
func TestNothingWaitsBeforeStreamsOverQUIC(t *testing.T) {
	u := startUp(t, kinds)
	const host = "awake.example.com"
	config := &tls.Config{RootCAs: u.roots, ServerName: host, NextProtos: []string{http3.NextProtoH3}}
	eventually(t, "its instance is called directly", func() bool {
		conn := u.quic(t, config)
		defer conn.CloseWithError(0, "")
		u.askOver(t, conn, host)
		return u.service("fr", "awake").Totals.Direct > 0
	})
	pid := u.mustStatus("fr").PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT)
	for range 20 {
		conn := u.quic(t, config)
		u.askOver(t, conn, host)
		conn.CloseWithError(0, "")
	}
}

// quic makes a connection to the entrypoint of fr over QUIC, once Envoy takes any.
func (u *fleetUnderTest) quic(t *testing.T, config *tls.Config) *quic.Conn {
	t.Helper()
	return u.quicAt(t, u.listen["fr"].HTTPS, config)
}

// quicAt makes one to any entrypoint.
func (u *fleetUnderTest) quicAt(t *testing.T, entry string, config *tls.Config) (conn *quic.Conn) {
	t.Helper()
	eventually(t, "Envoy answers over QUIC", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var err error
		conn, err = quic.DialAddr(ctx, entry, config, &quic.Config{})
		return err == nil
	})
	return conn
}

// askOver sends one request over QUIC.
func (u *fleetUnderTest) askOver(t *testing.T, conn *quic.Conn, host string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	transport := &http3.Transport{}
	defer transport.Close()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.NewClientConn(conn).RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("got %v, %v", response, err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Error(err)
	}
}

// TestScannerWakesNobodyTwice: whoever greets every name again and again, and asks
// for nothing, has one instance started, and none is kept for it.
func TestScannerWakesNobodyTwice(t *testing.T) {
	u := startUp(t, kinds)
	config := &tls.Config{RootCAs: u.roots, ServerName: "quick.example.com"}
	for range 50 {
		u.greet(t, config).Close()
	}
	eventually(t, "the first greeting has woken quick", func() bool { return u.service("fr", "quick").Totals.Starts > 0 })
	u.asleep("quick") // half a minute later
	for range 50 {
		u.greet(t, config).Close()
	}
	u.visit(t, "witness.example.com")
	u.asleep("witness") // time enough for a start
	if s := u.service("fr", "quick"); s.Totals.Starts != 1 || len(s.Instances) != 0 {
		t.Errorf("a hundred greetings: %+v, want one start", s)
	}
}
