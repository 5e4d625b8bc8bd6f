package dns

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

// BenchmarkAnswer answers one query from packet to packet, with five thousand
// hosts and as many prefixes.
func BenchmarkAnswer(b *testing.B) {
	var services, places strings.Builder
	for i := range 5_000 {
		fmt.Fprintf(&services, "  s%d: { hosts: [s%d.example.com], residency: { allow: [EU] }, run: { command: [./a] } }\n", i, i)
		fmt.Fprintf(&places, "    - { prefixes: [10.%d.%d.0/24], region: pl }\n", i/256, i%256)
	}
	text := strings.Replace(countries, "  places:\n", "  places:\n"+places.String(), 1) + services.String()
	w := seen(b, text, "fr", "nl", "pl")
	for _, c := range []struct {
		name   string
		kind   uint16
		subnet string
	}{{"A", wire.TypeA, ""}, {"HTTPS-with-subnet", wire.TypeHTTPS, "10.9.9.0/24"}, {"NXDOMAIN", wire.TypeA, ""}} {
		b.Run(c.name, func(b *testing.B) {
			name := "s777.example.com"
			if c.name == "NXDOMAIN" {
				name = "none.example.com"
			}
			data, err := query(name, c.kind, c.subnet).Pack()
			if err != nil {
				b.Fatal(err)
			}
			s := New(Options{Region: "nl", Log: slog.New(slog.DiscardHandler)})
			s.Update(w)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				from := netip.AddrFrom4([4]byte{100, byte(i >> 8), byte(i), 1}) // no network sends too many
				if s.packet(data, from, time.Duration(i)*10*time.Millisecond) == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}

// BenchmarkUpdate takes in that a region was lost, with as many hosts.
func BenchmarkUpdate(b *testing.B) {
	var services strings.Builder
	for i := range 5_000 {
		fmt.Fprintf(&services, "  s%d: { hosts: [s%d.example.com], residency: { allow: [EU] }, run: { command: [./a] } }\n", i, i)
	}
	w := seen(b, countries+services.String(), "fr", "nl", "pl")
	for b.Loop() {
		newDirectory(w)
	}
}
