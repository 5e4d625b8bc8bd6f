package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/internal/freeport"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

// place is one region with a real Envoy whose control plane the test drives.
type place struct {
	node   xds.NodeConfig
	server *server.Server
	secret func(name string) (xds.Resource, bool)
	dir    string
	extra  []string // more arguments of Envoy
	admin  *http.Client

	stopControl func() // ends the streams of its Envoy
}

// callerAddress is an address that only the test's callers have.
const callerAddress = "127.0.0.77"

var testRegions = []polder.Region{
	{Name: "fr", Jurisdictions: []polder.Jurisdiction{"FR", "EU"}},
	{Name: "nl", Jurisdictions: []polder.Jurisdiction{"NL", "EU"}},
}

// TestEntrypoint holds real Envoys in two regions against what the law says.
//
//  1. A host served here is answered by the region's own endpoint, in HTTP/1.1
//     and HTTP/2, whatever the case and port of Host.
//  2. A host of another region is passed on unopened, and the caller's address
//     survives; the key is in the owner's Envoy only.
//  3. A refused host ends with the alert access_denied, an unavailable one with
//     internal_error; the connection for an unknown one is closed.
//  4. Plain HTTP leads to HTTPS, or says 451 and 503.
//  5. A request for another host on the connection is answered 421.
func TestEntrypoint(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", r.Header.Get("X-Forwarded-For"), r.Host, r.Header.Get(xds.HeaderService))
	}))
	defer origin.Close()
	address := netip.MustParseAddrPort(origin.Listener.Addr().String())
	residency := func(elsewhere polder.Elsewhere) polder.Residency {
		return polder.Residency{Allow: []polder.Place{"fr"}, Elsewhere: elsewhere, Failover: polder.Failover{Class: polder.FailoverClosed}}
	}
	routed := func(name string, r polder.Residency, hosts ...polder.Host) polder.Service {
		return polder.Service{Name: polder.ServiceName(name), Hosts: hosts, Residency: r, Timeout: time.Minute,
			Endpoints: map[polder.RegionName][]netip.AddrPort{"fr": {address}}}
	}
	services := []polder.Service{
		routed("billing", residency(polder.PassThrough), "billing.example.com", "*.billing.example.com"),
		routed("vault", residency(polder.Refuse), "vault.example.com"),
	}
	ca, err := authority.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	peerOf := map[polder.RegionName][]string{}
	places := map[polder.RegionName]*place{}
	for _, region := range testRegions {
		places[region.Name] = newPlace(t, region.Name, ca, services)
		peerOf[region.Name] = []string{places[region.Name].node.Peer.String()}
	}
	alive := polder.RegionHealth{"fr": true, "nl": true}
	for _, p := range places {
		p.node.PeerOf = peerOf
		p.publish(services, alive)
		p.startEnvoy(t)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Root())

	for _, at := range []polder.RegionName{"fr", "nl"} {
		for _, http2 := range []bool{false, true} {
			for _, host := range []string{"billing.example.com", "BILLING.example.com:8443", "a.billing.example.com"} {
				body, response, err := places[at].get(roots, strings.ToLower(strings.Split(host, ":")[0]), host, http2)
				if err != nil {
					t.Fatalf("at %s, host %s, http2 %v: %v", at, host, http2, err)
				}
				if response.StatusCode != 200 || !strings.HasPrefix(body, callerAddress+" ") || !strings.HasSuffix(body, " billing") {
					t.Errorf("at %s, host %s, http2 %v: got %d %q, want the caller's address and the service", at, host, http2, response.StatusCode, body)
				}
				if got := response.Header.Get(xds.HeaderRegion); got != "fr" {
					t.Errorf("at %s: answered by region %q, want fr", at, got)
				}
			}
		}
	}
	for at, want := range map[polder.RegionName]bool{"fr": true, "nl": false} {
		if got := places[at].holdsSecret(t, "billing.example.com"); got != want {
			t.Errorf("Envoy of %s holds the key of billing: %v, want %v", at, got, want)
		}
	}
	if _, _, err := places["nl"].get(roots, "vault.example.com", "vault.example.com", false); err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("refused host: got %v, want the alert access denied", err)
	}
	if _, _, err := places["nl"].get(roots, "nobody.example.com", "nobody.example.com", false); !closed(err) {
		t.Errorf("unknown host: got %v, want the connection closed without a word", err)
	}
	if _, response, err := places["fr"].get(roots, "billing.example.com", "vault.example.com", true); err != nil || response.StatusCode != 421 {
		t.Errorf("another host on the connection: got %v %v, want 421", response, err)
	}
	if status, header := places["nl"].plain(t, "billing.example.com"); status != 308 || !strings.HasPrefix(header.Get("Location"), "https://billing.example.com:") {
		t.Errorf("plain HTTP: got %d to %q, want 308 to HTTPS", status, header.Get("Location"))
	}
	if status, header := places["nl"].plain(t, "vault.example.com"); status != 451 || header.Get(xds.HeaderReason) != "policy-refuses" {
		t.Errorf("plain HTTP to a refused host: got %d, want 451", status)
	}

	places["nl"].publish(services, polder.RegionHealth{"nl": true})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := places["nl"].server.Wait(ctx, xds.Key{Type: xds.TypeListener, Name: "entrypoint-https"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an unavailable host ends with internal error", func() bool {
		_, _, err := places["nl"].get(roots, "billing.example.com", "billing.example.com", false)
		return err != nil && strings.Contains(err.Error(), "internal error")
	})
	for name, p := range places {
		for _, node := range p.server.Nodes() {
			for _, r := range node.Rejections {
				t.Errorf("Envoy of %s rejected %s %s: %s", name, r.Type, r.Name, r.Reason)
			}
		}
	}
}

// newCA is an authority of a test's own, and what its callers trust.
func newCA(t testing.TB) (*authority.Authority, *x509.CertPool) {
	t.Helper()
	ca, err := authority.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Root())
	return ca, roots
}

// namingOrigin is a backend that answers with the service that Envoy says it is.
func namingOrigin(t testing.TB) *httptest.Server {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get(xds.HeaderService))
	}))
	t.Cleanup(origin.Close)
	return origin
}

func newPlace(t testing.TB, region polder.RegionName, ca *authority.Authority, services []polder.Service) *place {
	t.Helper()
	dir, err := os.MkdirTemp("", "polder-"+string(region))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	issuer, err := ca.Issuer(region, filepath.Join(dir, "certificates"))
	if err != nil {
		t.Fatal(err)
	}
	keys := newKeyring(issuer)
	identity, err := issuer.Peer(string(region) + "-1")
	if err != nil {
		t.Fatal(err)
	}
	keys.setIdentity(identity)
	served := map[polder.ServiceName][]polder.Host{}
	for _, s := range services {
		if law.Permit(s.Residency, testRegions).Ever(region) {
			served[s.Name] = s.Hosts
		}
	}
	if faults := keys.Hold(context.Background(), served); len(faults) > 0 {
		t.Fatal(faults)
	}
	p := &place{dir: dir, secret: keys.Secret, node: xds.NodeConfig{
		Region: region, HTTPS: freePort(t), HTTP: freePort(t), Peer: freePort(t), TrustDomain: ca.TrustDomain().Name(),
	}}
	p.server = server.New(server.Options{Log: slog.New(slog.DiscardHandler), Secret: keys.Secret})
	return p
}

func (p *place) publish(services []polder.Service, alive polder.RegionHealth) {
	p.server.Apply(p.resources(services, alive), nil)
}

func (p *place) resources(services []polder.Service, alive polder.RegionHealth) []xds.Resource {
	var judged []law.Approved
	var set []xds.Resource
	for _, s := range services {
		var endpoints []polder.Endpoint
		for region, addresses := range s.Endpoints {
			for _, a := range addresses {
				endpoints = append(endpoints, polder.Endpoint{Service: s.Name, Region: region, Address: a})
			}
		}
		a := law.Judge(s, law.Circumstances{Here: p.node.Region, Regions: testRegions, Alive: alive, Endpoints: endpoints})
		judged = append(judged, a)
		set = append(set, xds.Service(a, xds.Gateway{Region: p.node.Region, Activator: filepath.Join(p.dir, "activator.sock"), HTTP3: p.node.HTTP3})...)
	}
	return append(set, xds.Node(judged, p.node)...)
}

func (p *place) startEnvoy(t testing.TB) {
	t.Helper()
	p.stopControl = p.startControl(t)
	socket, admin := filepath.Join(p.dir, "xds.sock"), filepath.Join(p.dir, "admin.sock")
	bootstrap, err := xds.Bootstrap{Node: string(p.node.Region) + "-1", Region: p.node.Region, ControlPlane: socket, Admin: admin, Ejections: p.node.Ejections}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(p.dir, "bootstrap.json")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	envoy := exec.Command("../.tools/envoy-1.40.0/envoy", append([]string{"-c", file, "--disable-hot-restart", "--concurrency", "1", "-l", "warning", "--file-flush-interval-msec", "100"}, p.extra...)...)
	envoy.Stdout, envoy.Stderr = &output, &output
	if err := envoy.Start(); err != nil {
		t.Fatalf("no Envoy: %v; run make envoy", err)
	}
	t.Cleanup(func() {
		envoy.Process.Kill()
		envoy.Wait()
		if t.Failed() {
			t.Logf("Envoy of %s said:\n%s", p.node.Region, output.String())
		}
	})
	p.admin = &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", admin)
		}}}
	eventually(t, "Envoy of "+string(p.node.Region)+" is ready", func() bool {
		response, err := p.admin.Get("http://envoy/ready")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == 200
	})
}

// startControl serves the place's server on its socket, until stop.
func (p *place) startControl(t testing.TB) (stop func()) {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(p.dir, "xds.sock"))
	if err != nil {
		t.Fatal(err)
	}
	control := grpc.NewServer()
	p.server.Register(control)
	go control.Serve(listener)
	t.Cleanup(control.Stop)
	return control.Stop
}

func (p *place) get(roots *x509.CertPool, sni, host string, http2 bool) (string, *http.Response, error) {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: sni},
		ForceAttemptHTTP2: http2,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			caller := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(callerAddress)}}
			return caller.DialContext(ctx, "tcp", p.node.HTTPS.String())
		},
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequest("GET", "https://"+host+"/", nil)
	if err != nil {
		return "", nil, err
	}
	response, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
	if err != nil {
		return "", nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), response, err
}

func (p *place) plain(t testing.TB, host string) (int, http.Header) {
	t.Helper()
	request, err := http.NewRequest("GET", "http://"+p.node.HTTP.String()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	client := &http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode, response.Header
}

func (p *place) holdsSecret(t testing.TB, name string) bool {
	t.Helper()
	var dump struct{ Configs []struct{ Name string } }
	p.dump(t, "dynamic_active_secrets", &dump)
	for _, c := range dump.Configs {
		if c.Name == name {
			return true
		}
	}
	return false
}

// dump reads one part of what Envoy holds.
func (p *place) dump(t testing.TB, part string, into any) {
	t.Helper()
	response, err := p.admin.Get("http://envoy/config_dump?resource=" + part)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// closed tells whether a connection was ended before the TLS handshake began.
func closed(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
}

func freePort(t testing.TB) netip.AddrPort {
	t.Helper()
	address, err := freeport.Choose(true)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// patience is for what happens at once where nobody else has the processors.
const patience = 60 * time.Second

// eventually asks until the answer is yes, and for so long at most.
func eventually(t testing.TB, what string, ok func() bool) {
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
