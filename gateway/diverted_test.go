package gateway

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
)

// TestHostsThatAreDiverted has running Envoys treat a host that their table has otherwise,
// again and again: its home moves, also where nobody went before, it is served here, and it
// is refused. No listener is sent for it; callers get where the law has them go, whatever
// they speak; connections that are open go on; and no request under load is lost, neither
// then nor when the table takes all in.
func TestHostsThatAreDiverted(t *testing.T) {
	const host = "moving.example.com"
	endpoints := map[polder.RegionName][]netip.AddrPort{}
	for _, region := range []polder.RegionName{"fr", "nl"} {
		origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, region) }))
		defer origin.Close()
		endpoints[region] = []netip.AddrPort{netip.MustParseAddrPort(origin.Listener.Addr().String())}
	}
	service := func(elsewhere polder.Elsewhere, allow ...polder.Place) polder.Service {
		return polder.Service{Name: "moving", Hosts: []polder.Host{host}, Timeout: time.Minute, Endpoints: endpoints,
			Residency: polder.Residency{Allow: allow, Elsewhere: elsewhere, Failover: polder.Failover{Class: polder.FailoverClosed}}}
	}
	everywhere := service(polder.PassThrough, "fr", "nl")
	ca, roots := newCA(t)
	places := map[polder.RegionName]*settlement{}
	peerOf, peerAt := map[polder.RegionName][]string{}, map[string]string{}
	for _, r := range testRegions {
		p := newPlace(t, r.Name, ca, []polder.Service{everywhere})
		places[r.Name] = &settlement{place: p, t: t, keys: map[polder.ServiceName][]xds.Key{}}
		peerOf[r.Name] = []string{p.node.Peer.String()}
		for i := range 3 {
			peerAt[fmt.Sprint(r.Name, "-", i+1)] = p.node.Peer.String()
		}
	}
	nl := places["nl"]
	nl.home = law.Home{Peer: "fr-1", Region: "fr"}
	for _, p := range places {
		p.node.PeerOf, p.node.PeerAt = peerOf, peerAt
		p.extra = []string{"--drain-time-s", "1", "--drain-strategy", "immediate"}
		p.change([]polder.Service{everywhere}, nil, false)
		p.startEnvoy(t)
	}
	call := func(sni string, http2 bool) string { return whatCallerHears(nl.get(roots, sni, host, http2)) }
	eventually(t, "it is answered at its home", func() bool { return call(host, false) == "fr" })
	open := map[string]*held{"by the table": nl.hold(t, roots, host)}
	load := loadOn(roots, nl.node.HTTPS, host)
	var now atomic.Value
	now.Store("at first")
	ended, fresh := make(chan struct{}), make(chan string, 1) // calls on connections of their own
	go func() {
		failure, calls := "", 0
		for failure == "" && !ending(ended) {
			if got := call(host, calls%2 == 0); got != "fr" && got != "nl" {
				failure = fmt.Sprintf("when %s, call %d: %s", now.Load(), calls, got)
			}
			calls++
		}
		fresh <- failure
	}()
	for _, step := range []struct {
		what string
		home polder.RegionName
		peer string
		tidy bool
	}{
		{"its home moves to another peer, where nobody went before", "fr", "fr-2", false},
		{"it is served here", "", "", false},
		{"its home moves to a third peer", "fr", "fr-3", false},
		{"and back to where the table leads", "fr", "fr-1", false},
		{"it is served here again", "", "", false},
		{"a minute passes", "", "", true},
		{"and its home moves again", "fr", "fr-2", false},
		{"and another minute passes", "fr", "fr-2", true},
	} {
		now.Store(step.what)
		nl.home = law.Home{Peer: step.peer, Region: step.home}
		if table := nl.change([]polder.Service{everywhere}, nil, step.tidy); table != step.tidy {
			t.Errorf("%s: the table of all was sent: %v", step.what, table)
		}
		want := "nl"
		if step.home != "" {
			want = string(step.home)
		}
		for _, sni := range []string{host, "MOVING.Example.com"} {
			for _, http2 := range []bool{false, true} {
				eventually(t, fmt.Sprintf("%s, SNI %s, HTTP/2 %v: region %s answers", step.what, sni, http2, want), func() bool { return call(sni, http2) == want })
			}
		}
		open[step.what] = nl.hold(t, roots, host)
		for since, c := range open {
			if got := c.ask(t); got != 200 {
				t.Errorf("%s: a connection that is open since %s gets %d", step.what, since, got)
			}
		}
	}
	// A caller whose connection Envoy took while the host was diverted, and who says the name
	// later, and slowly.
	nl.home = law.Home{}
	nl.change([]polder.Service{everywhere}, nil, false)
	eventually(t, "it is diverted", func() bool { return call(host, false) == "nl" })
	slow := nl.silent(t)
	nl.home = law.Home{Peer: "fr-2", Region: "fr"}
	nl.change([]polder.Service{everywhere}, nil, false)
	eventually(t, "it is not diverted any more", func() bool { return call(host, false) == "fr" })
	if got := slow.greet(t, roots, host).ask(t); got != 200 {
		t.Errorf("a caller who said the name when it was not diverted any more gets %d", got)
	}
	close(ended)
	if failure := <-fresh; failure != "" {
		t.Errorf("on a connection of its own, %s", failure)
	}
	if calls, lost := load.stop(); len(lost) > 0 || calls == 0 {
		t.Errorf("%d of %d requests were lost: %v", len(lost), calls, lost[:min(len(lost), 1)])
	}
	passed, served := open["by the table"], nl.change([]polder.Service{service(polder.PassThrough, "nl")}, nil, false)
	if !served {
		t.Error("the owner forbids where connections were passed on to, and they may go on")
	}
	eventually(t, "the connection is cut that was passed on", func() bool { return passed.ask(t) == 0 })
	if got := nl.hold(t, roots, host).ask(t); got != 200 {
		t.Errorf("a connection to where it may be gets %d", got)
	}
	for at, p := range places {
		for _, node := range p.server.Nodes() {
			for _, r := range node.Rejections {
				t.Errorf("Envoy of %s rejected %s %s: %s", at, r.Type, r.Name, r.Reason)
			}
		}
	}
}

// ending tells whether a channel is closed.
func ending(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// silent is a connection that Envoy has taken, and on which nothing was said yet.
type silent struct{ net.Conn }

func (p *place) silent(t *testing.T) silent {
	t.Helper()
	c, err := net.DialTimeout("tcp", p.node.HTTPS.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	eventually(t, "Envoy has taken the connection", func() bool {
		response, err := p.admin.Get("http://envoy/stats?filter=downstream_pre_cx_active")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return err == nil && regexp.MustCompile(`downstream_pre_cx_active: [1-9]`).Match(text)
	})
	return silent{c}
}

// greet says the name.
func (s silent) greet(t *testing.T, roots *x509.CertPool, host string) *held {
	t.Helper()
	wire := tls.Client(s.Conn, &tls.Config{RootCAs: roots, ServerName: host})
	s.SetDeadline(time.Now().Add(patience))
	if err := wire.Handshake(); err != nil {
		t.Errorf("the handshake on a connection that was silent: %v", err)
	}
	return &held{wire, bufio.NewReader(wire), host}
}
