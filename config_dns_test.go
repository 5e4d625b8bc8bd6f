package polder

import (
	"net/netip"
	"reflect"
	"testing"
	"time"
)

func TestNamingIsRead(t *testing.T) {
	const text = `regions:
  fr: { location: [48.86, 2.35], listen: { dns: ":53" }, public: [192.0.2.10, "2001:db8::10", "::ffff:192.0.2.11"] }
  nl: { location: [52.37, 4.90] }
dns:
  zones: [shop.example.com, example.com]
  nameservers: [ns2.example.net, ns1.example.net]
  ttl: 1m
  places:
    - { prefixes: [198.51.100.0/24, "2001:db8:1::/48"], region: nl }
    - { prefixes: [198.51.100.128/25], location: [45.76, 4.84] }
services: {}
`
	r := Decode([]File{{Name: "polder.yaml", Data: []byte(text)}})
	if len(r.Faults) > 0 {
		t.Fatal(r.Faults)
	}
	fr, _ := r.Model.Region("fr")
	at := netip.MustParseAddr
	if want := []netip.Addr{at("192.0.2.10"), at("2001:db8::10"), at("192.0.2.11")}; !reflect.DeepEqual(fr.Public, want) || fr.Listen.DNS != ":53" {
		t.Errorf("fr is public at %v and answers on %q, want %v and :53", fr.Public, fr.Listen.DNS, want)
	}
	amsterdam := Location{52.37, 4.90}
	want := Naming{
		Zones: []Host{"example.com", "shop.example.com"}, Nameservers: []Host{"ns2.example.net", "ns1.example.net"}, TTL: time.Minute,
		Places: []CallersPlace{
			{netip.MustParsePrefix("198.51.100.0/24"), amsterdam}, {netip.MustParsePrefix("2001:db8:1::/48"), amsterdam},
			{netip.MustParsePrefix("198.51.100.128/25"), Location{45.76, 4.84}},
		},
	}
	if !reflect.DeepEqual(r.Model.Naming, want) {
		t.Errorf("got %+v\nwant %+v", r.Model.Naming, want)
	}
	if again, _ := r.Apply(r.Model); !reflect.DeepEqual(again.Naming, want) {
		t.Error("applying the configuration loses what DNS answers")
	}
}
