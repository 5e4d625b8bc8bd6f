package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	wire "github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

// drawWorld draws regions, some of them lost, and one service.
func drawWorld(t *rapid.T) (World, polder.Service) {
	names := []polder.RegionName{"a", "b", "c", "d", "e"}[:rapid.IntRange(1, 5).Draw(t, "regions")]
	w := World{Here: names[0], Model: &polder.Model{}, Alive: polder.RegionHealth{}, Usable: polder.RegionHealth{}, Unsteady: map[polder.RegionName]bool{}}
	for i, n := range names {
		r := polder.Region{Name: n, Location: polder.Location{Latitude: rapid.Float64Range(-90, 90).Draw(t, "latitude"), Longitude: rapid.Float64Range(-180, 180).Draw(t, "longitude")},
			Listen: polder.Listen{DNS: ":53"}, Jurisdictions: []polder.Jurisdiction{polder.Jurisdiction(rapid.SampledFrom([]string{"XX", "YY"}).Draw(t, "jurisdiction"))}}
		for j := range rapid.IntRange(0, 2).Draw(t, "addresses") {
			r.Public = append(r.Public, netip.AddrFrom4([4]byte{192, 0, byte(i), byte(j)}))
		}
		w.Model.Regions = append(w.Model.Regions, r)
		w.Alive[n] = rapid.Bool().Draw(t, "alive")
		w.Usable[n] = w.Alive[n] && rapid.Bool().Draw(t, "usable")
		w.Unsteady[n] = rapid.Bool().Draw(t, "unsteady")
	}
	places := []polder.Place{"XX", "YY"}
	for _, n := range names {
		places = append(places, polder.Place(n))
	}
	s := polder.Service{Name: "s", Hosts: []polder.Host{"s.example.com"}, Residency: polder.Residency{
		Allow:     rapid.SliceOfN(rapid.SampledFrom(places), 1, 3).Draw(t, "allow"),
		Elsewhere: rapid.SampledFrom([]polder.Elsewhere{polder.PassThrough, polder.Refuse}).Draw(t, "elsewhere"),
		Failover:  polder.Failover{Class: polder.FailoverClosed},
	}}
	if listed := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 2, rapid.ID).Draw(t, "listed"); len(listed) > 0 {
		s.Residency.Failover = polder.Failover{Class: polder.FailoverListed, Regions: listed}
	}
	if rapid.Bool().Draw(t, "run") {
		s.Run = &polder.Run{Command: []string{"x"}}
	} else {
		s.Endpoints = map[polder.RegionName][]netip.AddrPort{}
		for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 5, rapid.ID).Draw(t, "endpoints") {
			s.Endpoints[n] = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80")}
		}
	}
	w.Model.Services = []polder.Service{s}
	return w, s
}

// named is the owner's word, read without the law's own code.
func named(s polder.Service, r polder.Region) (allowed, standby bool) {
	for _, p := range s.Residency.Allow {
		allowed = allowed || string(p) == string(r.Name) || slices.Contains(r.Jurisdictions, polder.Jurisdiction(p))
	}
	return allowed, !allowed && s.Residency.Failover.Class == polder.FailoverListed && slices.Contains(s.Residency.Failover.Regions, r.Name)
}

func TestAnswersKeepTheLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, s := drawWorld(t)
		caller := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "caller")))
		kind := rapid.SampledFrom([]uint16{wire.TypeA, wire.TypeHTTPS}).Draw(t, "type")
		d := newDirectory(w)
		m, h := d.answer(query("s.example.com", kind, ""), caller, false)
		var at *polder.Region
		for _, text := range told(m) {
			for i, r := range w.Model.Regions {
				if slices.Contains(r.Public, netip.MustParseAddr(text)) {
					if at != nil && at.Name != r.Name {
						t.Fatalf("one answer has addresses of %s and of %s", at.Name, r.Name)
					}
					at = &w.Model.Regions[i]
				}
			}
		}
		alive := func(r polder.Region) bool { return w.Alive[r.Name] }
		capable := func(r polder.Region) bool { return s.Run != nil || len(s.Endpoints[r.Name]) > 0 }
		living := false // an allowed region that can serve is alive
		for _, r := range w.Model.Regions {
			allowed, _ := named(s, r)
			living = living || allowed && capable(r) && alive(r)
		}
		if at == nil {
			if m.Rcode != wire.RcodeSuccess {
				t.Fatalf("%v", m)
			}
			for _, r := range w.Model.Regions {
				if allowed, _ := named(s, r); len(r.Public) > 0 && allowed && capable(r) {
					t.Fatalf("nobody is told, and %s may always serve", r.Name)
				}
			}
			return
		}
		if h.service != s.Name || h.region != at.Name {
			t.Fatalf("it takes the answer for one of %s, and it is of %s", h.region, at.Name)
		}
		allowed, standby := named(s, *at)
		if s.Residency.Elsewhere == polder.Refuse && !allowed && (!standby || living) {
			t.Fatalf("the address of %s is told, which the owner refuses", at.Name)
		}
		for _, r := range w.Model.Regions {
			may, _ := named(s, r)
			if may && capable(r) && w.Usable[r.Name] && len(r.Public) > 0 && !w.Usable[at.Name] {
				t.Fatalf("callers are sent to %s, which cannot take them, while %s serves", at.Name, r.Name)
			}
			closer := regions.Distance(d.here, r.Location) < regions.Distance(d.here, at.Location)
			if may && capable(r) && w.Usable[r.Name] && len(r.Public) > 0 && allowed && capable(*at) && !w.Unsteady[r.Name] && closer &&
				regions.Distance(d.here, at.Location)-regions.Distance(d.here, r.Location) > 60 {
				t.Fatalf("callers are sent to %s while %s is nearer", at.Name, r.Name)
			}
		}
	})
}

// The trie is held against looking at every prefix; and whoever shares the bits
// of the scope is at the same place.
func TestAtlas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
			b := [4]byte{rapid.SampledFrom([]byte{0, 10, 192}).Draw(t, "1"), rapid.Byte().Draw(t, "2"), rapid.SampledFrom([]byte{0, 1, 128}).Draw(t, "3"), rapid.Byte().Draw(t, "4")}
			return netip.PrefixFrom(netip.AddrFrom4(b), rapid.IntRange(0, 32).Draw(t, "bits")).Masked()
		})
		var places []polder.CallersPlace
		for i, p := range rapid.SliceOfNDistinct(prefix, 0, 12, rapid.ID).Draw(t, "places") {
			places = append(places, polder.CallersPlace{Prefix: p, Location: polder.Location{Latitude: float64(i)}})
		}
		a := newAtlas(places)
		naive := func(addr netip.Addr) (at polder.Location, known bool) {
			best := -1
			for _, p := range places {
				if p.Prefix.Contains(addr) && p.Prefix.Bits() > best {
					best, at, known = p.Prefix.Bits(), p.Location, true
				}
			}
			return at, known
		}
		asked := prefix.Draw(t, "asked")
		at, known, scope := a.find(asked.Addr(), asked.Bits())
		if scope > asked.Bits() {
			t.Fatalf("%v has the scope %d", asked, scope)
		}
		whole, wholeKnown, wholeScope := a.find(asked.Addr(), 32)
		if want, ok := naive(asked.Addr()); want != whole || ok != wholeKnown {
			t.Fatalf("%v is at %v, want %v", asked.Addr(), whole, want)
		}
		other := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "other")))
		if near := netip.PrefixFrom(asked.Addr(), wholeScope); near.Contains(other) {
			if want, ok := naive(other); want != whole || ok != wholeKnown {
				t.Fatalf("%v is in the scope %v and at %v, not %v", other, near.Masked(), want, whole)
			}
		}
		if scope < asked.Bits() && (at != whole || known != wholeKnown) {
			t.Fatalf("%v decided by %d bits is at %v, %v", asked, scope, at, whole)
		}
	})
}

// Resolvers send names in a mixture of cases, and want to see it again (0x20).
func TestNamesDoNotDependOnCase(t *testing.T) {
	d := newDirectory(seen(t, countries, "fr", "nl", "pl"))
	for i, name := range []string{"open.example.com", "OPEN.example.COM", "oPeN.eXaMpLe.cOm"} {
		m, _ := d.answer(query(name, wire.TypeA, ""), resolver, false)
		if fmt.Sprint(told(m)) != "[192.0.2.2]" || m.Answer[0].Header().Name != name+"." {
			t.Errorf("%d: %v", i, m)
		}
	}
}
