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
		t.Run(c.name, func(t *testing.T) {
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

			// The law changes, and the node does not drop what it kept.
			before := set()
			model := *w.model
			model.Services = slices.Clone(model.Services)
			c.change(&model)
			w.model = &model
			if len(model.Services) == 1 {
				hosts.Remove("abroad")
			}
			after := set()
			leaky := leftBehind(t, before, after)
			found := checker.Propose(proof.Change{Set: leaky, Book: w.book()}).Violations()
			switch {
			case c.lawful && len(found) > 0:
				t.Errorf("the proof finds\n%s", lines(found))
			case !c.lawful && !slices.ContainsFunc(found, mutant{service: c.service, path: []string{"listener entrypoint-https", "chain pass/nl-1/nl,pl", "kept for abroad.example.com"}, address: c.address}.named):
				t.Errorf("the proof does not find what is kept:\n%s", lines(found))
			}

			// What the node really makes is lawful.
			change := proof.Change{Set: after, Book: w.book()}
			for _, r := range before {
				if !slices.ContainsFunc(after, func(a proof.Resource) bool { return a.Key == r.Key }) {
					change.Remove = append(change.Remove, r.Key)
				}
			}
			if found := checker.Propose(change).Violations(); len(found) > 0 {
				t.Errorf("the proof refuses what the node makes:\n%s", lines(found))
			}
		})
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
