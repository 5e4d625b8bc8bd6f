package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

// settlement publishes services to a place change by change, as a region does.
type settlement struct {
	*place
	t     *testing.T
	hosts xds.Hosts
	keys  map[polder.ServiceName][]xds.Key
	alive polder.RegionHealth // nil for all
	home  law.Home            // of every service
}

func (s *settlement) judge(service polder.Service) law.Approved {
	var endpoints []polder.Endpoint
	for region, addresses := range service.Endpoints {
		for _, a := range addresses {
			endpoints = append(endpoints, polder.Endpoint{Service: service.Name, Region: region, Address: a})
		}
	}
	alive := s.alive
	if alive == nil {
		alive = polder.RegionHealth{"fr": true, "nl": true}
	}
	return law.Judge(service, law.Circumstances{Here: s.node.Region, Regions: testRegions, Alive: alive, Endpoints: endpoints, Home: s.home})
}

// change brings services into force and takes others away. It returns when Envoy
// has acknowledged, and tells whether the table of hosts was sent.
func (s *settlement) change(add []polder.Service, gone []polder.ServiceName, tidy bool) (table bool) {
	s.t.Helper()
	var set []xds.Resource
	var remove []xds.Key
	for _, service := range add {
		a := s.judge(service)
		s.hosts.Put(a)
		made := xds.Service(a, xds.Gateway{Region: s.node.Region, Activator: filepath.Join(s.dir, "activator.sock")})
		remove = append(remove, without(s.keys[service.Name], keysOf(made))...)
		s.keys[service.Name] = keysOf(made)
		set = append(set, made...)
	}
	for _, name := range gone {
		s.hosts.Remove(name)
		remove = append(remove, s.keys[name]...)
		delete(s.keys, name)
	}
	now := time.Now()
	if table = tidy || s.hosts.Changed(); table {
		s.node.Now = now
		set = append(set, s.hosts.Node(s.node)...)
	}
	led, left := s.hosts.ByName(now)
	set, remove = append(set, led...), append(remove, left...)
	s.server.Apply(set, remove)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.server.Wait(ctx, append(keysOf(set), remove...)...); err != nil {
		s.t.Fatal(err)
	}
	return table
}

// TestHostsThatComeLater adds hosts to running Envoys: to be opened here, and to be
// passed on. Neither touches a listener; they are called like all others; when the
// table takes them in, connections that came before go on; and when they are gone
// nobody answers for them.
func TestHostsThatComeLater(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Header.Get("X-Forwarded-For"), r.Header.Get(xds.HeaderService))
	}))
	defer origin.Close()
	service := func(name string, elsewhere polder.Elsewhere) polder.Service {
		return polder.Service{Name: polder.ServiceName(name), Hosts: []polder.Host{polder.Host(name + ".example.com")}, Timeout: time.Minute,
			Residency: polder.Residency{Allow: []polder.Place{"fr"}, Elsewhere: elsewhere, Failover: polder.Failover{Class: polder.FailoverClosed}},
			Endpoints: map[polder.RegionName][]netip.AddrPort{"fr": {netip.MustParseAddrPort(origin.Listener.Addr().String())}}}
	}
	first, later := service("first", polder.PassThrough), service("later", polder.PassThrough)
	ca, roots := newCA(t)
	places := map[polder.RegionName]*settlement{}
	peerOf := map[polder.RegionName][]string{}
	for _, r := range testRegions {
		p := newPlace(t, r.Name, ca, []polder.Service{first, later})
		places[r.Name] = &settlement{place: p, t: t, keys: map[polder.ServiceName][]xds.Key{}}
		peerOf[r.Name] = []string{p.node.Peer.String()}
	}
	for _, p := range places {
		p.node.PeerOf = peerOf
		p.change([]polder.Service{first}, nil, false)
		p.startEnvoy(t)
	}
	call := func(at polder.RegionName, sni string, http2 bool) string {
		return whatCallerHears(places[at].get(roots, sni, strings.ToLower(sni), http2))
	}
	const answered = callerAddress + " later"
	for at, p := range places { // a flood of unknown names asks nobody and leaves nothing behind
		eventually(t, "the first service is served at "+string(at), func() bool { return call(at, "first.example.com", false) == callerAddress+" first" })
		eventually(t, "the Envoy of "+string(at)+" has answered to all that it was sent", func() bool {
			for _, c := range p.server.Counters() {
				if c.Accepted != c.Pushed {
					return false
				}
			}
			return true
		})
		before, secrets := fmt.Sprint(p.server.Counters()), len(p.server.SecretNames())
		for i := range 200 {
			if got := call(at, fmt.Sprintf("unknown-%d.example.com", i), false); got != "closed" {
				t.Fatalf("at %s, an unknown name: %s", at, got)
			}
		}
		if after := fmt.Sprint(p.server.Counters()); after != before || len(p.server.SecretNames()) != secrets {
			t.Errorf("at %s, after 200 unknown names: %s, %d secrets; before: %s, %d", at, after, len(p.server.SecretNames()), before, secrets)
		}
	}
	old := map[polder.RegionName]*held{}
	for at, p := range places {
		if got := call(at, "later.example.com", false); got != "closed" {
			t.Fatalf("at %s, before it is there: %s", at, got)
		}
		if p.change([]polder.Service{later}, nil, false) {
			t.Errorf("at %s: a host that came later needed the table of all", at)
		}
	}
	for at, p := range places {
		eventually(t, "the later service is served at "+string(at), func() bool { return call(at, "later.example.com", false) == answered })
		for _, sni := range []string{"later.example.com", "LATER.Example.com"} {
			for _, http2 := range []bool{false, true} {
				if got := call(at, sni, http2); got != answered {
					t.Errorf("at %s, SNI %s, HTTP/2 %v: got %q, want %q", at, sni, http2, got, answered)
				}
			}
		}
		old[at] = p.hold(t, roots, "later.example.com")
		if !p.change(nil, nil, true) {
			t.Fatal("no table")
		}
		if set, remove := p.hosts.ByName(time.Now()); len(set)+len(remove) > 0 || p.hosts.Pending() > 0 {
			t.Errorf("at %s, once the table has it: %d and %d more changes, %d pending", at, len(set), len(remove), p.hosts.Pending())
		}
		if got := old[at].ask(t); got != 200 {
			t.Errorf("at %s: the connection that was led by its name got %d after the table took the host in", at, got)
		}
		if got := call(at, "later.example.com", true); got != answered {
			t.Errorf("at %s, by the table: %q", at, got)
		}
	}
	for at, p := range places {
		if p.change(nil, []polder.ServiceName{"later"}, false) {
			t.Errorf("at %s: a host that went needed the table of all", at)
		}
	}
	for at, p := range places {
		eventually(t, "nobody answers for the host that went, at "+string(at), func() bool { return !strings.Contains(call(at, "later.example.com", false), "later") })
		p.change(nil, nil, true)
		eventually(t, "the table forgets it at "+string(at), func() bool { return call(at, "later.example.com", false) == "closed" })
		if got := call(at, "first.example.com", false); got != callerAddress+" first" {
			t.Errorf("at %s, all that while: %q", at, got)
		}
		for _, node := range p.server.Nodes() {
			for _, r := range node.Rejections {
				t.Errorf("Envoy of %s rejected %s %s: %s", at, r.Type, r.Name, r.Reason)
			}
		}
	}
}

// TestHostsThatAreRefused lets a host be refused and permitted by a running Envoy, again
// and again, until the owner takes it away. The table of hosts is sent for none of it;
// each time callers get the answer that a fresh start would give them, in TLS and in plain HTTP.
// The same holds for a host that the table leads to be opened.
func TestHostsThatAreRefused(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get(xds.HeaderService))
	}))
	defer origin.Close()
	service := func(name string, elsewhere polder.Elsewhere, allow polder.RegionName) polder.Service {
		return polder.Service{Name: polder.ServiceName(name), Hosts: []polder.Host{polder.Host(name + ".example.com")}, Timeout: time.Minute,
			Residency: polder.Residency{Allow: []polder.Place{polder.Place(allow)}, Elsewhere: elsewhere, Failover: polder.Failover{Class: polder.FailoverClosed}},
			Endpoints: map[polder.RegionName][]netip.AddrPort{allow: {netip.MustParseAddrPort(origin.Listener.Addr().String())}}}
	}
	ca, roots := newCA(t)
	first := service("first", polder.PassThrough, "fr")
	p := &settlement{place: newPlace(t, "fr", ca, []polder.Service{first, service("vault", polder.Refuse, "fr")}), t: t, keys: map[polder.ServiceName][]xds.Key{}}
	var keyless atomic.Bool // the first service's key is given to nobody
	p.server = server.New(server.Options{Log: slog.New(slog.DiscardHandler), Secret: func(name string) (xds.Resource, bool) {
		if name == "first.example.com" && keyless.Load() {
			return xds.Resource{}, false
		}
		return p.secret(name)
	}})
	p.change([]polder.Service{first}, nil, false)
	p.startEnvoy(t)
	const served = "vault"
	called := func(host string, http2 bool) string { return whatCallerHears(p.get(roots, host, host, http2)) }
	call := func(http2 bool) string { return called("vault.example.com", http2) }
	for _, step := range []struct {
		what  string
		vault *polder.Service
		alive bool // region nl
		tidy  bool
		tls   string // what callers get, or a part of it
		plain int
	}{
		{"it comes, refused", new(service("vault", polder.Refuse, "nl")), true, false, "access denied", 451},
		{"the other region dies", new(service("vault", polder.PassThrough, "nl")), false, false, "internal error", 503},
		{"its owner refuses callers again", new(service("vault", polder.Refuse, "nl")), true, false, "access denied", 451},
		{"it is permitted here", new(service("vault", polder.Refuse, "fr")), true, false, served, 308},
		{"and refused, before the table had it", new(service("vault", polder.Refuse, "nl")), true, false, "access denied", 451},
		{"a minute passes", nil, true, true, "access denied", 451},
		{"it is permitted here again", new(service("vault", polder.Refuse, "fr")), true, false, served, 308},
	} {
		var add []polder.Service
		if step.vault != nil {
			add = []polder.Service{*step.vault}
		}
		p.alive = polder.RegionHealth{"fr": true, "nl": step.alive}
		if table := p.change(add, nil, step.tidy); table != step.tidy {
			t.Errorf("%s: the table of all was sent: %v", step.what, table)
		}
		for _, http2 := range []bool{false, true} {
			eventually(t, fmt.Sprintf("%s, HTTP/2 %v: callers get %q", step.what, http2, step.tls), func() bool { return strings.Contains(call(http2), step.tls) })
		}
		eventually(t, fmt.Sprintf("%s: plain HTTP says %d", step.what, step.plain), func() bool { status, _ := p.plain(t, "VAULT.example.com"); return status == step.plain })
	}
	p.change([]polder.Service{service("vault", polder.Refuse, "nl")}, nil, false)
	eventually(t, "it is refused", func() bool { return strings.Contains(call(true), "access denied") })
	if p.change(nil, []polder.ServiceName{"vault"}, false) {
		t.Error("a refused host that went needed the table of all")
	}
	eventually(t, "it is nobody's", func() bool { return call(true) == "closed" })
	if status, _ := p.plain(t, "vault.example.com"); status != 308 {
		t.Errorf("once it is nobody's, plain HTTP says %d", status)
	}

	open := p.hold(t, roots, "first.example.com")
	for _, step := range []struct {
		what    string
		allow   polder.RegionName
		refused bool
		tidy    bool
		tls     string
		plain   int
	}{
		{"one that the table leads to be opened is refused", "nl", true, false, "access denied", 451},
		{"and permitted", "fr", false, false, "first", 308},
		{"and refused", "nl", true, false, "access denied", 451},
		{"a minute later", "nl", true, true, "access denied", 451},
		{"it is permitted", "fr", false, false, "first", 308},
	} {
		keyless.Store(step.refused)
		p.server.Touch("first.example.com")
		if table := p.change([]polder.Service{service("first", polder.Refuse, step.allow)}, nil, step.tidy); table != step.tidy {
			t.Errorf("%s: the table of all was sent: %v", step.what, table)
		}
		for _, http2 := range []bool{false, true} {
			eventually(t, fmt.Sprintf("%s, HTTP/2 %v: callers get %q", step.what, http2, step.tls), func() bool { return strings.Contains(called("first.example.com", http2), step.tls) })
		}
		eventually(t, fmt.Sprintf("%s: plain HTTP says %d", step.what, step.plain), func() bool { status, _ := p.plain(t, "first.example.com"); return status == step.plain })
		if want := map[bool]int{true: 421, false: 200}[step.refused]; open.ask(t) != want {
			t.Errorf("%s: a connection that was opened before gets something else than %d", step.what, want)
		}
	}
	for _, node := range p.server.Nodes() {
		for _, r := range node.Rejections {
			t.Errorf("Envoy rejected %s %s: %s", r.Type, r.Name, r.Reason)
		}
	}
}

// held is one connection that stays open.
type held struct {
	wire   *tls.Conn
	reader *bufio.Reader
	host   string
}

func (p *place) hold(t *testing.T, roots *x509.CertPool, host string) *held {
	t.Helper()
	wire, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", p.node.HTTPS.String(), &tls.Config{RootCAs: roots, ServerName: host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wire.Close() })
	h := &held{wire, bufio.NewReader(wire), host}
	if got := h.ask(t); got != 200 {
		t.Fatalf("the first request on a connection for %s got %d", host, got)
	}
	return h
}

// ask sends one request over the connection and gives its status; 0 if it broke.
func (h *held) ask(t *testing.T) int {
	t.Helper()
	h.wire.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(h.wire, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", h.host); err != nil {
		t.Log(err)
		return 0
	}
	response, err := http.ReadResponse(h.reader, nil)
	if err != nil {
		t.Log(err)
		return 0
	}
	defer response.Body.Close()
	for buffer := make([]byte, 512); ; {
		if _, err := response.Body.Read(buffer); err != nil {
			return response.StatusCode
		}
	}
}

// whatCallerHears is what a call comes to: the answer, or why there is none.
func whatCallerHears(body string, response *http.Response, err error) string {
	switch {
	case closed(err):
		return "closed"
	case err != nil:
		return err.Error()
	case response.StatusCode != http.StatusOK:
		return response.Status
	}
	return body
}
