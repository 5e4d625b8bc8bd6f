package gateway

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/source"
	"github.com/polder/polder/prewarm"
	"github.com/polder/polder/xds"
)

// still makes a reconciler in region fr that publishes to no Envoy and starts nothing.
func still(t interface{ Helper() }) *reconciler {
	t.Helper()
	q := &quiet{}
	r := newReconciler(slog.New(slog.DiscardHandler), xds.Gateway{Region: "fr", Activator: "/activator.sock"},
		xds.NodeConfig{Region: "fr", TrustDomain: "polder", HTTPS: netip.MustParseAddrPort("127.0.0.1:8443"),
			HTTP: netip.MustParseAddrPort("127.0.0.1:8080"), Peer: netip.MustParseAddrPort("127.0.0.1:7443")}, q, q, func([]polder.ServiceName) {})
	r.instances, r.asleep = q, func(polder.ServiceName) {}
	return r
}

// adopt brings a model into force as SetWorld does.
func (r *reconciler) adopt(m *polder.Model, now time.Time) {
	before := r.model
	r.model = m
	r.adoptModel(before, false, now)
}

// TestChangesLeaveWhatAFreshStartWould brings models into force one after the other,
// of which only the differences are looked at, and each of them into a reconciler that
// knew nothing before: both serve the same, keep the same accounts, and have published
// the same resources.
func TestChangesLeaveWhatAFreshStartWould(t *testing.T) {
	euros := func(n int64) *polder.Money { return &polder.Money{Micros: n * 1_000_000, Currency: "EUR"} }
	now := time.Now()
	some := 0
	rapid.Check(t, func(rt *rapid.T) {
		kept := still(rt)
		kept.ctx = t.Context()
		for step := range rapid.IntRange(2, 8).Draw(rt, "steps") {
			m := &polder.Model{Regions: testRegions, Prices: &polder.Prices{Currency: "EUR", Regions: map[polder.RegionName]polder.Price{"fr": {GiBSecond: 1000}}},
				Tenants: []polder.Tenant{{Name: "acme", Budget: euros(rapid.Int64Range(1, 2).Draw(rt, "tenant's budget"))}, {Name: "zeta", Budget: euros(3)}}}
			free := []polder.Host{"x.example", "y.example", "*.y.example"}
			for i := range 6 {
				if rapid.IntRange(0, 3).Draw(rt, "there") == 0 {
					continue
				}
				s := started(fmt.Sprintf("s%d", i), time.Minute)
				s.At.Line = rapid.IntRange(1, 99).Draw(rt, "line")
				s.Tenant = rapid.SampledFrom([]polder.TenantName{"", "acme", "zeta"}).Draw(rt, "tenant")
				s.Scale.Budget = rapid.SampledFrom([]*polder.Money{nil, euros(1), euros(2)}).Draw(rt, "budget")
				s.Residency.Allow = rapid.SampledFrom([][]polder.Place{{"fr"}, {"nl"}, {"fr", "nl"}}).Draw(rt, "allow")
				s.Residency.Elsewhere = rapid.SampledFrom([]polder.Elsewhere{polder.PassThrough, polder.Refuse}).Draw(rt, "elsewhere")
				if rapid.IntRange(0, 3).Draw(rt, "routed") == 0 {
					s.Run, s.Scale, s.Tenant, s.Residency.Allow = nil, polder.Scale{}, "", []polder.Place{"fr"}
					s.Endpoints = map[polder.RegionName][]netip.AddrPort{"fr": {netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(1000+i))}}
				}
				if len(free) > 0 && rapid.IntRange(0, 2).Draw(rt, "one host more") == 0 {
					s.Hosts, free = append(s.Hosts, free[0]), free[1:]
				}
				m.Services = append(m.Services, s)
			}
			if step > 0 && rapid.IntRange(0, 3).Draw(rt, "the rest stays") > 0 {
				m.Tenants = kept.model.Tenants
			}
			if before := kept.model; kept.published != nil && !polder.Compare(before, m).Rest {
				some++
			}
			kept.adopt(m, now)
			fresh := still(rt)
			fresh.ctx = t.Context()
			fresh.adopt(m, now)
			alike(rt, "services", names(kept.services), names(fresh.services))
			alike(rt, "what is served", verdicts(kept.served), verdicts(fresh.served))
			alike(rt, "accounts", kept.accountsOf(now), fresh.accountsOf(now))
			alike(rt, "shares", kept.spending.shares, fresh.spending.shares)
			kept.publishHosts(change{}, true, difference{}, now) // takes all hosts into the table, as a minute would
			kept.tidyTable(now.Add(tableAge))                    // and what lingers goes
			alike(rt, "resources", kept.gate.published, fresh.gate.published)
			alike(rt, "refusals", kept.gate.Refused(), fresh.gate.Refused())
		}
	})
	if some == 0 {
		t.Error("every model was looked at as a whole: this shows nothing")
	}
}

func alike(t *rapid.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("after a change, %s:\n%+v\nfrom the start:\n%+v", what, got, want)
	}
}

func names(services map[polder.ServiceName]*service) []polder.ServiceName {
	return slices.Sorted(maps.Keys(services))
}

func verdicts(s *servedHere) map[polder.ServiceName]string {
	all := map[polder.ServiceName]string{}
	for name, a := range s.by {
		all[name] = fmt.Sprint(a.Verdict(), a.Reason(), a.Service().Hosts, a.Targets(), a.MayKeep(polder.RecordTraces))
	}
	return all
}

// TestTableWaitsForAHostThatIsRefused: a host that was served here and is refused now leaves
// the table of hosts as it is, for a minute. Callers are led past it at once, and Envoy has no
// key for them.
func TestTableWaitsForAHostThatIsRefused(t *testing.T) {
	r, now := still(t), time.Now()
	r.ctx = t.Context()
	model := func(allow polder.Place) *polder.Model {
		m := &polder.Model{Regions: testRegions, Services: []polder.Service{started("billing", time.Minute), started("shop", time.Minute)}}
		m.Services[0].Residency.Allow, m.Services[0].Residency.Elsewhere = []polder.Place{allow}, polder.Refuse
		return m
	}
	table := func() string { return r.gate.published[xds.Key{Type: xds.TypeListener, Name: "entrypoint-https"}] }
	byName := xds.Key{Type: xds.TypeCluster, Name: "to/billing.example.com"}
	r.adopt(model("fr"), now)
	before := table()
	r.adopt(model("nl"), now)
	r.tidyTable(now.Add(tableAge - time.Second))
	if table() != before || len(r.gate.Refused()) > 0 {
		t.Errorf("the table was sent for a host that is refused, or the proof refuses to wait: %v", r.gate.Refused())
	}
	if r.gate.mayHave("billing.example.com") {
		t.Error("Envoy may have the key of a host that is refused")
	}
	if r.gate.published[byName] == "" {
		t.Error("callers are not led to the refusal")
	}
	r.tidyTable(now.Add(tableAge))
	if table() == before {
		t.Errorf("the table does not say after %v that the host is refused", tableAge)
	}
	before = table()
	r.adopt(model("fr"), now.Add(2*time.Minute))
	if table() != before || len(r.gate.Refused()) > 0 {
		t.Errorf("the table was sent for a host that is permitted again: %v", r.gate.Refused())
	}
	r.tidyTable(now.Add(2*time.Minute + tableAge))
	if r.gate.published[byName] != "" {
		t.Error("callers are led past the table that says the same")
	}
}

// TestAccountOfAServiceThatWentStaysUntilItHoldsNothing: what a service that went has
// reserved is not free before its instance has ended, and then the account goes with
// the next change.
func TestAccountOfAServiceThatWentStaysUntilItHoldsNothing(t *testing.T) {
	r, now := still(t), time.Now()
	r.ctx = t.Context()
	model := func(names ...string) *polder.Model {
		m := &polder.Model{Regions: testRegions, Prices: &polder.Prices{Currency: "EUR"}, Tenants: []polder.Tenant{{Name: "acme", Quota: polder.Quota{Instances: 1}}}}
		for _, name := range names {
			s := started(name, time.Minute)
			s.Tenant = "acme"
			m.Services = append(m.Services, s)
		}
		return m
	}
	r.adopt(model("billing", "shop"), now)
	book := r.spending.book
	if err := book.Reserve(now, "billing", "one"); err != nil {
		t.Fatal(err)
	}
	r.adopt(model("shop"), now)
	if _, there := book.Service(now, "billing"); !there {
		t.Fatal("the account went while an instance runs")
	}
	if err := book.Reserve(now, "shop", "two"); err == nil {
		t.Error("the tenant's quota is free though the instance of the service that went still runs")
	}
	book.Release(now, "one")
	r.adopt(model("shop", "third"), now)
	if _, there := book.Service(now, "billing"); there || len(r.spending.shares.left) > 0 {
		t.Errorf("the account stays though it holds nothing; left: %v", r.spending.shares.left)
	}
	if err := book.Reserve(now, "shop", "two"); err != nil {
		t.Error(err)
	}
}

// TestAccountThatKeptItsLimitsIsTriedAgain: a service cannot change its tenant while
// its instances run; the next model finds it again, though it does not change it.
func TestAccountThatKeptItsLimitsIsTriedAgain(t *testing.T) {
	r, now := still(t), time.Now()
	r.ctx = t.Context()
	model := func(tenant polder.TenantName, more ...string) *polder.Model {
		s := started("billing", time.Minute)
		s.Tenant = tenant
		m := &polder.Model{Regions: testRegions, Tenants: []polder.Tenant{{Name: "acme", Quota: polder.Quota{Instances: 1}}, {Name: "zeta", Quota: polder.Quota{Instances: 1}}}, Services: []polder.Service{s}}
		for _, name := range more {
			m.Services = append(m.Services, started(name, time.Minute))
		}
		return m
	}
	r.adopt(model("acme"), now)
	book := r.spending.book
	if err := book.Reserve(now, "billing", "one"); err != nil {
		t.Fatal(err)
	}
	r.adopt(model("zeta"), now)
	book.Release(now, "one")
	r.adopt(model("zeta", "shop"), now)
	if err := book.Reserve(now, "billing", "two"); err != nil {
		t.Fatal(err)
	}
	if tenant, ok := book.Tenant(now, "zeta"); !ok || tenant.Running != 1 {
		t.Errorf("the instance is not the new tenant's: %+v", tenant)
	}
	if prices := book.Prices(); prices != (prewarm.Prices{}) {
		t.Errorf("prices %v", prices)
	}
}

// TestConfigTellsWhatChanged: between the model that was asked for last and the one in
// force, config names every service that differs, however many files came between.
func TestConfigTellsWhatChanged(t *testing.T) {
	c := &config{log: slog.New(slog.DiscardHandler), file: filepath.Join(t.TempDir(), lastGoodFile)}
	file := func(services ...string) source.Reading {
		text := "regions:\n  fr: { title: Paris, jurisdiction: [FR, EU], location: [48.86, 2.35] }\nservices:\n"
		for _, s := range services {
			text += "  " + s[:1] + ": { hosts: [" + s + ".example.com], residency: { allow: [fr] }, run: { command: [./s] } }\n"
		}
		files := []polder.File{{Name: "polder.yaml", Data: []byte(text)}}
		return source.Reading{Result: polder.Decode(files), Files: files}
	}
	took := func(services ...string) *polder.Model {
		m := c.take(file(services...))
		if len(c.status.Faults) > 0 {
			t.Fatal(c.status.Faults)
		}
		if got := c.policies(); got != policyDigest(m) {
			t.Errorf("the policies in force are %s, want those of the model, %s", got, policyDigest(m))
		}
		return m
	}
	first := took("a", "b")
	if d := c.compare(&polder.Model{}, first); len(d.Services) != 2 || !d.Rest {
		t.Errorf("from nothing: %+v", d)
	}
	took("a", "b", "c")
	took("a", "bb", "c")
	third := took("bb", "c")
	if d := c.compare(first, third); !slices.Equal(d.Services, []polder.ServiceName{"a", "b", "c"}) || d.Rest {
		t.Errorf("three files later: %+v", d)
	}
	fourth := took("bb", "c", "d")
	if d := c.compare(first, fourth); !slices.Equal(d.Services, []polder.ServiceName{"a", "b", "c", "d"}) {
		t.Errorf("from a model that was not the last one asked for: %+v", d)
	}
	fifth := took("bb", "c")
	took("bb")
	if d := c.compare(fourth, fifth); !slices.Equal(d.Services, []polder.ServiceName{"d"}) {
		t.Errorf("to a model that is not in force any more: %+v", d)
	}
	if d := c.compare(fifth, c.snapshot()); !slices.Equal(d.Services, []polder.ServiceName{"c"}) {
		t.Errorf("and from there: %+v", d)
	}
	if d := c.compare(c.snapshot(), took("bb", "c")); !slices.Equal(d.Services, []polder.ServiceName{"c"}) {
		t.Errorf("and on: %+v", d)
	}
}
