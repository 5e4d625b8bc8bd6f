package proof_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/xds/proof"
)

// proveWorld is a checker that has taken a world over.
func proveWorld(t testing.TB, w world) *proof.Checker {
	t.Helper()
	c := proof.NewChecker(w.book())
	p := c.Propose(proof.Change{Set: w.snapshot(), Instances: w.observed()})
	if v := p.Violations(); len(v) > 0 {
		t.Fatalf("got\n%s", lines(v))
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	return c
}

func ways(list []proof.Way) []string {
	var texts []string
	for _, w := range list {
		texts = append(texts, fmt.Sprintf("%s: %s %s %s", strings.Join(w.Path, " > "), w.Kind, w.Address, w.Region))
	}
	return texts
}

// TestReach writes out what callers reach, for a service of each kind.
func TestReach(t *testing.T) {
	c := proveWorld(t, mutantWorld(t))
	const (
		public = "listener entrypoint-https > "
		inward = "listener peers > chain peers > filter envoy.filters.network.tcp_proxy > cluster inward > listener inward > "
		plain  = "listener entrypoint-http > chain http > routes entrypoint-http > virtual host "
	)
	catalog := func(chain string, route string) []string {
		to := chain + " > scope catalog.example.com > routes host/catalog.example.com > virtual host catalog > route " + route + " > cluster service/catalog > endpoint "
		return []string{to + "127.0.0.1:20004: instance 127.0.0.1:20004 fr", to + activator + ": activator " + activator + " fr"}
	}
	served := func(host string) []string {
		list := []string{plain + "to-https: answer a fixed answer ", public + "chain serve > filter envoy.filters.network.http_connection_manager > tracing: sink cluster polder "}
		for _, chain := range []string{public + "chain serve", inward + "chain serve"} {
			list = append(list, chain+": key secret "+host+" fr")
			list = append(list, catalog(chain, "safe")...)
			list = append(list, catalog(chain, "any")...)
		}
		return list
	}
	closed := inward + "chain serve: answer no key "
	for host, want := range map[string][]string{
		"catalog.example.com": served("catalog.example.com"),
		"dutch.example.com": {plain + "to-https: answer a fixed answer ", closed,
			public + "chain pass/nl > cluster wrap/pass/nl > listener pass/nl > chain pass/nl > cluster pass/nl > endpoint nl.example.net:7443: peer nl.example.net:7443 nl"},
		"vault.example.com": {plain + "forbidden: answer a fixed answer ", closed,
			public + "chain by-name > cluster to/vault.example.com > cluster wrap/forbidden > listener forbidden > chain forbidden: answer a fixed answer "},
		"nobody.example.com": {plain + "to-https: answer a fixed answer ", closed, public + "chain by-name: answer no cluster of its name "},
	} {
		got := ways(c.Reach(host))
		slices.Sort(got)
		slices.Sort(want)
		// Which filter leads on is of no interest to readers of this test.
		for i := range got {
			got[i] = strings.ReplaceAll(got[i], " > filter envoy.filters.network.tcp_proxy", "")
		}
		for i := range want {
			want[i] = strings.ReplaceAll(want[i], " > filter envoy.filters.network.tcp_proxy", "")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got\n  %s\nwant\n  %s", host, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
}

// TestNothingIsTakenOverWithoutCommit holds that Propose only looks.
func TestNothingIsTakenOverWithoutCommit(t *testing.T) {
	w := mutantWorld(t)
	c := proveWorld(t, w)
	before := ways(c.Reach("billing.example.com"))
	asleep := proof.Change{Instances: map[polder.ServiceName][]polder.Endpoint{"billing": nil}}
	if v := c.Propose(asleep).Violations(); len(v) == 0 {
		t.Error("endpoints of instances that are gone are lawful")
	}
	w.instances = slices.DeleteFunc(w.instances, func(e polder.Endpoint) bool { return e.Service == "billing" })
	asleep.Set = w.snapshot()
	first, second := c.Propose(asleep), c.Propose(asleep)
	if len(first.Violations()) > 0 {
		t.Fatalf("got\n%s", lines(first.Violations()))
	}
	if after := ways(c.Reach("billing.example.com")); !slices.Equal(before, after) {
		t.Error("a proposal changed what is there")
	}
	if err := first.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := second.Commit(); err == nil {
		t.Error("a proposal was taken over that was proved before another")
	}
	if after := ways(c.Reach("billing.example.com")); slices.Equal(before, after) {
		t.Error("a proposal that was taken over changed nothing")
	}
}

// TestAddressOfTwoInstances holds that an address which was seen as another
// service's instance as well is not used: one of the two is gone.
func TestAddressOfTwoInstances(t *testing.T) {
	w := mutantWorld(t)
	c := proveWorld(t, w)
	stolen := polder.Endpoint{Service: "catalog", Region: "fr", Address: netip.MustParseAddrPort("127.0.0.1:20001")}
	found := c.Propose(proof.Change{Instances: map[polder.ServiceName][]polder.Endpoint{"catalog": append(w.observed()["catalog"], stolen)}}).Violations()
	if !slices.ContainsFunc(found, mutant{service: "billing", path: []string{"listener", "cluster service/billing", "endpoint"}, address: "127.0.0.1:20001"}.named) {
		t.Errorf("got\n%s", lines(found))
	}
}

// TestNewBook holds that a change of the policy alone makes what was lawful
// unlawful, and that nothing else is touched by it.
func TestNewBook(t *testing.T) {
	w := mutantWorld(t)
	c := proveWorld(t, w)
	for _, change := range []struct {
		why  string
		make func(w *world)
		want mutant
	}{
		{"the owner takes the region back", func(w *world) { w.service("catalog").Residency.Allow = []polder.Place{"nl"} },
			mutant{service: "catalog", path: []string{"listener entrypoint-https", "routes host/catalog.example.com", "endpoint"}, address: "127.0.0.1:20004"}},
		{"the owner refuses callers elsewhere", func(w *world) { w.service("dutch").Residency.Elsewhere = polder.Refuse },
			mutant{service: "dutch", path: []string{"listener entrypoint-https", "chain pass/nl", "host dutch.example.com"}, address: "nl.example.net:7443"}},
		{"a host goes to another service", func(w *world) {
			w.service("dutch").Hosts, w.service("catalog").Hosts = []polder.Host{"catalog.example.com"}, []polder.Host{"dutch.example.com"}
		}, mutant{service: "dutch", path: []string{"listener entrypoint-https", "chain serve", "host catalog.example.com"}, address: "requests"}},
		{"a new service lies below a wildcard", func(w *world) {
			s := *w.service("dutch")
			s.Name, s.Hosts = "new", []polder.Host{"new.billing.example.com"}
			w.model.Services = append(w.model.Services, s)
		}, mutant{service: "new", path: []string{"listener entrypoint-https", "chain serve-wildcard", "host new.billing.example.com"}, address: "requests"}},
		{"a service is gone", func(w *world) {
			w.model.Services = slices.DeleteFunc(w.model.Services, func(s polder.Service) bool { return s.Name == "catalog" })
		}, mutant{path: []string{"listener entrypoint-https", "chain serve", "host catalog.example.com"}, address: "requests"}},
		{"a peer is no longer there", func(w *world) { w.peers = map[polder.RegionName][]string{"pl": w.peers["pl"]} },
			mutant{service: "dutch", path: []string{"listener entrypoint-https", "chain pass/nl", "endpoint"}, address: "nl.example.net:7443"}},
		{"a routed service moved", func(w *world) {
			w.service("legacy").Endpoints = map[polder.RegionName][]netip.AddrPort{"fr": {netip.MustParseAddrPort("10.0.0.6:8080")}}
		}, mutant{service: "legacy", path: []string{"listener entrypoint-https", "routes host/legacy.example.com", "endpoint"}, address: "10.0.0.5:8080"}},
	} {
		after := mutantWorld(t)
		change.make(&after)
		found := c.Propose(proof.Change{Book: after.book()}).Violations()
		if !slices.ContainsFunc(found, change.want.named) {
			t.Errorf("%s: want %+v, got\n%s", change.why, change.want, lines(found))
		}
		if scratch := after.check(w.snapshot()); lines(found) != lines(scratch) {
			t.Errorf("%s: got\n%sfrom scratch\n%s", change.why, lines(found), lines(scratch))
		}
	}
	if found := c.Propose(proof.Change{Book: w.book()}).Violations(); len(found) > 0 {
		t.Errorf("the same book again: got\n%s", lines(found))
	}
}

func (w *world) service(name polder.ServiceName) *polder.Service {
	for i := range w.model.Services {
		if w.model.Services[i].Name == name {
			return &w.model.Services[i]
		}
	}
	panic("no service " + name)
}
