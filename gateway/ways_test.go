package gateway

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
)

// passing is a place that passes on callers of services whose homes move.
type passing struct {
	*place
	hosts     xds.Hosts
	published []xds.Resource
}

// publish brings services into force, each with its home.
func (p *passing) publish(t *testing.T, homes map[string]law.Home, services ...polder.Service) {
	t.Helper()
	for _, s := range services {
		p.hosts.Put(law.Judge(s, law.Circumstances{Here: p.node.Region, Regions: testRegions, Home: homes[string(s.Name)],
			Alive: polder.RegionHealth{"fr": true, "nl": true}}))
	}
	p.node.Now = p.node.Now.Add(time.Second)
	p.published = p.swap(t, p.published, p.hosts.Node(p.node))
}

// heldConnection is one that stays open from call to call.
type heldConnection struct {
	*tls.Conn
	reader *bufio.Reader
	host   string
}

func (p *passing) open(t *testing.T, roots *x509.CertPool, host string) *heldConnection {
	t.Helper()
	dialer := &net.Dialer{Timeout: 30 * time.Second}
	c, err := tls.DialWithDialer(dialer, "tcp", p.node.HTTPS.String(), &tls.Config{RootCAs: roots, ServerName: host})
	if err != nil {
		t.Fatalf("connect to %s: %v", host, err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return &heldConnection{c, bufio.NewReader(c), host}
}

func (h *heldConnection) call() error {
	if _, err := fmt.Fprintf(h, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", h.host); err != nil {
		return err
	}
	response, err := http.ReadResponse(h.reader, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return nil
}

// stuckPeer takes connections and says nothing, like an Envoy that hangs. It tells
// of each.
func stuckPeer(t *testing.T) (address string, reached <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	told, ended := make(chan struct{}, 16), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			select {
			case told <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().String(), told
}

// TestAMovedHomeCutsNobody moves the home of services while callers go through a
// gateway that passes them on.
//
//  1. A connection that is being made to the old home, which does not answer, comes
//     to another peer that may have it.
//  2. A connection that is open stays open, also once Envoy has ended what it drains.
//  3. That of a service whose owner forbids the way does not.
func TestAMovedHomeCutsNobody(t *testing.T) {
	origin := namingOrigin(t)
	service := func(name string) polder.Service {
		return polder.Service{Name: polder.ServiceName(name), Hosts: []polder.Host{polder.Host(name + ".example.com")}, Timeout: time.Minute,
			Residency: polder.Residency{Allow: []polder.Place{"fr"}, Elsewhere: polder.PassThrough, Failover: polder.Failover{Class: polder.FailoverClosed}},
			Endpoints: map[polder.RegionName][]netip.AddrPort{"fr": {netip.MustParseAddrPort(origin.Listener.Addr().String())}}}
	}
	services := []polder.Service{service("made"), service("opened"), service("closed")}
	ca, roots := newCA(t)
	fr, nl := newPlace(t, "fr", ca, services), &passing{place: newPlace(t, "nl", ca, services)}
	stuck, reached := stuckPeer(t)
	well := fr.node.Peer.String()
	nl.node.PeerOf = map[polder.RegionName][]string{"fr": {stuck, well}, "nl": {nl.node.Peer.String()}}
	nl.node.PeerAt = map[string]string{"fr-1": stuck, "fr-2": well, "fr-3": well, "fr-4": well}
	nl.extra = []string{"--drain-time-s", "1", "--drain-strategy", "immediate"}
	fr.publish(services, polder.RegionHealth{"fr": true})
	fr.startEnvoy(t)
	at := func(peer string) law.Home { return law.Home{Peer: peer, Region: "fr"} }
	nl.publish(t, map[string]law.Home{"made": at("fr-1"), "opened": at("fr-3"), "closed": at("fr-4")}, services...)
	nl.startEnvoy(t)

	opened, forbidden := nl.open(t, roots, "opened.example.com"), nl.open(t, roots, "closed.example.com")
	for _, c := range []*heldConnection{opened, forbidden} {
		if err := c.call(); err != nil {
			t.Fatalf("%s, before anything moved: %v", c.host, err)
		}
	}
	made := make(chan error, 1)
	go func() {
		body, _, err := nl.get(roots, "made.example.com", "made.example.com", false)
		if err == nil && body != "made" {
			err = fmt.Errorf("answered %q", body)
		}
		made <- err
	}()
	select {
	case <-reached:
	case err := <-made:
		t.Fatalf("the call did not wait for its home, which hangs: %v", err)
	}
	services[2].Residency.Elsewhere = polder.Refuse
	nl.publish(t, map[string]law.Home{"made": at("fr-2"), "opened": at("fr-2")}, services...)
	if err := <-made; err != nil {
		t.Errorf("a connection that was being made when the home moved: %v", err)
	}
	if _, err := forbidden.reader.ReadByte(); !errors.Is(err, io.EOF) && !closed(err) {
		t.Fatalf("a connection whose way the owner forbids ends with %v, want it cut", err)
	}
	if err := opened.call(); err != nil {
		t.Errorf("a connection that was open when the home moved: %v", err)
	}
	if n := nl.hosts.Ways.Kept(); n != 2 {
		t.Errorf("%d ways are kept, want those of the two services whose home moved", n)
	}
}
