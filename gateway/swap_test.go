package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

var swaps = flag.Int("swaps", 20, "backend swaps of each kind under load; 1000 for the long run")

// backend is an origin that can be stopped as an instance is.
type backend struct {
	address netip.AddrPort
	server  *http.Server
	ended   chan error
	callers sync.Map // who was answered, by the header that says so
}

// callerHeader names the caller to the backend.
const callerHeader = "X-Caller"

// answered counts the callers who had an answer from here.
func (b *backend) answered() (n int) {
	b.callers.Range(func(any, any) bool { n++; return true })
	return n
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{address: netip.MustParseAddrPort(l.Addr().String()), ended: make(chan error, 1)}
	b.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.callers.Store(r.Header.Get(callerHeader), true)
		fmt.Fprint(w, r.Header.Get(xds.HeaderService))
	})}
	go func() { b.ended <- b.server.Serve(l) }()
	return b
}

// stop lets requests in progress end.
func (b *backend) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-b.ended; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// TestSwapsUnderLoadLoseNothing changes what is behind a host again and again
// while callers post to it, on a real Envoy. After each change is acknowledged
// and Envoy's only worker has followed, which is when each caller, who sends one
// request after the other, was answered by the new backend, the old one stops.
//
//   - endpoints: a service's only instance is replaced by another.
//   - services: the host moves to a new service, and the old one goes.
//   - hosts: the host moves from one service to another; both stay.
func TestSwapsUnderLoadLoseNothing(t *testing.T) {
	const host = "swapped.example.com"
	routed := func(name string, b *backend, hosts ...polder.Host) polder.Service {
		return polder.Service{Name: polder.ServiceName(name), Hosts: hosts, Timeout: time.Minute,
			Residency: polder.Residency{Allow: []polder.Place{"fr"}, Failover: polder.Failover{Class: polder.FailoverClosed}},
			Endpoints: map[polder.RegionName][]netip.AddrPort{"fr": {b.address}}}
	}
	kinds := map[string]func(i int, b *backend) []polder.Service{
		"endpoints": func(_ int, b *backend) []polder.Service { return []polder.Service{routed("one", b, host)} },
		"services": func(i int, b *backend) []polder.Service {
			return []polder.Service{routed(fmt.Sprintf("version-%d", i), b, host)}
		},
		"hosts": func(i int, b *backend) []polder.Service {
			hosts := [2][]polder.Host{{"one.example.com"}, {"two.example.com"}}
			hosts[i%2] = append(hosts[i%2], host)
			return []polder.Service{routed("one", b, hosts[0]...), routed("two", b, hosts[1]...)}
		},
	}
	for kind, services := range kinds {
		t.Run(kind, func(t *testing.T) {
			ca, err := authority.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(ca.Root())
			old := newBackend(t)
			p := newPlace(t, "fr", ca, []polder.Service{routed("any", old, host, "one.example.com", "two.example.com")})
			p.server = server.New(server.Options{Log: slog.New(slog.DiscardHandler), Secret: p.secret})
			alive := polder.RegionHealth{"fr": true}
			published := p.swap(t, nil, p.resources(services(0, old), alive))
			p.startEnvoy(t)
			loaded := loadOn(roots, p.node.HTTPS, host)
			for i := range *swaps {
				next := newBackend(t)
				published = p.swap(t, published, p.resources(services(i+1, next), alive))
				eventually(t, "each caller is answered by the new backend", func() bool { return next.answered() == callers })
				old.stop(t)
				old = next
			}
			calls, lost := loaded.stop()
			t.Logf("%d requests, %d of them lost", calls, len(lost))
			if len(lost) > 0 {
				t.Errorf("%d of %d requests were lost in %d swaps, the first: %s", len(lost), calls, *swaps, lost[0])
			}
			if calls < *swaps {
				t.Errorf("%d requests are no load", calls)
			}
			for _, node := range p.server.Nodes() {
				for _, r := range node.Rejections {
					t.Errorf("rejected %s %s: %s", r.Type, r.Name, r.Reason)
				}
			}
			old.stop(t)
		})
	}
}

// swap publishes a set in the place of another, and waits until Envoy has
// acknowledged all of it.
func (p *place) swap(t *testing.T, before, now []xds.Resource) []xds.Resource {
	t.Helper()
	remove := missing(keysOf(before), keysOf(now))
	p.server.Apply(now, remove)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.server.Wait(ctx, append(keysOf(now), remove...)...); err != nil {
		t.Fatal(err)
	}
	return now
}

// loading is load on a host that goes on until it is stopped.
type loading struct {
	calls   atomic.Int64
	group   sync.WaitGroup
	stopped chan struct{}

	mu   sync.Mutex
	lost []string // what became of the requests that were lost
}

// callers are how many post at a time.
const callers = 6

// loadOn posts to a host at an entrypoint, on several connections.
func loadOn(roots *x509.CertPool, entry netip.AddrPort, host string) *loading {
	l := &loading{stopped: make(chan struct{})}
	for i := range callers {
		client, done := clientAt(roots, entry, i%2 == 1)
		l.group.Go(func() {
			defer done()
			for {
				select {
				case <-l.stopped:
					return
				default:
				}
				l.calls.Add(1)
				if what := post(client, host, fmt.Sprint(i)); what != "" {
					l.mu.Lock()
					l.lost = append(l.lost, what)
					l.mu.Unlock()
				}
			}
		})
	}
	return l
}

// stop ends the load, and tells how many requests were sent, and what became of those
// that were lost.
func (l *loading) stop() (int, []string) {
	close(l.stopped)
	l.group.Wait()
	return int(l.calls.Load()), l.lost
}

// clientAt calls every host at one entrypoint, over HTTP/2 or HTTP/1.1. done closes
// its connections.
func clientAt(roots *x509.CertPool, entry netip.AddrPort, http2 bool) (client *http.Client, done func()) {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: http2,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", entry.String())
		},
	}
	return &http.Client{Transport: transport, Timeout: patience}, transport.CloseIdleConnections
}

// post tells what went wrong, or "".
func post(client *http.Client, host, caller string) string {
	request, err := http.NewRequest(http.MethodPost, "https://"+host+"/", strings.NewReader("hello"))
	if err != nil {
		return err.Error()
	}
	request.Header.Set(callerHeader, caller)
	response, err := client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 {
		return fmt.Sprint(response.Status, " ", response.Header.Get(xds.HeaderReason), " ", string(body), err)
	}
	return ""
}

func keysOf(resources []xds.Resource) []xds.Key {
	keys := make([]xds.Key, len(resources))
	for i, r := range resources {
		keys[i] = r.Key
	}
	return keys
}

// missing lists the keys of before that are not in now.
func missing(before, now []xds.Key) []xds.Key {
	return slices.DeleteFunc(slices.Clone(before), func(k xds.Key) bool { return slices.Contains(now, k) })
}
