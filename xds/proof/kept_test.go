package proof_test

import (
	"slices"
	"testing"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

const keptConfig = `
regions:
  fr: { jurisdiction: [FR, EU], location: [48.86, 2.35] }
  nl: { jurisdiction: [NL, EU], location: [52.37, 4.90] }
  pl: { jurisdiction: [PL, EU], location: [52.23, 21.01] }
services:
  abroad:
    hosts: [abroad.example.com]
    residency: { allow: [nl, pl] }
    run: { command: [./abroad] }
  besides:
    hosts: [besides.example.com]
    residency: { allow: [nl, pl] }
    run: { command: [./besides] }
`

const keptCircumstances = `
gateway: fr
alive: [fr, nl, pl]
peers: { nl: ["192.0.2.20:7443"], pl: ["192.0.2.30:7443"] }
`

// TestWhatIsKeptStaysLawful moves homes, so that a chain stays to which no name leads
// any more. The proof accepts that while the owners of all hosts that went through it
// permit it, and not when one of them forbids it: also in a snapshot that is lawful for
// whoever calls now.
func TestWhatIsKeptStaysLawful(t *testing.T) {
	residency := func(change func(*polder.Residency)) func(*polder.Model) {
		return func(m *polder.Model) { change(&m.Services[0].Residency) }
	}
	for _, c := range []struct {
		name    string
		change  func(*polder.Model)
		service polder.ServiceName
		address string
		lawful  bool
	}{
		{name: "nothing", change: func(*polder.Model) {}, lawful: true},
		{name: "a region is forbidden", change: residency(func(r *polder.Residency) { r.Allow = []polder.Place{"pl"} }), service: "abroad", address: "192.0.2.20:7443"},
		{name: "passing on is forbidden", change: residency(func(r *polder.Residency) { r.Elsewhere = polder.Refuse }), service: "abroad", address: "192.0.2."},
		{name: "the service is gone", change: func(m *polder.Model) { m.Services = m.Services[1:] }, address: "192.0.2."},
	} {
		again := func(name string, restarted bool) {
			t.Run(name, func(t *testing.T) {
				judgeKept(t, restarted, c.change, c.lawful, mutant{service: c.service, address: c.address})
			})
		}
		again(c.name, false)
		again(c.name+", after a restart", true)
	}
}

// judgeKept is one case. After a restart, translation and proof know of what was before
// by what those before them told.
func judgeKept(t *testing.T, restarted bool, change func(*polder.Model), lawful bool, want mutant) {
	w := makeWorld(t, []byte(keptConfig), []byte(keptCircumstances))
	w.peerAt = map[string]string{"nl-1": "192.0.2.20:7443", "pl-1": "192.0.2.30:7443"}
	w.homes = map[polder.ServiceName]law.Home{}
	at := func(home law.Home) {
		for _, s := range w.model.Services {
			w.homes[s.Name] = home
		}
	}
	hosts := xds.Hosts{Traces: true}
	checker := proof.NewChecker(w.book())
	set := func() []proof.Resource {
		var set []xds.Resource
		for _, a := range w.judge() {
			hosts.Put(a)
			set = append(set, xds.Service(a, w.gateway())...)
		}
		return plain(append(set, hosts.Node(w.nodeConfig())...))
	}
	publish := func() {
		t.Helper()
		p := checker.Propose(proof.Change{Set: set(), Book: w.book()})
		if found := p.Violations(); len(found) > 0 {
			t.Fatalf("the proof finds\n%s", lines(found))
		}
		if err := p.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	at(law.Home{Peer: "nl-1", Region: "nl"})
	publish()
	at(law.Home{Peer: "pl-1", Region: "pl"})
	publish()
	if hosts.Ways.Kept() != 1 {
		t.Fatalf("%d ways are kept", hosts.Ways.Kept())
	}

	if restarted {
		ways, err := xds.Recall(hosts.Ways.Tell(w.now), w.now)
		if err != nil {
			t.Fatal(err)
		}
		told := checker.Tell()
		hosts, checker = xds.Hosts{Traces: true, Ways: ways}, proof.NewChecker(w.book())
		checker.Recall(told)
	}

	// The law changes, and the node does not drop what it kept.
	before := set()
	model := *w.model
	model.Services = slices.Clone(model.Services)
	change(&model)
	w.model = &model
	if len(model.Services) == 1 {
		hosts.Remove("abroad")
	}
	want.path = []string{"listener entrypoint-https", "chain pass/nl-1/nl,pl", "kept for abroad.example.com"}
	after := set()
	leaky := leftBehind(t, before, after)
	if restarted { // Envoy has what the chain leads to, and the checker was not given it yet
		for _, r := range before {
			if !slices.ContainsFunc(leaky, func(l proof.Resource) bool { return l.Key == r.Key }) {
				leaky = append(leaky, r)
			}
		}
	}
	found := checker.Propose(proof.Change{Set: leaky, Book: w.book()}).Violations()
	switch {
	case lawful && len(found) > 0:
		t.Errorf("the proof finds\n%s", lines(found))
	case !lawful && !slices.ContainsFunc(found, want.named):
		t.Errorf("the proof does not find what is kept:\n%s", lines(found))
	}

	// What the node really makes is lawful.
	made := proof.Change{Set: after, Book: w.book()}
	for _, r := range before {
		if !slices.ContainsFunc(after, func(a proof.Resource) bool { return a.Key == r.Key }) {
			made.Remove = append(made.Remove, r.Key)
		}
	}
	if found := checker.Propose(made).Violations(); len(found) > 0 {
		t.Errorf("the proof refuses what the node makes:\n%s", lines(found))
	}
}

// TestWhatNobodyToldOfIsNotKept restarts where the translation was told of a way and the
// proof of none: what it cannot judge is refused, and only then.
func TestWhatNobodyToldOfIsNotKept(t *testing.T) {
	w := makeWorld(t, []byte(keptConfig), []byte(keptCircumstances))
	hosts := xds.Hosts{Traces: true}
	set := func() []proof.Resource {
		var set []xds.Resource
		for _, a := range w.judge() {
			hosts.Put(a)
			set = append(set, xds.Service(a, w.gateway())...)
		}
		return plain(append(set, hosts.Node(w.nodeConfig())...))
	}
	ways, err := xds.Recall([]xds.Way{{Name: "pass/nl-9/nl,pl", Targets: []polder.RegionName{"nl", "pl"}, Through: []string{"abroad.example.com"}, Kept: true}}, w.now)
	if err != nil {
		t.Fatal(err)
	}
	hosts.Ways = ways
	with := set()
	if hosts.Ways.Kept() != 1 {
		t.Fatalf("%d ways are kept", hosts.Ways.Kept())
	}
	hosts = xds.Hosts{Traces: true}
	without := set()
	for told, list := range map[string][]proof.Led{
		"nothing": nil,
		"the way": {{Listener: proof.Key{Type: xds.TypeListener, Name: "entrypoint-https"}, Chain: "pass/nl-9/nl,pl", Names: []string{"abroad.example.com"}}},
	} {
		checker := proof.NewChecker(w.book())
		checker.Recall(list)
		found := checker.Propose(proof.Change{Set: with, Book: w.book()}).Violations()
		if unknown := slices.ContainsFunc(found, mutant{path: []string{"listener entrypoint-https", "chain pass/nl-9/nl,pl"}, address: "192.0.2.20:7443"}.named); unknown != (list == nil) || len(found) > 1 {
			t.Errorf("told of %s, the proof finds\n%s", told, lines(found))
		}
		if found := checker.Propose(proof.Change{Set: without, Book: w.book()}).Violations(); len(found) > 0 {
			t.Errorf("told of %s, the proof refuses what is not kept:\n%s", told, lines(found))
		}
	}
}

// leftBehind is a snapshot with the chains of an older one in its public listener.
func leftBehind(t *testing.T, old, now []proof.Resource) []proof.Resource {
	t.Helper()
	s, before := open(t, now), open(t, old)
	here := s.listener("entrypoint-https")
	for _, c := range before.listener("entrypoint-https").FilterChains {
		if !slices.ContainsFunc(here.FilterChains, func(o *listener.FilterChain) bool { return o.Name == c.Name }) {
			here.FilterChains = append(here.FilterChains, c)
		}
	}
	return s.resources()
}
