package gateway

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/xds"
)

// keyedPlaces are two regions with real Envoys and two services of fr: the key of
// "keyed" is resident, that of "asked" comes on demand.
func keyedPlaces(t testing.TB) (map[polder.RegionName]*place, *x509.CertPool) {
	t.Helper()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) }))
	t.Cleanup(origin.Close)
	service := func(name polder.ServiceName, keys polder.Keys) polder.Service {
		return polder.Service{
			Name: name, Hosts: []polder.Host{polder.Host(name + ".example.com"), polder.Host("*." + name + ".example.com")}, Timeout: time.Minute,
			Residency: polder.Residency{Allow: []polder.Place{"fr"}, Elsewhere: polder.PassThrough, Keys: keys,
				Failover: polder.Failover{Class: polder.FailoverClosed}},
			Endpoints: map[polder.RegionName][]netip.AddrPort{"fr": {netip.MustParseAddrPort(origin.Listener.Addr().String())}},
		}
	}
	services := []polder.Service{service("asked", polder.KeysOnDemand), service("keyed", polder.KeysResident)}
	ca, err := authority.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	peerOf, places := map[polder.RegionName][]string{}, map[polder.RegionName]*place{}
	for _, region := range testRegions {
		places[region.Name] = newPlace(t, region.Name, ca, services)
		peerOf[region.Name] = []string{places[region.Name].node.Peer.String()}
	}
	for _, p := range places {
		p.node.PeerOf = peerOf
		p.publish(services, polder.RegionHealth{"fr": true, "nl": true})
		p.startEnvoy(t)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Root())
	return places, roots
}

// greet makes a connection, a request, and an end, and tells whether a session was
// resumed. Tickets of TLS 1.3 come behind the handshake, so something must be read.
func (p *place) greet(config *tls.Config) (resumed bool, err error) {
	conn, err := tls.Dial("tcp", p.node.HTTPS.String(), config)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", config.ServerName); err != nil {
		return false, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil {
		_, err = io.Copy(io.Discard, response.Body)
	}
	return conn.ConnectionState().DidResume, err
}

// TestResidentKeys holds what the policy's choice of keys means to a real Envoy:
//
//  1. A resident key is there before anybody calls, where the service is allowed,
//     and nowhere else. One on demand is not.
//  2. Sessions of its service are resumed, in TLS 1.2 and 1.3, below its wildcard,
//     and through a gateway that passes them on. Those of the other are not.
func TestResidentKeys(t *testing.T) {
	places, roots := keyedPlaces(t)
	eventually(t, "the resident key is in fr", func() bool { return places["fr"].holdsSecret(t, xds.ResidentSecrets+"keyed") })
	if places["fr"].holdsSecret(t, "asked.example.com") {
		t.Error("the key on demand is there before anybody calls")
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, at := range []polder.RegionName{"fr", "nl"} {
			for host, want := range map[string]bool{"keyed.example.com": true, "a.keyed.example.com": true, "asked.example.com": false} {
				config := &tls.Config{RootCAs: roots, ServerName: host, MinVersion: version, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
				for call, want := range []bool{false, want} {
					resumed, err := places[at].greet(config)
					if err != nil || resumed != want {
						t.Errorf("%s, call %d of %s through %s: resumed %v, want %v (%v)", tls.VersionName(version), call+1, host, at, resumed, want, err)
					}
				}
			}
		}
	}
	for _, name := range []string{xds.ResidentSecrets + "keyed", "keyed.example.com", "asked.example.com"} {
		if places["nl"].holdsSecret(t, name) {
			t.Errorf("Envoy of nl holds the secret %s", name)
		}
	}
	for name, p := range places {
		for _, node := range p.server.Nodes() {
			for _, r := range node.Rejections {
				t.Errorf("Envoy of %s rejected %s %s: %s", name, r.Type, r.Name, r.Reason)
			}
		}
	}
}

// BenchmarkKeys is what a new connection with one request costs by the policy's
// choice of keys: one at a time, on loopback, against a real Envoy. The key is in
// Envoy's memory each time; compare within one run only.
func BenchmarkKeys(b *testing.B) {
	places, roots := keyedPlaces(b)
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		for _, c := range []struct {
			name, host string
			resume     bool
		}{{"on-demand", "asked.example.com", false}, {"resident, full", "keyed.example.com", false}, {"resident, resumed", "keyed.example.com", true}} {
			b.Run(tls.VersionName(version)+"/"+c.name, func(b *testing.B) {
				config := &tls.Config{RootCAs: roots, ServerName: c.host, MinVersion: version, MaxVersion: version}
				if c.resume {
					config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
				}
				if _, err := places["fr"].greet(config); err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if resumed, err := places["fr"].greet(config); err != nil || resumed != c.resume {
						b.Fatal(resumed, err)
					}
				}
			})
		}
	}
}
