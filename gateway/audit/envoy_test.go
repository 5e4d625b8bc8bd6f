package audit

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/gateway/envoy"
	"github.com/polder/polder/internal/freeport"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
	"github.com/polder/polder/xds/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait; nothing here asserts how long anything takes.
const patience = 60 * time.Second

// place is a region with a real Envoy, whose control plane the test drives.
type place struct {
	t       *testing.T
	dir     string
	node    xds.NodeConfig
	gateway xds.Gateway
	mirror  *Mirror
	server  *server.Server
	admin   *envoy.Admin
	roots   *x509.CertPool
	ours    []byte // bootstrap
	control *grpc.Server
}

var regions = []polder.Region{{Name: "fr"}, {Name: "nl"}}

func services() []polder.Service {
	at := netip.MustParseAddrPort
	service := func(name string, region polder.RegionName, address string) polder.Service {
		return polder.Service{Name: polder.ServiceName(name), Hosts: []polder.Host{polder.Host(name + ".example.com")}, Timeout: time.Minute,
			Endpoints: map[polder.RegionName][]netip.AddrPort{region: {at(address)}},
			Residency: polder.Residency{Allow: []polder.Place{polder.Place(region)}, Elsewhere: polder.PassThrough, Failover: polder.Failover{Class: polder.FailoverClosed}}}
	}
	return []polder.Service{service("billing", "fr", "127.0.0.1:9"), service("reports", "nl", "127.0.0.1:10")}
}

func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	address, err := freeport.Choose(true)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func newPlace(t *testing.T) *place {
	t.Helper()
	dir, err := os.MkdirTemp("", "polder-audit-") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &place{t: t, dir: dir,
		node: xds.NodeConfig{Region: "fr", HTTPS: freePort(t), HTTP: freePort(t), Peer: freePort(t),
			PeerOf: map[polder.RegionName][]string{"nl": {"127.0.0.1:7444"}}},
		gateway: xds.Gateway{Region: "fr", Activator: filepath.Join(dir, "activator.sock")},
		admin:   envoy.NewAdmin(filepath.Join(dir, "admin.sock")),
	}
	p.server, p.roots, p.node.TrustDomain = newServer(t, dir)
	p.mirror = NewMirror(p.book())
	if p.ours, err = (xds.Bootstrap{Node: "fr-1", Region: "fr", ControlPlane: p.socket(), Admin: filepath.Join(dir, "admin.sock")}).JSON(); err != nil {
		t.Fatal(err)
	}
	return p
}

// newServer makes a control plane with the secrets of region fr.
func newServer(t *testing.T, dir string) (*server.Server, *x509.CertPool, string) {
	t.Helper()
	ca, err := authority.Open(filepath.Join(dir, "authority"))
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := ca.Issuer("fr", filepath.Join(dir, "certificates"))
	if err != nil {
		t.Fatal(err)
	}
	identity, err := issuer.Peer("fr-1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := issuer.Leaf([]polder.Host{"billing.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Root())
	return server.New(server.Options{Log: slog.New(slog.DiscardHandler), Secret: func(name string) (xds.Resource, bool) {
		switch name {
		case xds.SecretIdentity:
			return xds.Certificate(name, identity.CertPEM, identity.KeyPEM), true
		case xds.SecretTrust:
			return xds.Trust(name, identity.TrustPEM), true
		case "billing.example.com":
			return xds.Certificate(name, pair.CertPEM, pair.KeyPEM), true
		}
		return xds.Resource{}, false
	}}), roots, ca.TrustDomain().Name()
}

// handshake opens a connection as a caller of billing does.
func (p *place) handshake() {
	p.t.Helper()
	dialer := &tls.Dialer{Config: &tls.Config{RootCAs: p.roots, ServerName: "billing.example.com"}}
	conn, err := dialer.DialContext(p.t.Context(), "tcp", p.node.HTTPS.String())
	if err != nil {
		p.t.Fatal(err)
	}
	conn.Close()
}

func (p *place) socket() string { return filepath.Join(p.dir, "xds.sock") }

func (p *place) book() *proof.Book {
	return proof.NewBook(&polder.Model{Regions: regions, Services: services()}, proof.Site{
		Region: "fr", HTTPS: p.node.HTTPS, HTTP: p.node.HTTP, Peer: p.node.Peer, TrustDomain: p.node.TrustDomain, PeerOf: p.node.PeerOf,
		Alive: polder.RegionHealth{"nl": true}, Activator: p.gateway.Activator, ActivatorHeader: xds.HeaderService, ByName: xds.ByNamePrefix,
		Identity: xds.SecretIdentity, Trust: xds.SecretTrust, Local: []string{xds.ControlPlane},
	})
}

// resources are what translate makes of the services.
func (p *place) resources(list []polder.Service) []xds.Resource {
	var set []xds.Resource
	var judged []law.Approved
	for _, s := range list {
		var endpoints []polder.Endpoint
		for region, addresses := range s.Endpoints {
			for _, a := range addresses {
				endpoints = append(endpoints, polder.Endpoint{Service: s.Name, Region: region, Address: a})
			}
		}
		a := law.Judge(s, law.Circumstances{Here: "fr", Regions: regions, Alive: polder.RegionHealth{"nl": true}, Endpoints: endpoints})
		judged = append(judged, a)
		set = append(set, xds.Service(a, p.gateway)...)
	}
	return append(set, xds.Node(judged, p.node)...)
}

// publish does what the gate does: it tells the mirror and the control plane.
func (p *place) publish() {
	set := p.resources(services())
	p.mirror.Publish(set, nil, nil, p.book())
	p.server.Apply(set, nil)
}

// serve lets a control plane listen, in the place of the one before.
func (p *place) serve(s *server.Server) {
	p.t.Helper()
	if p.control != nil {
		p.control.Stop()
	}
	os.Remove(p.socket()) // an error means that there is none
	listener, err := net.Listen("unix", p.socket())
	if err != nil {
		p.t.Fatal(err)
	}
	control := grpc.NewServer()
	s.Register(control)
	ended := make(chan error, 1)
	go func() { ended <- control.Serve(listener) }()
	p.control = control
	p.t.Cleanup(func() {
		control.Stop()
		if err := <-ended; err != nil {
			p.t.Error(err)
		}
	})
}

// start runs an Envoy with a bootstrap until stop is called or the test ends.
func (p *place) start(bootstrap []byte) (stop func()) {
	p.t.Helper()
	file := filepath.Join(p.dir, "bootstrap.json")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		p.t.Fatal(err)
	}
	binary, err := envoy.Find(p.t.Context(), "../../.tools", os.Getenv("PATH"))
	if err != nil {
		p.t.Fatal(err)
	}
	var output bytes.Buffer
	command := exec.Command(binary, "-c", file, "--disable-hot-restart", "--concurrency", "1", "-l", "error")
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		p.t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			command.Process.Kill()
			command.Wait()
			os.Remove(filepath.Join(p.dir, "admin.sock"))
		}
	}
	p.t.Cleanup(func() {
		stop()
		if p.t.Failed() {
			p.t.Logf("Envoy said:\n%s", output.String())
		}
	})
	eventually(p.t, "Envoy is ready", func() bool { return p.admin.Ready(p.t.Context()) == nil })
	return stop
}

func (p *place) auditor() *Auditor {
	p.t.Helper()
	a, err := New(Options{Node: "fr-1", Bootstrap: p.ours, Admin: p.admin, ControlPlane: p.server, Mirror: p.mirror})
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// clean waits until an audit has found everything in order.
func (p *place) clean(a *Auditor) Result {
	p.t.Helper()
	var result Result
	eventually(p.t, "a settled audit finds everything in order", func() bool {
		var err error
		if result, err = a.Audit(p.t.Context()); err != nil {
			p.t.Fatal(err)
		}
		if len(result.Drift) > 0 {
			p.t.Fatalf("drift: %v", result.Drift)
		}
		return result.Settled && result.Resources > 0
	})
	return result
}

// finds audits until a drift of that kind is found, whose text contains want.
func (p *place) finds(a *Auditor, kind Kind, want string) {
	p.t.Helper()
	var last Result
	defer func() {
		if p.t.Failed() {
			p.t.Logf("the last audit found %+v", last)
		}
	}()
	eventually(p.t, "the audit finds "+string(kind)+" "+want, func() bool {
		result, err := a.Audit(p.t.Context())
		if err != nil {
			p.t.Fatal(err)
		}
		last = result
		return slices.ContainsFunc(last.Drift, func(d Drift) bool { return d.Kind == kind && strings.Contains(d.String(), want) })
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// post asks the admin interface to do something, as an intruder would.
func (p *place) post(path string) {
	p.t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(p.dir, "admin.sock"))
		}}}
	response, err := client.Post("http://envoy"+path, "", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: %s", path, response.Status)
	}
}

// TestAnHonestEnvoyIsClean: everything in a real Envoy is accounted for, before
// and after a change, and its digest is that of what was published.
func TestAnHonestEnvoyIsClean(t *testing.T) {
	p := newPlace(t)
	p.serve(p.server)
	p.publish()
	p.start(p.ours)
	a := p.auditor()
	result := p.clean(a)
	if want := p.mirror.Digest(); result.Running != want || result.Published != want {
		t.Errorf("runs with %s, published %s; want %s", result.Running, result.Published, want)
	}
	p.node.PeerOf = map[polder.RegionName][]string{"nl": {"127.0.0.1:7445"}}
	p.publish()
	eventually(t, "the Envoy has the change", func() bool {
		result := p.clean(a)
		return result.Running == p.mirror.Digest()
	})
}

// TestHandsInTheEnvoyAreFound: a runtime value, and what an Envoy was started
// with besides.
func TestHandsInTheEnvoyAreFound(t *testing.T) {
	p := newPlace(t)
	p.serve(p.server)
	p.publish()
	stop := p.start(p.ours)
	a := p.auditor()
	p.clean(a)
	p.post("/runtime_modify?upstream.healthy_panic_threshold=50")
	p.finds(a, Overruled, `upstream.healthy_panic_threshold: layer admin sets it to "50"`)
	p.post("/runtime_modify?upstream.healthy_panic_threshold=")
	p.clean(a)
	stop()

	var bad map[string]any
	if err := json.Unmarshal(p.ours, &bad); err != nil {
		t.Fatal(err)
	}
	static := bad["staticResources"].(map[string]any)
	leak := map[string]any{"name": "leak", "connectTimeout": "1s", "loadAssignment": map[string]any{"clusterName": "leak", "endpoints": []any{
		map[string]any{"lbEndpoints": []any{map[string]any{"endpoint": map[string]any{"address": map[string]any{
			"socketAddress": map[string]any{"address": "127.0.0.1", "portValue": 9999}}}}}}}}}
	static["clusters"] = append(static["clusters"].([]any), leak)
	static["listeners"] = []any{map[string]any{"name": "tap", "address": map[string]any{"socketAddress": map[string]any{"address": "127.0.0.1", "portValue": 0}},
		"filterChains": []any{map[string]any{"filters": []any{map[string]any{"name": "envoy.filters.network.tcp_proxy", "typedConfig": map[string]any{
			"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "statPrefix": "tap", "cluster": "leak"}}}}}}}
	text, err := json.Marshal(bad)
	if err != nil {
		t.Fatal(err)
	}
	stop = p.start(text)
	p.finds(a, Foreign, "cluster leak: is built into the Envoy")
	p.finds(a, Foreign, "listener tap: is built into the Envoy")
	p.finds(a, Changed, "bootstrap: the Envoy was started with another one")
	stop()
	p.start(p.ours)
	p.clean(a)
}

// TestASecondControlPlaneIsFound: another server takes the place of ours and
// sends one endpoint of its own, a listener, a cluster.
func TestASecondControlPlaneIsFound(t *testing.T) {
	p := newPlace(t)
	p.serve(p.server)
	p.publish()
	stop := p.start(p.ours)
	a := p.auditor()
	p.clean(a)
	stop()

	bad := services()
	bad[0].Endpoints["fr"] = []netip.AddrPort{netip.MustParseAddrPort("203.0.113.9:443")}
	stranger, _, _ := newServer(t, p.dir)
	set := p.resources(bad)
	stranger.Apply(set, nil)
	p.serve(stranger)
	stop = p.start(p.ours)
	p.finds(a, Changed, "endpoints service/billing: runs as")
	stop()

	// The same, told to us: an Envoy that follows us, and has what we did not prove.
	p.serve(p.server)
	p.server.Apply(set, nil)
	p.start(p.ours)
	p.finds(a, Foreign, "endpoints service/billing: the control plane sent it, and it never passed the proof")
	p.finds(a, Unlawful, "203.0.113.9:443")
}

// TestProofRunsOverWhatRuns: an Envoy that does exactly as it was told is
// unlawful once the law has changed and it was not told.
func TestProofRunsOverWhatRuns(t *testing.T) {
	p := newPlace(t)
	p.serve(p.server)
	p.publish()
	p.start(p.ours)
	a := p.auditor()
	p.handshake()
	if result := p.clean(a); result.Secrets != 3 { // of the peer, whom it trusts, billing
		t.Errorf("%d secrets, want 3", result.Secrets)
	}
	moved := services()
	moved[0].Residency.Allow = []polder.Place{"nl"}
	p.mirror.Publish(nil, nil, nil, proof.NewBook(&polder.Model{Regions: regions, Services: moved}, proof.Site{
		Region: "fr", HTTPS: p.node.HTTPS, HTTP: p.node.HTTP, Peer: p.node.Peer, TrustDomain: p.node.TrustDomain, PeerOf: p.node.PeerOf,
		Alive: polder.RegionHealth{"nl": true}, Activator: p.gateway.Activator, ActivatorHeader: xds.HeaderService, ByName: xds.ByNamePrefix,
		Identity: xds.SecretIdentity, Trust: xds.SecretTrust, Local: []string{xds.ControlPlane},
	}))
	p.finds(a, Unlawful, "service billing may not be opened in region fr")
	p.finds(a, Unlawful, "secret billing.example.com")
	p.publish()
	p.clean(a)
}
