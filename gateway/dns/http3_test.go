package dns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/polder/polder"
)

const quick = `regions:
  fr: { jurisdiction: [FR, EU], location: [48.86, 2.35], listen: { dns: ":53", http3: on }, public: [192.0.2.1] }
  nl: { jurisdiction: [NL, EU], location: [52.37, 4.90], listen: { dns: ":53" }, public: [192.0.2.2] }
  pl: { jurisdiction: [PL, EU], location: [52.23, 21.01], listen: { dns: ":53", http3: on }, public: [192.0.2.3] }
dns:
  zones: [example.com]
  places:
    - { prefixes: [198.51.100.0/24], region: fr }
    - { prefixes: [203.0.113.0/24], region: nl }
services:
  routed: { hosts: [routed.example.com], residency: { allow: [fr, nl], keys: resident }, endpoints: { fr: ["10.0.0.5:8080"], nl: ["10.1.0.5:8080"] } }
  alone: { hosts: [alone.example.com], residency: { allow: [fr], keys: resident }, run: { command: [./a] } }
  moves: { hosts: [moves.example.com], residency: { allow: [fr, pl], keys: resident }, run: { command: [./a] } }
  asked: { hosts: [asked.example.com], residency: { allow: [fr] }, run: { command: [./a] } }
`

// TestHTTP3IsToldWhereItIs: the HTTPS record names h3 only for services and regions
// whose every gateway takes QUIC.
func TestHTTP3IsToldWhereItIs(t *testing.T) {
	for _, c := range []struct {
		why, host, from string
		peers           int // of fr
		want            string
	}{
		{"a routed service, where the region listens", "routed.example.com", "198.51.100.7", 2, "h3 h2"},
		{"… and where it does not", "routed.example.com", "203.0.113.7", 2, "h2"},
		{"a service that runs at one peer only", "alone.example.com", "198.51.100.7", 1, "h3 h2"},
		{"… asked for from elsewhere", "alone.example.com", "203.0.113.7", 1, "h3 h2"},
		{"its region has peers that pass callers on to the home", "alone.example.com", "198.51.100.7", 2, "h2"},
		{"its home may be in another region", "moves.example.com", "198.51.100.7", 1, "h2"},
		{"its key is fetched on demand", "asked.example.com", "198.51.100.7", 1, "h2"},
	} {
		w := seen(t, quick, "fr", "nl", "pl")
		w.Peers = map[polder.RegionName]int{"fr": c.peers, "nl": 1, "pl": 1}
		m, _ := newDirectory(w).answer(query(c.host, wire.TypeHTTPS, ""), netip.MustParseAddr(c.from), false)
		var got []string
		for _, rr := range m.Answer {
			for _, v := range rr.(*wire.HTTPS).Value {
				if a, is := v.(*wire.SVCBAlpn); is {
					got = append(got, strings.Join(a.Alpn, " "))
				}
			}
		}
		if fmt.Sprint(got) != "["+c.want+"]" {
			t.Errorf("%s: %s from %s is told %v, want %s", c.why, c.host, c.from, got, c.want)
		}
	}
}
