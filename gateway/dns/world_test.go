package dns

import (
	"net/netip"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/polder/polder"
)

// countries are three regions and five services, one of each kind of policy.
const countries = `regions:
  fr: { jurisdiction: [FR, EU], location: [48.86, 2.35], listen: { dns: ":53" }, public: [192.0.2.1, "2001:db8::1"] }
  nl: { jurisdiction: [NL, EU], location: [52.37, 4.90], listen: { dns: ":53" }, public: [192.0.2.2, "2001:db8::2"] }
  pl: { jurisdiction: [PL, EU], location: [52.23, 21.01], listen: { dns: ":53" }, public: [192.0.2.3] }
dns:
  zones: [example.com]
  ttl: 15s
  places:
    - { prefixes: [198.51.100.0/24, "2001:db8:f::/48"], region: fr }
    - { prefixes: [203.0.113.0/24], region: nl }
    - { prefixes: [203.0.113.128/25], region: pl }
services:
  open: { hosts: [open.example.com, "*.open.example.com"], residency: { allow: [EU] }, run: { command: [./a] } }
  pinned: { hosts: [pinned.example.com, deep.below.example.com], residency: { allow: [fr] }, run: { command: [./a] } }
  secret: { hosts: [secret.example.com], residency: { allow: [fr], elsewhere: refuse }, run: { command: [./a] } }
  standby: { hosts: [standby.example.com], residency: { allow: [pl], failover: { listed: [nl] }, elsewhere: refuse }, run: { command: [./a] } }
  strange: { hosts: [strange.example.net], residency: { allow: [EU] }, run: { command: [./a] } }
`

func model(t testing.TB, text string) *polder.Model {
	t.Helper()
	r := polder.Decode([]polder.File{{Name: "polder.yaml", Data: []byte(text)}})
	if len(r.Faults) > 0 {
		t.Fatal(r.Faults)
	}
	return r.Model
}

func healthy(names ...polder.RegionName) polder.RegionHealth {
	h := polder.RegionHealth{}
	for _, n := range names {
		h[n] = true
	}
	return h
}

// seen is a World as nl sees it while these regions live.
func seen(t testing.TB, text string, alive ...polder.RegionName) World {
	return World{Here: "nl", Model: model(t, text), Alive: healthy(alive...), Usable: healthy(alive...)}
}

// query is a question with options.
func query(name string, kind uint16, subnet string) *wire.Msg {
	q := new(wire.Msg).SetQuestion(wire.Fqdn(name), kind)
	if subnet != "" {
		q.SetEdns0(4096, false)
		p := netip.MustParsePrefix(subnet)
		family := uint16(1)
		if p.Addr().Is6() {
			family = 2
		}
		q.IsEdns0().Option = []wire.EDNS0{&wire.EDNS0_SUBNET{
			Code: wire.EDNS0SUBNET, Family: family, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice()}}
	}
	return q
}

// told are the addresses of an answer.
func told(m *wire.Msg) []string {
	var list []string
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *wire.A:
			list = append(list, rr.A.String())
		case *wire.AAAA:
			list = append(list, rr.AAAA.String())
		case *wire.HTTPS:
			for _, v := range rr.Value {
				switch v := v.(type) {
				case *wire.SVCBIPv4Hint:
					for _, ip := range v.Hint {
						list = append(list, ip.String())
					}
				case *wire.SVCBIPv6Hint:
					for _, ip := range v.Hint {
						list = append(list, ip.String())
					}
				}
			}
		}
	}
	return list
}

// scopeOf is the scope of the reply's client subnet, -1 for none.
func scopeOf(m *wire.Msg) int {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if s, ok := o.(*wire.EDNS0_SUBNET); ok {
				return int(s.SourceScope)
			}
		}
	}
	return -1
}
