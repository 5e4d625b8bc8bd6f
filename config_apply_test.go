package polder

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// world is a configuration by what tests of Apply vary.
type world struct {
	regions  string // default: fr and nl in EU, ch
	rest     string // tenants, prices
	services []string
}

func (w world) decode(t *testing.T) Result {
	t.Helper()
	if w.regions == "" {
		w.regions = "fr: { jurisdiction: [FR, EU], location: [48, 2] }, nl: { jurisdiction: [NL, EU], location: [52, 4] }, ch: { location: [47, 8] }"
	}
	text := "regions: { " + w.regions + " }\n" + w.rest + "services:\n"
	for _, s := range w.services {
		text += "  " + s + "\n"
	}
	return Decode([]File{{Name: "polder.yaml", Data: []byte(text), Dir: "/etc/polder"}})
}

// in is the model after the states were applied one after the other, with what
// the last one kept.
func in(t *testing.T, states ...world) (*Model, []ServiceName) {
	t.Helper()
	var (
		m    *Model
		kept []ServiceName
	)
	for _, w := range states {
		m, kept = w.decode(t).Apply(m)
		checkModel(t, m)
	}
	return m, kept
}

// svc is a service of a program.
func svc(name, hosts, allow, more string) string {
	return name + ": { hosts: [" + hosts + "], residency: { allow: [" + allow + "] }, run: { command: [./" + name + "] }" + more + " }"
}

// summary tells a model's services, with hosts and places, in one line.
func summary(m *Model) string {
	var parts []string
	for _, s := range m.Services {
		var hosts, places []string
		for _, h := range s.Hosts {
			hosts = append(hosts, string(h))
		}
		for _, p := range s.Residency.Allow {
			places = append(places, string(p))
		}
		for _, r := range s.Residency.Failover.Regions {
			places = append(places, "else "+string(r))
		}
		parts = append(parts, string(s.Name)+"="+strings.Join(hosts, ",")+"@"+strings.Join(places, ","))
	}
	return strings.Join(parts, " ")
}

func TestApplyCases(t *testing.T) {
	const broken = ", tiemout: 5s" // a mistake that leaves all else readable
	const euro = "prices: { currency: EUR, default: { gib-second: 1, vcpu-second: 1, request: 1 } }\n"
	const dollar = "prices: { currency: USD, default: { gib-second: 1, vcpu-second: 1, request: 1 } }\n"
	one := func(services ...string) world { return world{services: services} }
	for _, c := range []struct {
		name   string
		states []world
		want   string
		kept   string
		reason string
	}{
		{"a new version", []world{one(svc("a", "a.x", "fr", "")), one(svc("a", "a2.x", "nl", ""))},
			"a=a2.x@nl", "", "nothing is wrong"},
		{"a removed service", []world{one(svc("a", "a.x", "fr", ""), svc("b", "b.x", "fr", "")), one(svc("b", "b.x", "fr", ""))},
			"b=b.x@fr", "", "the file is the word on what exists"},
		{"a broken service", []world{one(svc("a", "a.x", "fr", ""), svc("b", "b.x", "fr", "")), one(svc("a", "a2.x", "nl", broken), svc("b", "b2.x", "fr", ""))},
			"a=a.x@fr b=b2.x@fr", "a", "one bad service stops no other"},
		{"a broken service that is new", []world{one(svc("a", "a.x", "fr", "")), one(svc("a", "a.x", "fr", ""), svc("b", "b.x", "fr", broken))},
			"a=a.x@fr", "", "there is no good version of it"},
		{"a broken service, repaired", []world{one(svc("a", "a.x", "fr", "")), one(svc("a", "a2.x", "fr", broken)), one(svc("a", "a2.x", "fr", ""))},
			"a=a2.x@fr", "", "the fault is gone"},

		{"a host claimed by a newcomer", []world{one(svc("b", "x.x", "fr", "")), one(svc("a", "x.x", "fr", ""), svc("b", "x.x", "fr", ""))},
			"b=x.x@fr", "", "b held it, although a comes first in the file"},
		{"a host claimed by one that had another", []world{one(svc("a", "a.x", "fr", ""), svc("b", "b.x", "fr", "")), one(svc("a", "\"b.x\", a.x", "nl", ""), svc("b", "b.x", "nl", ""))},
			"a=a.x@fr b=b.x@nl", "a", "a stays what it was, b goes on"},
		{"a host claimed twice from the start", []world{one(svc("b", "x.x", "fr", ""), svc("a", "x.x", "fr", ""))},
			"b=x.x@fr", "", "the first in the file has it"},
		{"hosts exchanged", []world{one(svc("a", "a.x", "fr", ""), svc("b", "b.x", "fr", "")), one(svc("a", "b.x", "fr", ""), svc("b", "a.x", "fr", ""))},
			"a=b.x@fr b=a.x@fr", "", "nobody claims a host twice"},
		{"a host handed on by a broken service", []world{one(svc("a", "\"a.x\", a2.x", "fr", "")), one(svc("a", "a2.x", "fr", broken), svc("b", "a.x", "fr", ""))},
			"a=a2.x@fr b=a.x@fr", "a", "the file gives a.x to b, and b is good"},
		{"the only host handed on by a broken service", []world{one(svc("a", "a.x", "fr", "")), one(svc("a", "c.x", "fr", broken), svc("b", "a.x", "fr", ""))},
			"b=a.x@fr", "", "nothing is left of the old a that somebody could call"},
		{"a host handed on to a broken service", []world{one(svc("a", "\"a.x\", a2.x", "fr", "")), one(svc("a", "a2.x", "fr", broken), svc("b", "a.x", "fr", broken))},
			"a=a.x,a2.x@fr", "a", "b has no version that could take it"},
		{"a host of a service whose hosts cannot be read", []world{one(svc("a", "a.x", "fr", "")), one("a: { hosts: a.x }", svc("b", "a.x", "fr", ""))},
			"a=a.x@fr", "a", "a may well claim it still"},

		{"a host of a service that cannot stay", []world{one(svc("a", "x.x", "nl", "")), {regions: "fr: { location: [1, 1] }", services: []string{svc("b", "x.x", "fr", ""), svc("a", "x.x", "nl", broken)}}},
			"b=x.x@fr", "", "no region of a is left, so it holds nothing against b"},

		{"a region gone", []world{one(svc("a", "a.x", "\"fr\", nl", "")), {regions: "fr: { location: [1, 1] }", services: []string{svc("a", "a.x", "\"fr\", nl", "")}}},
			"a=a.x@fr", "a", "what is kept does not reach into a region that is gone"},
		{"the only region gone", []world{one(svc("a", "a.x", "nl", ""), svc("b", "b.x", "fr", "")), {regions: "fr: { location: [1, 1] }", services: []string{svc("a", "a.x", "nl", ""), svc("b", "b.x", "fr", "")}}},
			"b=b.x@fr", "", "there is no place left where a may be"},
		{"a jurisdiction gone", []world{one(svc("a", "a.x", "\"ch\", EU", "")), {regions: "fr: { location: [1, 1] }, ch: { location: [1, 1] }", services: []string{svc("a", "a.x", "\"ch\", EU", "")}}},
			"a=a.x@ch", "a", "no region carries EU any more"},
		{"a region that comes to be allowed", []world{
			one("a: { hosts: [a.x], residency: { allow: [EU], failover: { listed: [ch] } }, run: { command: [./a] } }"),
			{regions: "fr: { jurisdiction: [EU], location: [1, 1] }, ch: { jurisdiction: [EU], location: [1, 1] }",
				services: []string{"a: { hosts: [a.x], residency: { allow: [EU], failover: { listed: [ch] } }, run: { command: [./a] } }"}}},
			"a=a.x@EU", "a", "ch cannot stand in where it is allowed"},
		{"endpoints in a region gone", []world{
			one(`a: { hosts: [a.x], residency: { allow: [fr, nl] }, endpoints: { nl: ["10.0.0.1:1"] } }`, svc("b", "b.x", "fr", "")),
			{regions: "fr: { location: [1, 1] }", services: []string{`a: { hosts: [a.x], residency: { allow: [fr, nl] }, endpoints: { nl: ["10.0.0.1:1"] } }`, svc("b", "b.x", "fr", "")}}},
			"b=b.x@fr", "", "no endpoint is left that a could be sent to"},

		{"a broken tenant", []world{
			{rest: "tenants: { t: { quota: { instances: 5 } } }\n", services: []string{svc("a", "a.x", "fr", ", tenant: t"), svc("b", "b.x", "fr", "")}},
			{rest: "tenants: { t: { quota: 9 } }\n", services: []string{svc("a", "a2.x", "fr", ", tenant: t"), svc("b", "b2.x", "fr", "")}}},
			"a=a.x@fr b=b2.x@fr", "a", "the quota of a's tenant is not known"},
		{"a tenant gone", []world{
			{rest: "tenants: { t: { quota: { instances: 5 } } }\n", services: []string{svc("a", "a.x", "fr", ", tenant: t")}},
			{services: []string{svc("a", "a2.x", "fr", ", tenant: t")}}},
			"a=a.x@fr", "a", "the kept a keeps its tenant, and with it its quota"},

		{"prices gone", []world{
			{rest: euro, services: []string{svc("a", "a.x", "fr", ", scale: { budget: 5 EUR/month }"), svc("b", "b.x", "fr", "")}},
			{services: []string{svc("a", "a2.x", "fr", ", scale: { budget: 5 EUR/month }"), svc("b", "b2.x", "fr", "")}}},
			"a=a.x@fr b=b2.x@fr", "a", "a goes on under the last prices"},
		{"prices in another currency, budgets forgotten", []world{
			{rest: euro, services: []string{svc("a", "a.x", "fr", ", scale: { budget: 5 EUR/month }"), svc("b", "b.x", "fr", ", scale: { budget: 5 EUR/month }")}},
			{rest: dollar, services: []string{svc("a", "a2.x", "fr", ", scale: { budget: 5 EUR/month }"), svc("b", "b2.x", "fr", ", scale: { budget: 6 USD/month }")}}},
			"a=a.x@fr b=b.x@fr", "a b", "the new prices wait until all budgets follow"},
		{"prices in another currency, a tenant's budget among those that wait", []world{
			{rest: euro + "tenants: { t: { budget: 9 EUR/month } }\n", services: []string{svc("a", "a.x", "fr", ", scale: { budget: 5 EUR/month }"), svc("b", "b.x", "fr", ", tenant: t")}},
			{rest: dollar + "tenants: { t: { budget: 9 USD/month } }\n", services: []string{svc("a", "a.x", "fr", ", scale: { budget: 5 EUR/month }"), svc("b", "b2.x", "fr", ", tenant: t")}}},
			"a=a.x@fr b=b.x@fr", "a b", "b's tenant could not be counted under the last prices"},
		{"prices in another currency", []world{
			{rest: euro, services: []string{svc("a", "a.x", "fr", ", scale: { budget: 5 EUR/month }")}},
			{rest: dollar, services: []string{svc("a", "a2.x", "fr", ", scale: { budget: 6 USD/month }")}}},
			"a=a2.x@fr", "", "all follow"},

		{"broken regions", []world{one(svc("a", "a.x", "fr", "")), {regions: "FR: { location: [1, 1] }", services: []string{svc("a", "a2.x", "fr", "")}}},
			"a=a.x@fr", "a", "nothing can be judged without the regions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, kept := in(t, c.states...)
			if got := summary(m); got != c.want {
				t.Errorf("got %s, want %s: %s", got, c.want, c.reason)
			}
			var names []string
			for _, k := range kept {
				names = append(names, string(k))
			}
			if got := strings.Join(names, " "); got != c.kept {
				t.Errorf("kept %q, want %q: %s", got, c.kept, c.reason)
			}
		})
	}
}

func TestAKeptTenantKeepsItsQuota(t *testing.T) {
	m, _ := in(t,
		world{rest: "tenants: { t: { quota: { instances: 5 } } }\n", services: []string{svc("a", "a.x", "fr", ", tenant: t")}},
		world{services: []string{svc("a", "a.x", "fr", ", tenant: t")}})
	if tenant, ok := m.Tenant("t"); !ok || tenant.Quota.Instances != 5 {
		t.Errorf("the tenant is %+v", tenant)
	}
}

func TestApplyOfAFatalResultBeforeAnyGoodOne(t *testing.T) {
	if m, kept := Decode(nil).Apply(nil); m != nil || kept != nil {
		t.Errorf("got %v, %v", m, kept)
	}
}

func TestApplyChangesNoOlderModel(t *testing.T) {
	before, _ := in(t, world{services: []string{svc("a", "\"a.x\", a2.x", "\"fr\", nl", ""), svc("b", "b.x", "fr", "")}})
	was := summary(before)
	r := world{regions: "fr: { location: [1, 1] }", services: []string{svc("a", "a2.x", "nl", ""), svc("b", "\"b.x\", a.x", "fr", "")}}.decode(t)
	if m, _ := r.Apply(before); summary(m) != "a=a2.x@fr b=b.x,a.x@fr" {
		t.Errorf("got %s", summary(m))
	}
	if summary(before) != was {
		t.Errorf("the older model became %s", summary(before))
	}
}

func TestAgainstPutsTheFaultDownToTheNewcomer(t *testing.T) {
	last, _ := in(t, world{services: []string{svc("b", "x.x", "fr", "")}})
	r := world{services: []string{svc("a", "x.x", "fr", ""), svc("b", "x.x", "fr", "")}}.decode(t)
	blamed := func(faults []Fault) string {
		var names []string
		for _, f := range faults {
			names = append(names, string(f.Service))
		}
		return strings.Join(names, " ")
	}
	if got := blamed(r.Faults); got != "b" {
		t.Errorf("without a past the fault is of %q, want b, which comes second", got)
	}
	if got := blamed(r.Against(last).Faults); got != "a" {
		t.Errorf("the fault is of %q, want a, which is new", got)
	}
}

func TestTooManyFaultsAreCounted(t *testing.T) {
	var services []string
	for i := range maxFaults + 500 {
		services = append(services, svc("s"+strconv.Itoa(i), "UPPER.x", "fr", ""))
	}
	w := world{services: services, rest: "strange: 1\n"}
	r := w.decode(t)
	last := r.Faults[len(r.Faults)-1]
	if len(r.Faults) != maxFaults+1 || last.Message != "there are 501 faults more" {
		t.Errorf("%d faults, the last is %v", len(r.Faults), last)
	}
	if !r.Fatal || !slices.ContainsFunc(r.Faults, func(f Fault) bool { return f.Path == "strange" }) {
		t.Error("the fault that stops everything is not among those told")
	}
}

// TestAgainstKeepsTheFaultsOfWhatWasNotDecoded: a configuration that could not be read
// is no better for the last one.
func TestAgainstKeepsTheFaultsOfWhatWasNotDecoded(t *testing.T) {
	last, _ := in(t, world{services: []string{svc("a", "a.x", "fr", "")}})
	unread := Result{Fatal: true, Faults: []Fault{{At: Position{File: "polder.yaml"}, Message: "it cannot be read"}}}
	for _, before := range []*Model{nil, last} {
		if got := unread.Against(before); len(got.Faults) != 1 || !got.Fatal {
			t.Errorf("against %v: %+v, want the one fault", before, got)
		}
	}
}
