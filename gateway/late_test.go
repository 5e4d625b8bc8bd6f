package gateway

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/prewarm/instance"
)

// lateRig is region fr as it runs in production, with an Envoy beside its Polder and
// one that is connected by way of a relay, as on another machine. Instances listen at
// an address that both reach straight, and tell who sends to them after their end.
type lateRig struct {
	t       *testing.T
	region  *Region
	dir     string
	file    string // configuration
	roots   *x509.CertPool
	origins *elsewhere
	relay   *relay
	node    *exec.Cmd // the Envoy on the other machine

	https, far netip.AddrPort // entrypoints of the two Envoys
	xds        netip.AddrPort
	nodeHTTP   netip.AddrPort
	given      atomic.Int32 // times that the region went on without an acknowledgement
}

const lateHost = "swapped.example.com"

// newLateRig has instances listen at an address, and the region wait for so long for
// acknowledgements.
func newLateRig(t *testing.T, at netip.Addr, acknowledged time.Duration) *lateRig {
	t.Helper()
	dir, err := os.MkdirTemp("", "polder-late-") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := &lateRig{t: t, dir: dir, file: filepath.Join(dir, "polder.yaml"), roots: x509.NewCertPool(), origins: &elsewhere{host: at},
		https: freePort(t), far: freePort(t), xds: freePort(t), nodeHTTP: freePort(t)}
	l.write("swapped", 1)
	state := filepath.Join(dir, "state")
	if l.region, err = New(Options{Region: "fr", Config: l.file, State: state, Tools: "../.tools", Log: slog.New(&noticing{what: "going on without an acknowledgement", seen: &l.given}),
		Listen: polder.Listen{HTTPS: l.https.String(), HTTP: freePort(t).String(), Peer: freePort(t).String(), Gossip: freePort(t).String()}}); err != nil {
		t.Fatal(err)
	}
	r := l.region
	if r.manager, err = instance.New(instance.Options{
		Region: "fr", StateDir: r.layout.Instances(), Log: r.options.Log, Provider: l.origins, Timing: instance.DefaultTiming(), Logs: instance.DefaultLogLimits(),
		Events: func(e instance.Event) { r.reconciler.InstanceChanged(r.context(), e) },
	}); err != nil {
		t.Fatal(err)
	}
	r.reconciler.instances, r.reconciler.acknowledged = r.manager, acknowledged
	r.reconciler.finished = 10 * time.Millisecond // under load, some request is always open
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	ca, err := authority.Open(r.layout.Authority())
	if err != nil {
		t.Fatal(err)
	}
	l.roots.AppendCertsFromPEM(ca.Root())
	l.relay = newRelay(t, l.xds.String())
	l.startNode()
	for _, entry := range []netip.AddrPort{l.https, l.far} {
		eventually(t, "the entrypoint answers", func() bool { body, err := l.ask(entry); return err == nil && body == "swapped 1" })
	}
	return l
}

// write brings a configuration into the file, in which the host belongs to a service
// of that name and version.
func (l *lateRig) write(service string, version int) {
	l.t.Helper()
	text := fmt.Sprintf(`regions:
  fr:
    jurisdiction: [FR, EU]
    location: [48.86, 2.35]
    listen: { xds: "%s" }
    nodes: { fr-2: { https: "%s", http: "%s" } }
services:
  %s:
    hosts: [%s]
    residency: { allow: [fr] }
    run: { command: [program], environment: { VERSION: "%d" } }
    scale: { keep-alive: 1h, prewarm: off }
`, l.xds, l.far, l.nodeHTTP, service, lateHost, version)
	if err := os.WriteFile(l.file+".new", []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Rename(l.file+".new", l.file); err != nil {
		l.t.Fatal(err)
	}
}

// startNode starts the Envoy on the other machine.
func (l *lateRig) startNode() {
	l.t.Helper()
	out := filepath.Join(l.dir, "fr-2")
	if _, err := WriteNode(NodeBootstrap{Node: "fr-2", Machine: Machine{Region: "fr", Config: l.file, State: l.region.options.State, Control: l.relay.address(), Out: out}}); err != nil {
		l.t.Fatal(err)
	}
	l.keepWaiting(filepath.Join(out, BootstrapFile))
	log, err := os.Create(filepath.Join(out, "log"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer log.Close()
	l.node = exec.Command("../.tools/envoy-1.40.0/envoy", "--config-path", filepath.Join(out, BootstrapFile), "--disable-hot-restart", "--concurrency", "1", "-l", "warning")
	l.node.Stdout, l.node.Stderr = log, log
	if err := l.node.Start(); err != nil {
		l.t.Fatalf("no Envoy: %v; run make envoy", err)
	}
	l.t.Cleanup(func() {
		l.node.Process.Kill()
		l.node.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && l.t.Failed() {
			l.t.Logf("Envoy of fr-2 said:\n%s", text)
		}
	})
}

// keepWaiting has the Envoy take no silence of its control plane for the connection's
// end: what the relay holds back has its pings' answers in it, and who is not connected
// is not waited for.
func (l *lateRig) keepWaiting(bootstrap string) {
	l.t.Helper()
	text, err := os.ReadFile(bootstrap)
	if err != nil {
		l.t.Fatal(err)
	}
	timeout := regexp.MustCompile(`("connectionKeepalive":\s*\{[^}]*"timeout":\s*)"[^"]*"`)
	if !timeout.Match(text) {
		l.t.Fatalf("the bootstrap says nothing of pings: %s", text)
	}
	if err := os.WriteFile(bootstrap, timeout.ReplaceAll(text, []byte(`$1"600s"`)), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// ask calls the host at an entrypoint, on a connection of its own, and gives which
// service and version answered.
func (l *lateRig) ask(entry netip.AddrPort) (string, error) {
	client, done := clientAt(l.roots, entry, true)
	defer done()
	response, err := client.Get("https://" + lateHost + "/")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}

// answers waits until an entrypoint is answered by a service's version.
func (l *lateRig) answers(entry netip.AddrPort, service string, version int) {
	l.t.Helper()
	want := fmt.Sprint(service, " ", version)
	eventually(l.t, fmt.Sprintf("%s answers at %s", want, entry), func() bool { body, err := l.ask(entry); return err == nil && body == want })
}

// TestALateNodeLosesNothing swaps what is behind a host under load through both Envoys,
// while what Polder says reaches the one on the other machine late: what that still
// uses runs on until it has acknowledged that it is gone. No request is lost.
//
//   - versions: the service's only instance is replaced by one of a newer version.
//   - services: the host moves to a new service, and the old one goes.
//   - services on loopback: likewise, and the late Envoy reaches both by way of the
//     activator only, to which it names the old one.
func TestALateNodeLosesNothing(t *testing.T) {
	moves := func(i int) (string, int) { return fmt.Sprint("swapped-", i), i + 2 }
	for kind, c := range map[string]struct {
		at   netip.Addr
		next func(i int) (service string, version int)
	}{
		"versions":             {ownAddress(t), func(i int) (string, int) { return "swapped", i + 2 }},
		"services":             {ownAddress(t), moves},
		"services on loopback": {netip.AddrFrom4([4]byte{127, 0, 0, 1}), moves},
	} {
		t.Run(kind, func(t *testing.T) {
			l := newLateRig(t, c.at, 10*time.Minute) // so that a slow machine is not late
			near, far := loadOn(l.roots, l.https, lateHost), loadOn(l.roots, l.far, lateHost)
			const swaps = 5
			for i := range swaps {
				old := l.origins.last()
				l.relay.hold()
				service, version := c.next(i)
				l.write(service, version)
				l.answers(l.https, service, version)
				before := far.calls.Load()
				eventually(t, "the late Envoy goes on", func() bool { return far.calls.Load() > before+300 })
				if old.ending.Load() {
					t.Errorf("swap %d: what the late Envoy uses was stopped", i)
				}
				l.relay.release()
				eventually(t, "the old instance ends", old.ended)
			}
			l.answers(l.far, l.origins.last().service, swaps+1)
			for where, stop := range map[string]*loading{"the Envoy beside Polder": near, "the late Envoy": far} {
				if calls, lost := stop.stop(); len(lost) > 0 {
					t.Errorf("%d of %d requests through %s were lost, the first: %s", len(lost), calls, where, lost[0])
				}
			}
			if n := l.given.Load(); n > 0 {
				t.Errorf("%d times an acknowledgement was not waited for", n)
			}
		})
	}
}

// TestASilentNodeDelaysOthersOnce stops the Envoy on the other machine, which
// acknowledges nothing from then on: one retirement waits for it, until the deadline;
// the next ones do not. When it goes on, it gets the latest state.
func TestASilentNodeDelaysOthersOnce(t *testing.T) {
	l := newLateRig(t, ownAddress(t), ackDeadline)
	near := loadOn(l.roots, l.https, lateHost)
	if err := l.node.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	const swaps = 4
	for i := range swaps {
		old := l.origins.last()
		l.write("swapped", i+2)
		l.answers(l.https, "swapped", i+2)
		eventually(t, "the old instance ends", old.ended)
		if n := l.given.Load(); n != 1 {
			t.Errorf("after swap %d: %d times the region went on without an acknowledgement, want once", i, n)
		}
	}
	if err := l.node.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	l.answers(l.far, "swapped", swaps+1)
	if calls, lost := near.stop(); len(lost) > 0 {
		t.Errorf("%d of %d requests through the Envoy beside Polder were lost, the first: %s", len(lost), calls, lost[0])
	}
	old := l.origins.last()
	l.write("swapped", swaps+2)
	l.answers(l.far, "swapped", swaps+2)
	eventually(t, "the old instance ends", old.ended)
}

// elsewhere runs instances that listen at an address which other machines reach too. An
// instance is a server of this process: none of the providers there are has such ones.
type elsewhere struct {
	host netip.Addr

	mu      sync.Mutex
	started []*origin
}

func (e *elsewhere) Adopt(context.Context) ([]instance.Handle, error) { return nil, nil }

func (e *elsewhere) Start(_ context.Context, o instance.Order) (instance.Handle, error) {
	listener, err := net.Listen("tcp", netip.AddrPortFrom(e.host, 0).String())
	if err != nil {
		return nil, err
	}
	h := &origin{service: string(o.Service.Name), done: make(chan struct{}), identity: instance.Identity{ID: o.ID, Service: o.Service.Name, Region: o.Region,
		Address: netip.MustParseAddrPort(listener.Addr().String()), Asked: o.Asked, Reason: o.Reason}}
	h.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.ending.Load() {
			w.WriteHeader(http.StatusGone) // what Envoy hands on to the caller, and does not repeat
		}
		fmt.Fprint(w, o.Service.Name, " ", o.Service.Run.Environment["VERSION"])
	})}
	go h.server.Serve(listener)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.started = append(e.started, h)
	return h, nil
}

// last is the instance that was started last.
func (e *elsewhere) last() *origin {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.started[len(e.started)-1]
}

// origin is an instance elsewhere. Whatever comes after it was asked to end is
// answered 410.
type origin struct {
	service  string
	identity instance.Identity
	server   *http.Server
	ending   atomic.Bool
	done     chan struct{}
	once     sync.Once
}

func (o *origin) Identity() instance.Identity                   { return o.identity }
func (o *origin) AwaitReady(context.Context) (time.Time, error) { return time.Now(), nil }
func (o *origin) Done() <-chan struct{}                         { return o.done }
func (o *origin) Died() *instance.Died                          { return &instance.Died{Exit: "stopped"} }
func (o *origin) Release()                                      {}

func (o *origin) Stop(ctx context.Context, grace time.Duration) error {
	o.ending.Store(true)
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err := o.server.Shutdown(ctx)
	o.once.Do(func() { close(o.done) })
	return err
}

func (o *origin) ended() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

// ownAddress is one of this machine's that is not on loopback.
func ownAddress(t *testing.T) netip.Addr {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr()
		}
	}
	t.Fatalf("this machine has no IPv4 address beside loopback (%v): instances that an Envoy elsewhere reaches need one", addresses)
	return netip.Addr{}
}

// relay passes connections on, and holds back what their other end says while it is told to.
type relay struct {
	listener net.Listener

	mu   sync.Mutex
	open chan struct{} // closed while nothing is held back
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, open: make(chan struct{})}
	close(r.open)
	var conns sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); listener.Close(); conns.Wait() })
	conns.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { r.pass(ctx, from, to) })
		}
	})
	return r
}

func (r *relay) address() string { return r.listener.Addr().String() }

// pass serves one connection until either end, or the context, closes it.
func (r *relay) pass(ctx context.Context, from net.Conn, address string) {
	defer from.Close()
	to, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	defer context.AfterFunc(ctx, func() { from.Close(); to.Close() })()
	go func() {
		io.Copy(to, from)
		to.Close()
	}()
	buffer := make([]byte, 1<<15)
	for {
		n, err := to.Read(buffer)
		if err != nil {
			return
		}
		select {
		case <-r.passing():
		case <-ctx.Done():
			return
		}
		if _, err := from.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (r *relay) passing() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open
}

func (r *relay) hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = make(chan struct{})
}

func (r *relay) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.open)
}

// noticing counts the log's lines that say something.
type noticing struct {
	what string
	seen *atomic.Int32
}

func (n *noticing) Enabled(context.Context, slog.Level) bool { return true }
func (n *noticing) WithAttrs([]slog.Attr) slog.Handler       { return n }
func (n *noticing) WithGroup(string) slog.Handler            { return n }
func (n *noticing) Handle(_ context.Context, r slog.Record) error {
	if r.Message == n.what {
		n.seen.Add(1)
	}
	return nil
}
