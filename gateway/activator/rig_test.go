package activator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// patience bounds every wait for something that is sure to happen.
const patience = 60 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wakes is a Wake function that a test holds in its hands: each call appears
// on asked and is answered by what the test sends to it.
type wakes struct {
	asked chan *wake
}

type wake struct {
	ctx     context.Context
	service polder.ServiceName
	cause   activator.Cause
	answer  chan answer
}

type answer struct {
	target activator.Target
	err    error
}

func newWakes() *wakes { return &wakes{asked: make(chan *wake, 4096)} }

func (w *wakes) wake(ctx context.Context, service polder.ServiceName, cause activator.Cause) (activator.Target, error) {
	one := &wake{ctx, service, cause, make(chan answer, 1)}
	w.asked <- one
	select {
	case a := <-one.answer:
		return a.target, a.err
	case <-ctx.Done():
		return activator.Target{}, ctx.Err()
	}
}

// next returns the next call.
func (w *wakes) next(t *testing.T) *wake {
	t.Helper()
	return receive(t, w.asked, "a call of Wake")
}

func (w *wake) succeed(target activator.Target) { w.answer <- answer{target: target} }
func (w *wake) fail(err error)                  { w.answer <- answer{err: err} }

// at is a Wake function that always has the same target.
func at(target activator.Target) activator.Wake {
	return func(context.Context, polder.ServiceName, activator.Cause) (activator.Target, error) {
		return target, nil
	}
}

func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// rig is an Activator that serves a Unix socket, as in the product.
type rig struct {
	*activator.Activator
	t      *testing.T
	socket string
	log    *lockedBuffer
	stop   context.CancelFunc // what the gateway does when it ends
	served chan error
}

func options(wake activator.Wake) activator.Options {
	return activator.Options{
		Region:   "fr",
		Wake:     wake,
		Known:    func(s polder.ServiceName) bool { return !strings.HasPrefix(string(s), "nobody") },
		Limits:   activator.DefaultLimits(),
		Remember: activator.DefaultRemember,
	}
}

func newRig(t *testing.T, o activator.Options) *rig {
	t.Helper()
	r := &rig{t: t, socket: filepath.Join(t.TempDir(), "a.sock"), log: new(lockedBuffer), served: make(chan error, 1)}
	o.Log = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
	var err error
	if r.Activator, err = activator.New(o); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	go func() { r.served <- r.Serve(ctx, listener) }()
	t.Cleanup(func() {
		r.stop()
		if err := r.ended(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return r
}

// ended waits until Serve has returned.
func (r *rig) ended() error {
	err := receive(r.t, r.served, "the end of Serve")
	r.served <- err
	return err
}

func (r *rig) dial() net.Conn {
	r.t.Helper()
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// client speaks to the activator as Envoy does: one protocol, known beforehand.
func (r *rig) client(protocol polder.Protocol) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(protocol == polder.HTTP1)
	protocols.SetUnencryptedHTTP2(protocol == polder.HTTP2)
	transport := &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", r.socket)
		},
		DisableCompression:  true,
		MaxIdleConnsPerHost: 4,
	}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// connected returns a client that has a connection already: over HTTP/2 all of
// its requests take that one, where a new client would open one for each that
// begins before the first is open.
func (r *rig) connected(protocol polder.Protocol) *http.Client {
	r.t.Helper()
	client := r.client(protocol)
	request := newRequest(r.t, r.t.Context(), "GET", "/", nil)
	request.Header.Set("X-Polder-Service", "nobody")
	send(client, request).refused(r.t, http.StatusServiceUnavailable, activator.UnknownService)
	return client
}

// stats returns the counters of one service.
func (r *rig) stats(service polder.ServiceName) activator.ServiceStats {
	for _, s := range r.Stats().Services {
		if s.Service == service {
			return s
		}
	}
	return activator.ServiceStats{}
}

// idle waits until nothing is held or forwarded, and checks that it adds up.
func (r *rig) idle() {
	r.t.Helper()
	eventually(r.t, "nothing is held or forwarded", func() bool {
		s := r.Stats()
		if s.Forwarding != 0 {
			return false
		}
		for _, class := range s.Classes {
			if class.Held != 0 || class.Bytes != 0 {
				return false
			}
		}
		return true
	})
	for _, s := range r.Stats().Services {
		failed := uint64(0)
		for reason, n := range s.Failed {
			if reason != activator.InstanceFailed {
				failed += n
			}
		}
		told := uint64(0)
		for _, n := range s.Brief {
			told += n
		}
		if s.Held != 0 || s.Forwarding != 0 || s.Forwarded != s.Cold+s.Saturated+s.Late || s.Requests < s.Forwarded+s.Moved+told || s.Requests > s.Forwarded+s.Moved+told+failed {
			r.t.Errorf("the counters do not add up: %+v", s)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// instance runs a real server as an instance of a service.
func instance(t *testing.T, protocol polder.Protocol, handler http.Handler) activator.Target {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(protocol == polder.HTTP1)
	protocols.SetUnencryptedHTTP2(protocol == polder.HTTP2)
	server := &http.Server{Handler: handler, Protocols: protocols,
		DisableGeneralOptionsHandler: true, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return target(listener.Addr(), protocol)
}

func target(address net.Addr, protocol polder.Protocol) activator.Target {
	return activator.Target{Address: netip.MustParseAddrPort(address.String()), Protocol: protocol, Instance: "svc-1"}
}

// nobody is a target that refuses connections. Its port is nobody else's while the
// test lasts, and the test may listen on it.
func nobody(t *testing.T) activator.Target {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	option := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	bind := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	name, err := unix.Getsockname(fd)
	if err := errors.Join(option, bind, err); err != nil {
		t.Fatal(err)
	}
	return target(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}, polder.HTTP1)
}

// refusal is the contract's body of an answer that no instance gave.
type refusal struct {
	Error   string `json:"error"`
	Reason  string `json:"reason"`
	Service string `json:"service"`
	Region  string `json:"region"`
	Request string `json:"request-id"`
}

func newRequest(t testing.TB, ctx context.Context, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, "http://svc.example.com"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Polder-Service", "svc")
	r.Header.Set("X-Request-Id", "req-1")
	return r
}

// result is what a caller got.
type result struct {
	*http.Response
	text string
	err  error
}

func send(c *http.Client, r *http.Request) result {
	response, err := c.Do(r)
	if err != nil {
		return result{err: err}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return result{response, string(text), err}
}

// start sends a request in the background.
func start(c *http.Client, r *http.Request) <-chan result {
	got := make(chan result, 1)
	go func() { got <- send(c, r) }()
	return got
}

func (g result) ok(t *testing.T, want string) {
	t.Helper()
	if g.err != nil || g.StatusCode != http.StatusOK || g.text != want {
		t.Errorf("got %+v, want 200 %q", g, want)
	}
}

func (g result) refused(t *testing.T, status int, reason activator.Reason) refusal {
	t.Helper()
	if g.err != nil {
		t.Fatal(g.err)
	}
	var body refusal
	if err := json.Unmarshal([]byte(g.text), &body); err != nil {
		t.Fatalf("%s %q: %v", g.Status, g.text, err)
	}
	if g.StatusCode != status || g.Header.Get("X-Polder-Reason") != string(reason) || body.Reason != string(reason) {
		t.Errorf("got %d, header %q, body %+v, want %d %s", g.StatusCode, g.Header.Get("X-Polder-Reason"), body, status, reason)
	}
	if body.Error == "" {
		t.Errorf("the refusal %+v does not say in words what happened", body)
	}
	if retry := g.Header.Get("Retry-After"); (retry != "") != (status == http.StatusServiceUnavailable) {
		t.Errorf("status %d with Retry-After %q", status, retry)
	}
	return body
}
