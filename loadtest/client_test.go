package loadtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// authority makes a certificate authority and a certificate of it for hosts.
func authority(t *testing.T, hosts ...string) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	must(err)
	root, err = x509.ParseCertificate(rootDER)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test"}, DNSNames: hosts,
		NotBefore: root.NotBefore, NotAfter: root.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), rootKey)
	must(err)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return pool, tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key}
}

// tlsServer is a real server with TLS, HTTP/2 and HTTP/1.1 for billing and
// catalog.example.com. It counts the connections that it accepted.
type tlsServer struct {
	address     string
	roots       *x509.CertPool
	connections atomic.Int64
}

func newTLSServer(t *testing.T, handler http.Handler) *tlsServer {
	t.Helper()
	s := &tlsServer{}
	roots, certificate := authority(t, "billing.example.com", "catalog.example.com")
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}}
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are part of the tests
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	s.address, s.roots = server.Listener.Addr().String(), roots
	return s
}

func (s *tlsServer) options() Options {
	o := DefaultOptions()
	o.Roots = s.roots
	return o
}

func (s *tlsServer) target(name string, requests atOnce) Target {
	return Target{Name: name, URL: "https://" + name + ".example.com/path?x=1", Connect: s.address, Arrivals: requests}
}

func runPlan(t *testing.T, o Options, targets ...Target) Report {
	t.Helper()
	r, err := Run(t.Context(), Plan{Targets: targets}, o)
	if err != nil {
		t.Fatal(err)
	}
	checkBalance(t, r)
	return r
}

// The request goes to the Connect address and names the URL's host, in TLS and
// in HTTP, as with curl --resolve.
func TestConnectKeepsNames(t *testing.T) {
	type call struct{ sni, host, path, method, header, body, proto string }
	calls := make(chan call, 10)
	s := newTLSServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- call{r.TLS.ServerName, r.Host, r.URL.String(), r.Method, r.Header.Get("X-Tenant"), string(body), r.Proto}
		io.WriteString(w, "hello")
	}))
	catalog := s.target("catalog", 1)
	catalog.Method, catalog.Body = "POST", []byte("invoice")
	catalog.Header = http.Header{"X-Tenant": {"acme"}}
	r := runPlan(t, s.options(), s.target("billing", 1), catalog)
	want := map[call]bool{
		{"billing.example.com", "billing.example.com", "/path?x=1", "GET", "", "", "HTTP/2.0"}:             true,
		{"catalog.example.com", "catalog.example.com", "/path?x=1", "POST", "acme", "invoice", "HTTP/2.0"}: true,
	}
	for range want {
		if got := <-calls; !want[got] {
			t.Errorf("the server saw %+v", got)
		}
	}
	if r.Total.Answered != 2 || r.Total.Status["2xx"] != 2 || r.Total.Protocols["HTTP/2.0"] != 2 || r.Total.Bytes != 10 {
		t.Errorf("%+v", r.Total)
	}
}

// A Host header in the target names another host in HTTP than in TLS.
func TestHostHeader(t *testing.T) {
	hosts := make(chan string, 1)
	s := newTLSServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { hosts <- r.TLS.ServerName + " " + r.Host }))
	target := s.target("billing", 1)
	target.Header = http.Header{"Host": {"other.example.com"}}
	runPlan(t, s.options(), target)
	if got := <-hosts; got != "billing.example.com other.example.com" {
		t.Errorf("the server saw %s", got)
	}
}

// Protocol and Connections do what they say; the server counts.
func TestProtocolAndConnections(t *testing.T) {
	const requests = 8
	for _, c := range []struct {
		protocol    Protocol
		connections Connections
		spoken      string
	}{
		{ProtocolAuto, ConnectionsKept, "HTTP/2.0"},
		{HTTP1, ConnectionsKept, "HTTP/1.1"},
		{HTTP2, ConnectionsKept, "HTTP/2.0"},
		{HTTP1, ConnectionsFresh, "HTTP/1.1"},
		{ProtocolAuto, ConnectionsFresh, "HTTP/2.0"},
	} {
		t.Run(fmt.Sprintf("%s %s", c.protocol, c.connections), func(t *testing.T) {
			s := newTLSServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
			o := s.options()
			o.Protocol, o.Connections, o.InProgress = c.protocol, c.connections, 1
			r := runPlan(t, o, s.target("billing", requests))
			opened := s.connections.Load()
			if r.Total.Connections != uint64(opened) {
				t.Errorf("%d connections accepted, %d reported", opened, r.Total.Connections)
			}
			// On a busy machine net/http gives a kept connection up now and then.
			if fresh := opened == requests; fresh != (c.connections == ConnectionsFresh) {
				t.Errorf("%d connections for %d requests one after the other", opened, requests)
			}
			if r.Total.Answered != requests || r.Total.Protocols[c.spoken] != requests {
				t.Errorf("%+v", r.Total)
			}
		})
	}
}

// HTTP/2 by prior knowledge, without TLS.
func TestUnencryptedHTTP2(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	o := DefaultOptions()
	o.Protocol = HTTP2
	r := runPlan(t, o, Target{Name: "a", URL: server.URL, Arrivals: atOnce(3)})
	if r.Total.Protocols["HTTP/2.0"] != 3 {
		t.Errorf("%+v", r.Total)
	}
}

// A server of another authority is refused, with a reason that says so.
func TestUnknownAuthority(t *testing.T) {
	s := newTLSServer(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request came through") }))
	o := s.options()
	o.Roots = x509.NewCertPool()
	r := runPlan(t, o, s.target("billing", 3))
	if r.Total.Failed != 3 || len(r.Total.Reasons) != 1 || !strings.Contains(r.Total.Reasons[0].Text, "unknown authority") {
		t.Errorf("%+v", r.Total)
	}
}

// Statuses, cold starts and redirects are counted per target and in total, and
// warm and cold latencies apart. Nothing is followed.
func TestAnswersAreCounted(t *testing.T) {
	var calls atomic.Int64
	s := newTLSServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		switch {
		case r.Host == "catalog.example.com":
			w.Header().Set("Location", "https://billing.example.com/")
			w.WriteHeader(http.StatusFound)
		case n%4 == 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case n%4 == 1:
			w.WriteHeader(http.StatusNotFound)
		case n%4 == 2:
			w.Header().Add("Server-Timing", `total;dur=12.5`)
			w.Header().Add("Server-Timing", `route, cold;dur=3.1;desc="started, ready"`)
		}
	}))
	o := s.options()
	r := runPlan(t, o, s.target("billing", 40))
	if r.Total.Status["2xx"] != 20 || r.Total.Status["4xx"] != 10 || r.Total.Status["5xx"] != 10 || r.Total.Errors != 20 {
		t.Errorf("status %v, errors %d", r.Total.Status, r.Total.Errors)
	}
	if r.Total.ColdStarts != 10 || r.Total.Cold.Count != 10 || r.Total.Warm.Count != 30 || r.Total.Cold.P50 == 0 {
		t.Errorf("cold %+v, warm %+v", r.Total.Cold, r.Total.Warm)
	}
	r = runPlan(t, o, s.target("billing", 4), s.target("catalog", 6))
	if r.Targets[1].Status["3xx"] != 6 || r.Targets[1].Errors != 0 || r.Targets[0].Answered != 4 || r.Total.Answered != 10 {
		t.Errorf("%+v", r.Targets)
	}
}

// A real server stalls, with all its connections: from the intended time the
// wait of every caller shows. Nothing here depends on how fast the machine is:
// the server goes on only after the last arrival's time.
func TestRealServerStalls(t *testing.T) {
	release := make(chan struct{})
	s := newTLSServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }))
	o := s.options()
	o.InProgress, o.Protocol = 4, HTTP1
	const requests = 40
	once := sync.OnceFunc(func() { close(release) })
	o.ProgressEvery = time.Millisecond
	o.Progress = func(p Progress) {
		if p.Scheduled == requests {
			once()
		}
	}
	var results []Result
	o.Results = func(r Result) error { results = append(results, r); return nil }
	target := s.target("billing", 0)
	target.Arrivals = Constant{Rate: 200, For: requests * 5 * time.Millisecond}
	r := runPlan(t, o, target)
	lastIntended := (requests - 1) * 5 * time.Millisecond
	for _, result := range results {
		if result.Outcome != Answered {
			t.Fatalf("%+v", result)
		}
		// Nobody was answered before the last was due; so who came first waited longest.
		if result.Latency() < lastIntended-result.Intended {
			t.Errorf("the arrival of %v has a latency of %v, but nothing was answered before %v", result.Intended, result.Latency(), lastIntended)
		}
	}
	if len(results) != requests || r.Total.Answered != requests {
		t.Errorf("%d results; %+v", len(results), r.Total)
	}
	if r.Total.Latency.Max < lastIntended.Microseconds() || r.Total.Lag.Max < (lastIntended-20*5*time.Millisecond).Microseconds() {
		t.Errorf("the stall of %v does not show: %+v, lag %+v", lastIntended, r.Total.Latency, r.Total.Lag)
	}
}

// A request without an answer fails at its timeout, and says so.
func TestTimeout(t *testing.T) {
	s := newTLSServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "catalog.example.com" { // an answer that begins and does not end
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	}))
	o := s.options()
	o.Timeout = 50 * time.Millisecond
	r := runPlan(t, o, s.target("billing", 2), s.target("catalog", 2))
	if r.Total.Failed != 4 || r.Total.Answered != 0 || len(r.Total.Reasons) != 1 || r.Total.Reasons[0].Text != "timeout: no whole answer within 50ms" {
		t.Errorf("%+v", r.Total)
	}
	if r.Total.Failure.Min < 50_000 {
		t.Errorf("a timeout after %d µs", r.Total.Failure.Min)
	}
}

// The context cuts off real requests after the grace.
func TestStopCutsRealRequests(t *testing.T) {
	began := make(chan struct{}, 100)
	s := newTLSServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-r.Context().Done()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { <-began; cancel() }()
	o := s.options()
	o.Grace = 0
	target := s.target("billing", 0)
	target.Arrivals = Constant{Rate: 100, For: time.Hour}
	r, err := Run(ctx, Plan{Targets: []Target{target}}, o)
	if err != nil {
		t.Fatal(err)
	}
	checkBalance(t, r)
	if !r.Stopped || r.Total.Interrupted == 0 || r.Total.Errors != 0 {
		t.Errorf("stopped %v, %+v", r.Stopped, r.Total)
	}
}

// Connections that hang while they are being opened do not outlive the run: an
// hour's timeout is left to the handshakes below when the run is stopped.
func TestConnectionsEndWithTheRun(t *testing.T) {
	before := goleak.IgnoreCurrent()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := DefaultOptions()
	o.Timeout, o.Grace, o.ProgressEvery = time.Hour, 0, time.Millisecond
	o.Progress = func(p Progress) {
		if p.Sent == 3 {
			cancel()
		}
	}
	target := Target{Name: "a", URL: "https://a.example/", Connect: listener.Addr().String(), Arrivals: atOnce(3)}
	r, err := Run(ctx, Plan{Targets: []Target{target}}, o)
	if err != nil || r.Total.Interrupted != 3 {
		t.Fatalf("%v; %+v", err, r.Total)
	}
	goleak.VerifyNone(t, before)
}

// Equal causes read equal, whatever port our side had.
func TestReasonsReadEqual(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() { // a server that takes connections and resets them
		defer close(closed)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.(*net.TCPConn).SetLinger(0)
			c.Read(make([]byte, 1))
			c.Close()
		}
	}()
	o := DefaultOptions()
	o.InProgress = 1
	target := Target{Name: "a", URL: "http://a.example/", Connect: listener.Addr().String(), Arrivals: atOnce(5)}
	reset := runPlan(t, o, target)
	listener.Close()
	<-closed
	refused := runPlan(t, o, target)
	for _, c := range []struct {
		r    Report
		want string
	}{{reset, "connection reset by peer"}, {refused, "connection refused"}} {
		if len(c.r.Total.Reasons) != 1 || c.r.Total.Reasons[0].Count != 5 || !strings.Contains(c.r.Total.Reasons[0].Text, c.want) {
			t.Errorf("reasons %+v, want five times %q", c.r.Total.Reasons, c.want)
		}
	}
	op := &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50123}, Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443}, Err: syscall.ECONNRESET}
	if got := reason(fmt.Errorf("transport: %w", op)); got != "transport: read tcp 127.0.0.1:443: connection reset by peer" {
		t.Errorf("reason %q", got)
	}
	if got := reason(errors.New("bad \xff bytes")); got != "bad  bytes" {
		t.Errorf("reason %q", got)
	}
}

// What the client sends again because a kept connection had closed is counted:
// it would hide a lost connection otherwise.
func TestRetriesAreCounted(t *testing.T) {
	type served struct{}
	var closed atomic.Uint64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Each connection serves one request, promises more, and closes when
		// the next one comes.
		if r.Context().Value(served{}).(*atomic.Int64).Add(1) == 1 {
			return
		}
		closed.Add(1)
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		c.Close()
	}))
	server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, served{}, new(atomic.Int64))
	}
	server.Start()
	defer server.Close()
	o := DefaultOptions()
	o.InProgress = 1
	r := runPlan(t, o, Target{Name: "a", URL: server.URL, Arrivals: atOnce(20)})
	if r.Total.Answered != 20 || r.Total.Retries != closed.Load() || r.Total.Retries == 0 {
		t.Errorf("answered %d with %d retries; the server closed %d kept connections; %+v", r.Total.Answered, r.Total.Retries, closed.Load(), r.Total.Reasons)
	}
}

func TestServerTiming(t *testing.T) {
	for _, c := range []struct {
		headers []string
		want    bool
	}{
		{nil, false},
		{[]string{""}, false},
		{[]string{"cold"}, true},
		{[]string{"cold;dur=3"}, true},
		{[]string{" cold ; dur=3"}, true},
		{[]string{"warm", "x, cold"}, true},
		{[]string{"Cold"}, false}, // metric names have a case
		{[]string{"coldish;dur=1, scold"}, false},
		{[]string{`route;desc="a, cold, b"`}, false},
		{[]string{`route;desc="a \", cold", cold`}, true},
		{[]string{`route;desc="never closed, cold`}, false},
		{[]string{",,cold,"}, true},
		{[]string{"desc=cold"}, false},
	} {
		if got := hasMetric(c.headers, "cold"); got != c.want {
			t.Errorf("%q: %v, want %v", c.headers, got, c.want)
		}
	}
}

func FuzzServerTiming(f *testing.F) {
	f.Add(`route;desc="a \", cold", cold;dur=1`)
	f.Fuzz(func(t *testing.T, header string) {
		found := hasMetric([]string{header}, "cold")
		if found && !strings.Contains(header, "cold") {
			t.Errorf("found in %q", header)
		}
		if !hasMetric([]string{header, "cold"}, "cold") {
			t.Errorf("a header of its own was lost behind %q", header)
		}
	})
}
