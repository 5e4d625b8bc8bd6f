package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/polder/polder"
	"github.com/polder/polder/xds/server"
)

// TestHTTP3 calls real Envoys in two regions by QUIC.
//
//  1. A service with a resident key answers whatever the case, port and dot of the host, and for its wildcards.
//  2. Another host on the connection is answered 421; an unknown name, one whose key is fetched on demand,
//     and one that is passed on are refused, and all of them answer over TCP as ever.
//  3. Only callers whose connection ends here, and only for such a service, are told that HTTP/3 is there.
func TestHTTP3(t *testing.T) {
	origin := namingOrigin(t)
	routed := func(name string, keys polder.Keys, hosts ...polder.Host) polder.Service {
		return polder.Service{Name: polder.ServiceName(name), Hosts: hosts, Timeout: time.Minute,
			Residency: polder.Residency{Allow: []polder.Place{"fr"}, Elsewhere: polder.PassThrough, Keys: keys, Failover: polder.Failover{Class: polder.FailoverClosed}},
			Endpoints: map[polder.RegionName][]netip.AddrPort{"fr": {netip.MustParseAddrPort(origin.Listener.Addr().String())}}}
	}
	dutch := routed("dutch", polder.KeysResident, "dutch.example.com") // so that nl listens as well
	dutch.Residency.Allow, dutch.Endpoints = []polder.Place{"nl"}, map[polder.RegionName][]netip.AddrPort{"nl": dutch.Endpoints["fr"]}
	services := []polder.Service{
		dutch,
		routed("fast", polder.KeysResident, "fast.example.com", "www.fast.example.com", "*.wild.example.com"),
		routed("inside", polder.KeysOnDemand, "own.wild.example.com"),
		routed("slow", polder.KeysOnDemand, "slow.example.com"),
	}
	ca, roots := newCA(t)
	places, peerOf := map[polder.RegionName]*place{}, map[polder.RegionName][]string{}
	for _, region := range testRegions {
		p := newPlace(t, region.Name, ca, services)
		p.node.HTTP3 = true
		p.server = server.New(server.Options{Log: slog.New(slog.DiscardHandler), Secret: p.secret})
		places[region.Name], peerOf[region.Name] = p, []string{p.node.Peer.String()}
	}
	for _, p := range places {
		p.node.PeerOf = peerOf
		p.publish(services, polder.RegionHealth{"fr": true, "nl": true})
		p.startEnvoy(t)
	}
	fr := places["fr"]
	for _, c := range []struct{ sni, host, want, why string }{
		{"fast.example.com", "fast.example.com", "fast", "as written"},
		{"fast.example.com", "FAST.Example.COM", "fast", "case says nothing"},
		{"FAST.example.com", "fast.example.com", "fast", "nor in the SNI"},
		{"fast.example.com", "fast.example.com:8443", "fast", "a port says nothing"},
		{"fast.example.com", "fast.example.com.", "fast", "nor the trailing dot"},
		{"fast.example.com", "fast.example.com.:8443", "fast", "with a port behind it"},
		{"fast.example.com", "www.fast.example.com", "421", "another host of the service, on a connection for this one"},
		{"fast.example.com", "slow.example.com", "421", "another service's host"},
		{"a.wild.example.com", "a.wild.example.com", "fast", "below a wildcard"},
		{"A.wild.example.com", "a.WILD.example.com:8443", "fast", "in upper case with a port"},
		{"a.wild.example.com", "own.wild.example.com", "421", "not the wildcard's to answer"},
		{"nobody.example.com", "nobody.example.com", "refused", "nobody's name"},
		{"wild.example.com", "wild.example.com", "refused", "a wildcard's own parent"},
		{"slow.example.com", "slow.example.com", "refused", "its key is fetched on demand"},
	} {
		if got := fr.quic(roots, c.sni, c.host); got != c.want {
			t.Errorf("SNI %q, host %q: got %q, want %q: %s", c.sni, c.host, got, c.want, c.why)
		}
	}
	if got := places["nl"].quic(roots, "dutch.example.com", "dutch.example.com"); got != "dutch" {
		t.Errorf("dutch through nl: got %q", got)
	}
	if got := places["nl"].quic(roots, "fast.example.com", "fast.example.com"); got != "refused" {
		t.Errorf("through nl, which would have to pass it on: got %q, want it refused", got)
	}
	h3 := fmt.Sprintf(`h3=":%d"; ma=86400`, fr.node.HTTPS.Port())
	for _, c := range []struct {
		at         polder.RegionName
		host, want string
	}{
		{"fr", "fast.example.com", h3}, {"fr", "a.wild.example.com", h3},
		{"fr", "slow.example.com", ""}, {"nl", "fast.example.com", ""}, {"nl", "a.wild.example.com", ""},
	} {
		for _, http2 := range []bool{false, true} {
			body, response, err := places[c.at].get(roots, c.host, c.host, http2)
			if err != nil || response.StatusCode != http.StatusOK {
				t.Fatalf("%s at %s: %q %v", c.host, c.at, body, err)
			}
			if got := response.Header.Get("Alt-Svc"); got != c.want {
				t.Errorf("%s at %s, HTTP/2 %v: alt-svc is %q, want %q", c.host, c.at, http2, got, c.want)
			}
		}
	}
	for region, p := range places {
		for _, node := range p.server.Nodes() {
			for _, r := range node.Rejections {
				t.Errorf("Envoy of %s rejected %s %s: %s", region, r.Type, r.Name, r.Reason)
			}
		}
	}
}

// quic calls by HTTP/3 with exactly this SNI and host, on a connection of its own.
func (p *place) quic(roots *x509.CertPool, sni, host string) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	config := &tls.Config{RootCAs: roots, ServerName: sni, NextProtos: []string{http3.NextProtoH3}}
	conn, err := quic.DialAddr(ctx, p.node.HTTPS.String(), config, &quic.Config{HandshakeIdleTimeout: patience})
	if err != nil {
		return refusedOr(err)
	}
	defer conn.CloseWithError(0, "")
	transport := &http3.Transport{}
	defer transport.Close()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.node.HTTPS.String()+"/", nil)
	if err != nil {
		return err.Error()
	}
	request.Host = host
	response, err := transport.NewClientConn(conn).RoundTrip(request)
	if err != nil {
		return refusedOr(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return outcome(response.StatusCode, string(body), err)
}

// refusedOr words the error of a connection that the server closed.
func refusedOr(err error) string {
	if strings.Contains(err.Error(), "CRYPTO_ERROR") || strings.Contains(err.Error(), "remote") {
		return "refused"
	}
	return err.Error()
}
