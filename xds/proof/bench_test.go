package proof_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// bigWorld has n services: most are served here, every tenth has a wildcard,
// every fourth lives in another region.
func bigWorld(n int) world {
	w := world{here: "fr", alive: polder.RegionHealth{"fr": true, "nl": true},
		peers: map[polder.RegionName][]string{"nl": {"nl.example.net:7443"}},
		model: &polder.Model{Regions: []polder.Region{{Name: "fr"}, {Name: "nl"}}}}
	for i := range n {
		s := polder.Service{Name: polder.ServiceName(fmt.Sprintf("s%05d", i)), Run: &polder.Run{Command: []string{"x"}}, Timeout: time.Minute,
			Hosts:     []polder.Host{polder.Host(fmt.Sprintf("s%05d.example.com", i))},
			Residency: polder.Residency{Allow: []polder.Place{"fr"}, Elsewhere: polder.PassThrough, Failover: polder.Failover{Class: polder.FailoverClosed}}}
		if i%10 == 0 {
			s.Hosts = append(s.Hosts, "*."+s.Hosts[0])
		}
		if i%4 == 3 {
			s.Residency.Allow = []polder.Place{"nl"}
		}
		w.model.Services = append(w.model.Services, s)
		w.instances = append(w.instances, polder.Endpoint{Service: s.Name, Region: polder.RegionName(s.Residency.Allow[0]), Address: instanceOf(i, 0)})
	}
	return w
}

func instanceOf(service, n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n), byte(service >> 8), byte(service)}), 8080)
}

// proved is a checker that holds everything of a world.
func proved(b *testing.B, w world, resources []proof.Resource) *proof.Checker {
	b.Helper()
	c := proof.NewChecker(w.book())
	p := c.Propose(proof.Change{Set: resources, Instances: w.observed()})
	if v := p.Violations(); len(v) > 0 {
		b.Fatal(v[0])
	}
	if err := p.Commit(); err != nil {
		b.Fatal(err)
	}
	return c
}

var sizes = []int{10, 1000, 10_000}

// BenchmarkEndpoints proves and takes over that one instance comes or goes: the
// fast path.
func BenchmarkEndpoints(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			w := bigWorld(n)
			c := proved(b, w, w.snapshot())
			s := w.model.Services[n/2]
			var changes []proof.Change
			for count := 1; count <= 2; count++ {
				var endpoints []polder.Endpoint
				for i := range count {
					endpoints = append(endpoints, polder.Endpoint{Service: s.Name, Region: "fr", Address: instanceOf(n/2, i)})
				}
				a := law.Judge(s, law.Circumstances{Here: "fr", Regions: w.model.Regions, Alive: w.alive, Endpoints: endpoints})
				changes = append(changes, proof.Change{Set: plain([]xds.Resource{xds.Endpoints(a, w.gateway())}),
					Instances: map[polder.ServiceName][]polder.Endpoint{s.Name: endpoints}})
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p := c.Propose(changes[(i+1)%2])
				if err := p.Commit(); err != nil {
					b.Fatal(err, p.Violations())
				}
			}
		})
	}
}

// BenchmarkService proves and takes over that a service appears or goes, with
// the listeners that name its host, and with a new book.
func BenchmarkService(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			with := bigWorld(n)
			without := with
			without.model = &polder.Model{Regions: with.model.Regions, Services: with.model.Services[:n-2]}
			all := with.snapshot()
			c := proved(b, with, all)
			set, remove := difference(all, without.snapshot())
			gone := proof.Change{Set: onlyNew(all, set), Remove: remove, Book: without.book()}
			back := proof.Change{Set: onlyNew(set, all), Book: with.book()}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p := c.Propose([]proof.Change{gone, back}[i%2])
				if err := p.Commit(); err != nil {
					b.Fatal(err, p.Violations())
				}
			}
		})
	}
}

// onlyNew leaves out what is the same before.
func onlyNew(before, after []proof.Resource) []proof.Resource {
	bytes := map[proof.Key]string{}
	for _, r := range before {
		bytes[r.Key] = string(r.Body.Value)
	}
	return slices.DeleteFunc(slices.Clone(after), func(r proof.Resource) bool {
		old, ok := bytes[r.Key]
		return ok && old == string(r.Body.Value)
	})
}

// BenchmarkEverything proves a node from nothing, as at a start.
func BenchmarkEverything(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			w := bigWorld(n)
			resources := w.snapshot()
			b.ReportAllocs()
			for b.Loop() {
				if v := w.check(resources); len(v) > 0 {
					b.Fatal(v[0])
				}
			}
		})
	}
}

// BenchmarkBook writes the address book.
func BenchmarkBook(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			w := bigWorld(n)
			for b.Loop() {
				w.book()
			}
		})
	}
}
