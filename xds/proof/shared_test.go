package proof_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// sharedWorld has services that are routed to one address, as those behind one ingress are.
func sharedWorld(n int) world {
	w := world{here: "fr", alive: polder.RegionHealth{"fr": true, "nl": true},
		peers: map[polder.RegionName][]string{"nl": {"nl.example.net:7443"}},
		model: &polder.Model{Regions: []polder.Region{{Name: "fr"}, {Name: "nl"}}}}
	for i := range n {
		w.model.Services = append(w.model.Services, polder.Service{Name: polder.ServiceName(fmt.Sprintf("s%05d", i)), Timeout: time.Minute,
			Hosts:     []polder.Host{polder.Host(fmt.Sprintf("s%05d.example.com", i))},
			Residency: polder.Residency{Allow: []polder.Place{"fr"}, Elsewhere: polder.PassThrough, Failover: polder.Failover{Class: polder.FailoverClosed}},
			Endpoints: map[polder.RegionName][]netip.AddrPort{"fr": {netip.MustParseAddrPort("10.0.0.1:443")}}})
	}
	return w
}

// TestServicesAtOneAddressAreJudgedByThemselves: that one more service has an address
// which many have, or one less, is no reason to judge what the others send there.
func TestServicesAtOneAddressAreJudgedByThemselves(t *testing.T) {
	judged := func(n int) []int {
		here := sharedWorld(n)
		away := sharedWorld(n)
		away.model.Services[n/2].Endpoints = map[polder.RegionName][]netip.AddrPort{"fr": {netip.MustParseAddrPort("10.0.0.2:443")}}
		book := here.book()
		c := proof.NewChecker(book)
		var counts []int
		before := []proof.Resource{}
		for i, w := range []world{here, away, here} {
			if i > 0 {
				was := []world{here, away}[i-1]
				book = book.With(was.model.Services[n/2:n/2+1], w.model.Services[n/2:n/2+1], nil)
			}
			after := w.snapshot()
			p := c.Propose(proof.Change{Set: onlyNew(before, after), Book: book})
			if err := p.Commit(); err != nil {
				t.Fatal(err, p.Violations())
			}
			if i > 0 {
				counts = append(counts, p.Judged())
			}
			before = after
		}
		return counts
	}
	few, many := judged(10), judged(300)
	if few[0] == 0 || few[1] == 0 {
		t.Errorf("what changes is not judged: %v", few)
	}
	// By chance some others rest on the one that changes.
	if most := 3 * max(few[0], few[1]); max(many[0], many[1]) > most {
		t.Errorf("among 300 services %v resources are judged, among 10 %v", many, few)
	}
}

// TestSharedAddressIsProvedAsFromScratch changes who has an address that several services
// share, and of what each publishes takes the old or the new: a checker that proved
// what was before says exactly what one says that knew nothing.
func TestSharedAddressIsProvedAsFromScratch(t *testing.T) {
	accepted, rejected := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		before := sharedWorld(5)
		resources := before.snapshot()
		c := proof.NewChecker(before.book())
		if err := c.Propose(proof.Change{Set: resources}).Commit(); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			after := sharedWorld(5)
			for i := range after.model.Services {
				s := &after.model.Services[i]
				switch rapid.SampledFrom([]string{"as it was first", "elsewhere", "not here", "nowhere"}).Draw(t, "service") {
				case "elsewhere":
					s.Endpoints = map[polder.RegionName][]netip.AddrPort{"fr": {netip.MustParseAddrPort("10.0.0.2:443")}}
				case "not here":
					s.Residency.Allow = []polder.Place{"nl"}
					s.Endpoints["nl"] = s.Endpoints["fr"]
					delete(s.Endpoints, "fr")
				case "nowhere":
					s.Endpoints = nil
				}
			}
			next := map[proof.Key]proof.Resource{}
			for _, r := range after.snapshot() {
				next[r.Key] = r
			}
			for _, r := range resources {
				if rapid.IntRange(0, 15).Draw(t, "stays") == 0 {
					next[r.Key] = r
				}
			}
			list := slices.Collect(maps.Values(next))
			set, remove := difference(resources, list)
			p := c.Propose(proof.Change{Set: set, Remove: remove, Book: after.book()})
			if got, want := lines(p.Violations()), lines(after.check(list)); got != want {
				t.Fatalf("as a change:\n%s\nfrom scratch:\n%s", got, want)
			}
			if len(p.Violations()) > 0 {
				rejected++
				continue
			}
			if err := p.Commit(); err != nil {
				t.Fatal(err)
			}
			resources = list
			accepted++
		}
	})
	t.Logf("%d changes accepted, %d rejected", accepted, rejected)
	if accepted == 0 || rejected == 0 {
		t.Error("all changes are alike")
	}
}

// TestSharedAddressOfNobodyWhoIsServedHere: endpoints stay behind whose address only
// services have that may not be opened here.
func TestSharedAddressOfNobodyWhoIsServedHere(t *testing.T) {
	w := sharedWorld(3)
	var left []proof.Resource
	for _, r := range w.snapshot() {
		if r.Type == xds.TypeEndpoint {
			left = append(left, r)
		}
	}
	if v := w.check(left); len(v) > 0 || len(left) != 3 {
		t.Fatalf("%d endpoints are not proved while they are served: %v", len(left), v)
	}
	for i := range w.model.Services {
		s := &w.model.Services[i]
		s.Residency.Allow, s.Endpoints["nl"] = []polder.Place{"nl"}, s.Endpoints["fr"]
	}
	if v := w.check(left); len(v) != len(left) {
		t.Errorf("%d of %d endpoints are refused: %v", len(v), len(left), v)
	}
}
