package dns

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/polder/polder"
)

var resolver = netip.MustParseAddr("192.0.2.200") // in no known place: it counts as being in nl

func TestWhereCallersAreSent(t *testing.T) {
	all := []polder.RegionName{"fr", "nl", "pl"}
	for _, c := range []struct {
		why    string
		name   string
		kind   uint16
		subnet string
		alive  []polder.RegionName
		want   []string
		scope  int
	}{
		{"who is in no known place is taken to be where the server is", "open.example.com", wire.TypeA, "", all, []string{"192.0.2.2"}, -1},
		{"the caller's network decides", "open.example.com", wire.TypeA, "198.51.100.0/24", all, []string{"192.0.2.1"}, 24},
		{"and so does one of IPv6", "open.example.com", wire.TypeA, "2001:db8:f:100::/56", all, []string{"192.0.2.1"}, 48},
		{"no more bits than decided are in the scope", "open.example.com", wire.TypeA, "9.0.0.0/24", all, []string{"192.0.2.2"}, 1},
		{"a half of a network may be elsewhere", "open.example.com", wire.TypeA, "203.0.113.200/32", all, []string{"192.0.2.3"}, 25},
		{"and the other half has as long a scope", "open.example.com", wire.TypeA, "203.0.113.3/32", all, []string{"192.0.2.2"}, 25},
		{"who tells nothing is where the resolver is", "open.example.com", wire.TypeA, "0.0.0.0/0", all, []string{"192.0.2.2"}, 0},
		{"a lost region gets nobody", "open.example.com", wire.TypeA, "198.51.100.0/24", all[1:], []string{"192.0.2.2"}, 24},
		{"all addresses of one family", "open.example.com", wire.TypeAAAA, "", all, []string{"2001:db8::2"}, -1},
		{"both families as hints", "open.example.com", wire.TypeHTTPS, "", all, []string{"192.0.2.2", "2001:db8::2"}, -1},
		{"a region without IPv6 is not left for one with it", "open.example.com", wire.TypeAAAA, "203.0.113.200/32", all, nil, 25},
		{"a wildcard stands for what is below it", "Any.Thing.open.example.com", wire.TypeA, "", all, []string{"192.0.2.2"}, -1},
		{"the region that serves is better than a near one", "pinned.example.com", wire.TypeA, "203.0.113.0/24", all, []string{"192.0.2.1"}, 0},
		{"while none serves, a region that can say so", "pinned.example.com", wire.TypeA, "203.0.113.200/32", all[1:], []string{"192.0.2.3"}, 25},
		{"unless the owner refuses it: then the lost one", "secret.example.com", wire.TypeA, "203.0.113.0/24", all[1:], []string{"192.0.2.1"}, 0},
		{"a standby waits", "standby.example.com", wire.TypeA, "203.0.113.0/24", all, []string{"192.0.2.3"}, 0},
		{"and stands in", "standby.example.com", wire.TypeA, "203.0.113.200/32", all[:2], []string{"192.0.2.2"}, 0},
	} {
		t.Run(c.why, func(t *testing.T) {
			d := newDirectory(seen(t, countries, c.alive...))
			m, _ := d.answer(query(c.name, c.kind, c.subnet), resolver, false)
			if got := told(m); !slices.Equal(got, c.want) || scopeOf(m) != c.scope || m.Rcode != wire.RcodeSuccess || !m.Authoritative || m.RecursionAvailable {
				t.Errorf("got %v with scope %d, want %v with scope %d\n%v", got, scopeOf(m), c.want, c.scope, m)
			}
			for _, rr := range m.Answer {
				if rr.Header().Ttl != 15 {
					t.Errorf("the TTL of %v is not 15", rr)
				}
			}
			if len(c.want) == 0 && (len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != wire.TypeSOA) {
				t.Errorf("an empty answer without SOA: %v", m.Ns)
			}
		})
	}
}

func TestWhatTheProtocolSays(t *testing.T) {
	with := func(q *wire.Msg, change func(*wire.Msg)) *wire.Msg { change(q); return q }
	subnet := func(s *wire.EDNS0_SUBNET) *wire.Msg {
		return with(query("open.example.com", wire.TypeA, "198.51.100.0/24"), func(q *wire.Msg) { q.IsEdns0().Option = []wire.EDNS0{s} })
	}
	for _, c := range []struct {
		why    string
		q      *wire.Msg
		code   int
		answer []string // types
		ns     []string
	}{
		{"a name that is not there", query("none.example.com", wire.TypeA, ""), wire.RcodeNameError, nil, []string{"SOA"}},
		{"a name with others below it is there", query("below.example.com", wire.TypeA, ""), wire.RcodeSuccess, nil, []string{"SOA"}},
		{"the name below which a wildcard stands", query("open.example.com", wire.TypeMX, ""), wire.RcodeSuccess, nil, []string{"SOA"}},
		{"the zone itself", query("example.com", wire.TypeSOA, ""), wire.RcodeSuccess, []string{"SOA"}, nil},
		{"its name servers", query("example.com", wire.TypeNS, ""), wire.RcodeSuccess, []string{"NS", "NS", "NS"}, nil},
		{"no address at the zone itself", query("example.com", wire.TypeA, ""), wire.RcodeSuccess, nil, []string{"SOA"}},
		{"the address of a name server", query("ns-pl.example.com", wire.TypeA, ""), wire.RcodeSuccess, []string{"A"}, nil},
		{"SOA below the zone's top", query("open.example.com", wire.TypeSOA, ""), wire.RcodeSuccess, nil, []string{"SOA"}},
		{"everything: RFC 8482", query("open.example.com", wire.TypeANY, ""), wire.RcodeSuccess, []string{"HINFO"}, nil},
		{"a zone of somebody else", query("example.org", wire.TypeA, ""), wire.RcodeRefused, nil, nil},
		{"a host outside of the zones", query("strange.example.net", wire.TypeA, ""), wire.RcodeRefused, nil, nil},
		{"the root", query(".", wire.TypeNS, ""), wire.RcodeRefused, nil, nil},
		{"a transfer", query("example.com", wire.TypeAXFR, ""), wire.RcodeRefused, nil, nil},
		{"another class", with(query("version.bind", wire.TypeTXT, ""), func(q *wire.Msg) { q.Question[0].Qclass = wire.ClassCHAOS }), wire.RcodeRefused, nil, nil},
		{"an update", with(query("example.com", wire.TypeSOA, ""), func(q *wire.Msg) { q.Opcode = wire.OpcodeUpdate }), wire.RcodeNotImplemented, nil, nil},
		{"no question", with(query("example.com", wire.TypeSOA, ""), func(q *wire.Msg) { q.Question = nil }), wire.RcodeFormatError, nil, nil},
		{"two questions", with(query("example.com", wire.TypeSOA, ""), func(q *wire.Msg) { q.Question = append(q.Question, q.Question[0]) }), wire.RcodeFormatError, nil, nil},
		{"options of another version", with(query("open.example.com", wire.TypeA, "198.51.100.0/24"), func(q *wire.Msg) { q.IsEdns0().SetVersion(1) }), wire.RcodeBadVers, nil, nil},
		{"options twice", with(query("open.example.com", wire.TypeA, "198.51.100.0/24"), func(q *wire.Msg) { q.Extra = append(q.Extra, q.Extra[0]) }), wire.RcodeFormatError, nil, nil},
		{"a network with bits beyond its length", subnet(&wire.EDNS0_SUBNET{Family: 1, SourceNetmask: 24, Address: []byte{198, 51, 100, 1}}), wire.RcodeFormatError, nil, nil},
		{"a network of no family", subnet(&wire.EDNS0_SUBNET{Family: 3, SourceNetmask: 24, Address: []byte{198, 51, 100, 0}}), wire.RcodeFormatError, nil, nil},
		{"a query with a scope", subnet(&wire.EDNS0_SUBNET{Family: 1, SourceNetmask: 24, SourceScope: 24, Address: []byte{198, 51, 100, 0}}), wire.RcodeFormatError, nil, nil},
		{"no network of no family", subnet(&wire.EDNS0_SUBNET{}), wire.RcodeSuccess, []string{"A"}, nil},
	} {
		t.Run(c.why, func(t *testing.T) {
			d := newDirectory(seen(t, countries, "fr", "nl", "pl"))
			m, _ := d.answer(c.q, resolver, false)
			if m.Rcode != c.code || !slices.Equal(types(m.Answer), c.answer) || !slices.Equal(types(m.Ns), c.ns) {
				t.Errorf("got %s %v %v, want %s %v %v", wire.RcodeToString[m.Rcode], types(m.Answer), types(m.Ns), wire.RcodeToString[c.code], c.answer, c.ns)
			}
			if asked := c.q.IsEdns0() != nil; asked != (m.IsEdns0() != nil) {
				t.Error("options are answered with options, and nothing else is")
			}
			if _, err := m.Pack(); err != nil {
				t.Error(err)
			}
		})
	}
}

func types(list []wire.RR) []string {
	var names []string
	for _, rr := range list {
		names = append(names, wire.TypeToString[rr.Header().Rrtype])
	}
	return names
}

// Without zones in the configuration each host is one; the name servers of a
// service that is refused elsewhere are in its own regions only.
func TestEachHostIsAZone(t *testing.T) {
	text := strings.Replace(countries, "zones: [example.com]", "zones: []", 1)
	d := newDirectory(seen(t, text, "fr", "nl", "pl"))
	for name, want := range map[string][]string{
		"open.example.com":    {"ns-fr.open.example.com", "ns-nl.open.example.com", "ns-pl.open.example.com"},
		"secret.example.com":  {"ns-fr.secret.example.com"},
		"standby.example.com": {"ns-nl.standby.example.com", "ns-pl.standby.example.com"},
	} {
		if z := d.zones[name]; z == nil || !slices.Equal(z.servers, want) {
			t.Errorf("%s: got %+v, want the servers %v", name, z, want)
		}
	}
	if m, _ := d.answer(query("example.com", wire.TypeSOA, ""), resolver, false); m.Rcode != wire.RcodeRefused {
		t.Error("it speaks for the parent of the hosts")
	}
	if m, _ := d.answer(query("strange.example.net", wire.TypeA, ""), resolver, false); len(told(m)) != 1 {
		t.Errorf("got %v", m)
	}
}

// Answers that do not fit say so, and are whole over TCP.
func TestLongAnswersAreTruncated(t *testing.T) {
	var public []string
	for i := range 200 {
		public = append(public, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String())
	}
	text := strings.Replace(countries, "192.0.2.2, ", strings.Join(public, ", ")+", ", 1)
	d := newDirectory(seen(t, text, "fr", "nl", "pl"))
	for _, c := range []struct {
		subnet string
		stream bool
		most   int
	}{{"", false, 512}, {"192.0.2.0/24", false, 1232}, {"", true, 65535}} {
		m, _ := d.answer(query("open.example.com", wire.TypeA, c.subnet), resolver, c.stream)
		data, err := m.Pack()
		if err != nil || len(data) > c.most || m.Truncated == c.stream || c.stream && len(m.Answer) != 200 {
			t.Errorf("at most %d bytes: %d bytes, truncated %v, %d records, %v", c.most, len(data), m.Truncated, len(m.Answer), err)
		}
	}
}

// Behind broken glass is a region that the owner refuses, until the hour strikes.
func TestGlassIsBoundToItsTime(t *testing.T) {
	w := seen(t, countries, "nl", "pl")
	broken := time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	for i, s := range w.Model.Services {
		if s.Name == "secret" {
			w.Model.Services[i].Residency.Failover = polder.Failover{Class: polder.FailoverBreakGlass, Regions: []polder.RegionName{"pl"},
				Broken: &polder.BrokenGlass{From: broken, Until: broken.Add(time.Hour), Reason: "fire"}}
		}
	}
	s := New(Options{Region: "nl", Log: slog.New(slog.DiscardHandler)})
	for _, c := range []struct {
		at   time.Duration
		want string
	}{{-time.Second, "[192.0.2.1]"}, {time.Second, "[192.0.2.3]"}, {time.Hour, "[192.0.2.1]"}} {
		w.Now = broken.Add(c.at)
		s.Update(w)
		m := s.reply(query("secret.example.com", wire.TypeA, ""), resolver, 0, false)
		if got := fmt.Sprint(told(m)); got != c.want {
			t.Errorf("%v after the glass broke: %s, want %s", c.at, got, c.want)
		}
	}
}
