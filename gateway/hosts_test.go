package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/xds/server"
)

// TestFormsOfHosts calls a real Envoy by every way in which a host can be
// written. The routes are chosen by the SNI, whatever HTTP says after it, and
// what Host or :authority say must then be the service's own: as virtual hosts
// would have it, with any case, port and trailing dot.
func TestFormsOfHosts(t *testing.T) {
	origin := namingOrigin(t)
	routed := func(name string, hosts ...polder.Host) polder.Service {
		return polder.Service{Name: polder.ServiceName(name), Hosts: hosts, Timeout: time.Minute,
			Residency: polder.Residency{Allow: []polder.Place{"fr"}, Failover: polder.Failover{Class: polder.FailoverClosed}},
			Endpoints: map[polder.RegionName][]netip.AddrPort{"fr": {netip.MustParseAddrPort(origin.Listener.Addr().String())}}}
	}
	services := []polder.Service{
		routed("exact", "exact.example.com", "www.exact.example.com"),
		routed("wild", "*.wild.example.com"),
		routed("inside", "own.wild.example.com"),
		routed("both", "both.example.com", "*.both.example.com"),
	}
	ca, roots := newCA(t)
	p := newPlace(t, "fr", ca, services)
	p.server = server.New(server.Options{Log: slog.New(slog.DiscardHandler), Secret: p.secret})
	p.publish(services, polder.RegionHealth{"fr": true})
	p.startEnvoy(t)

	for _, c := range []struct {
		sni, host string
		want      string // the service, or the status
		why       string
	}{
		{"exact.example.com", "exact.example.com", "exact", "as written"},
		{"exact.example.com", "EXACT.Example.COM", "exact", "case says nothing"},
		{"EXACT.example.com", "exact.example.com", "exact", "nor in the SNI"},
		{"exact.example.com", "exact.example.com:8443", "exact", "a port says nothing"},
		{"exact.example.com", "Exact.example.com:443", "exact", "nor with upper case"},
		{"exact.example.com", "exact.example.com.", "exact", "the trailing dot of an absolute name"},
		{"exact.example.com", "exact.example.com.:8443", "exact", "with a port behind it"},
		{"exact.example.com", "www.exact.example.com", "421", "another host of the service: its own connection is one retry away"},
		{"www.exact.example.com", "www.exact.example.com", "exact", "and there it is served"},
		{"exact.example.com", "own.wild.example.com", "421", "another service's host"},
		{"exact.example.com", "nobody.example.com", "421", "nobody's host"},
		{"exact.example.com", "xexact.example.com", "421", "a longer name"},
		{"a.wild.example.com", "a.wild.example.com", "wild", "below a wildcard"},
		{"A.wild.example.com", "a.WILD.example.com:8443", "wild", "in upper case with a port"},
		{"a.b.wild.example.com", "a.b.wild.example.com", "wild", "deeper below a wildcard"},
		{"own.wild.example.com", "own.wild.example.com", "inside", "an exact host wins over a wildcard"},
		{"a.wild.example.com", "own.wild.example.com", "421", "and is not the wildcard's to answer"},
		{"both.example.com", "both.example.com", "both", "exact beside its own wildcard"},
		{"x.both.example.com", "x.both.example.com", "both", "the wildcard beside it"},
		{"nobody.example.com", "nobody.example.com", "refused", "nobody's name"},
		{"wild.example.com", "wild.example.com", "refused", "a wildcard does not match its own parent"},
		{"", "exact.example.com", "refused", "no SNI at all"},
	} {
		for _, http2 := range []bool{false, true} {
			if got := p.form(roots, c.sni, c.host, http2); got != c.want {
				t.Errorf("SNI %q, host %q, HTTP/2 %v: got %q, want %q: %s", c.sni, c.host, http2, got, c.want, c.why)
			}
		}
	}
}

// form calls with exactly this SNI and this host.
func (p *place) form(roots *x509.CertPool, sni, host string, http2 bool) string {
	config := &tls.Config{RootCAs: roots, ServerName: sni, NextProtos: []string{"http/1.1"}}
	// Without a name there is nothing to hold a certificate against, and a
	// certificate's wildcard covers one label, while the hosts' covers all below.
	config.InsecureSkipVerify = sni == "" || sni == "a.b.wild.example.com"
	if http2 {
		return p.formHTTP2(config, host)
	}
	wire, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", p.node.HTTPS.String(), config)
	if err != nil {
		return outcome(0, "", err)
	}
	defer wire.Close()
	wire.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(wire, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host)
	response, err := http.ReadResponse(bufio.NewReader(wire), nil)
	if err != nil {
		return outcome(0, "", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return outcome(response.StatusCode, string(body), err)
}

func (p *place) formHTTP2(config *tls.Config, host string) string {
	config.NextProtos = []string{"h2"}
	transport := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", p.node.HTTPS.String())
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequest("GET", "https://"+p.node.HTTPS.String()+"/", nil)
	if err != nil {
		return err.Error()
	}
	request.Host = host // :authority, as it is
	response, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
	if err != nil {
		return outcome(0, "", err)
	}
	defer response.Body.Close()
	if response.ProtoMajor != 2 {
		return response.Proto
	}
	body, err := io.ReadAll(response.Body)
	return outcome(response.StatusCode, string(body), err)
}

func outcome(status int, body string, err error) string {
	switch {
	case closed(err):
		return "refused"
	case err != nil:
		return err.Error()
	case status != 200:
		return fmt.Sprint(status)
	}
	return body
}
