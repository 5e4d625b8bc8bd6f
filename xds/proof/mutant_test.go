package proof_test

import (
	"slices"
	"strings"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	percent "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/polder/polder"
	"github.com/polder/polder/xds/proof"
)

// mutantConfig has a service for every rule of the law, seen from fr.
const mutantConfig = `
regions:
  fr: { jurisdiction: [FR, EU], location: [48.86, 2.35] }
  nl: { jurisdiction: [NL, EU], location: [52.37, 4.90] }
  pl: { jurisdiction: [PL, EU], location: [52.23, 21.01] }
  se: { jurisdiction: [SE], location: [59.33, 18.07] }
services:
  billing: # served here, with a wildcard
    hosts: [billing.example.com, "*.billing.example.com"]
    residency: { allow: [fr] }
    run: { command: [./billing] }
  catalog: # served everywhere
    hosts: [catalog.example.com]
    residency: { allow: [EU] }
    run: { command: [./catalog] }
  dutch: # passed on
    hosts: [dutch.example.com]
    residency: { allow: [nl] }
    run: { command: [./dutch] }
  fire: # served here, by a broken glass
    hosts: [fire.example.com]
    residency: { allow: [se], failover: { break-glass: [fr], broken: { from: 2026-05-01T08:00:00Z, until: 2026-05-01T20:00:00Z, reason: fire } } }
    run: { command: [./fire] }
  flood: # passed on, by a broken glass
    hosts: [flood.example.com]
    residency: { allow: [se], failover: { break-glass: [nl], broken: { from: 2026-05-01T08:00:00Z, until: 2026-05-01T20:00:00Z, reason: flood } } }
    run: { command: [./flood] }
  inner: # passed on, below a wildcard that is served here
    hosts: [inner.billing.example.com]
    residency: { allow: [nl] }
    run: { command: [./inner] }
  keyed: # served here, with a key that stays
    hosts: [keyed.example.com]
    residency: { allow: [fr], keys: resident }
    run: { command: [./keyed] }
  legacy: # routed, with addresses in two regions
    hosts: [legacy.example.com]
    residency: { allow: [nl, fr] }
    endpoints: { nl: ["10.1.0.5:8080"], fr: ["10.0.0.5:8080"] }
  logged: # served here, and noted
    hosts: [logged.example.com]
    residency: { allow: [fr], telemetry: { access-log: allowed } }
    run: { command: [./logged] }
  polish: # passed on to another region
    hosts: [polish.example.com]
    residency: { allow: [pl] }
    run: { command: [./polish] }
  standby: # not served here while Warsaw lives
    hosts: [standby.example.com]
    residency: { allow: [pl], failover: { listed: [fr] } }
    run: { command: [./standby] }
  untold: # served here, and never traced
    hosts: [untold.example.com]
    residency: { allow: [fr], telemetry: { traces: nowhere } }
    run: { command: [./untold] }
  vault: # refused
    hosts: [vault.example.com]
    residency: { allow: [nl], elsewhere: refuse }
    run: { command: [./vault] }
`

const mutantCircumstances = `
gateway: fr
alive: [fr, nl, pl]
peers: { nl: ["nl.example.net:7443"], pl: ["192.0.2.30:7443"] }
instances:
  billing: { fr: ["127.0.0.1:20001", "127.0.0.1:20002"] }
  catalog: { fr: ["127.0.0.1:20004"], nl: ["10.1.0.77:20004"] }
  dutch: { nl: ["10.1.0.78:20005"] }
`

func mutantWorld(t testing.TB) world {
	return makeWorld(t, []byte(mutantConfig), []byte(mutantCircumstances))
}

// mutant is one way to leak: a change of a good snapshot, and what the proof
// must say of it.
type mutant struct {
	name    string
	change  func(s *snapshot)
	service polder.ServiceName // whose callers; "" when it is everybody's
	path    []string           // elements, or beginnings of them, in this order
	address string             // is part of the address
}

// reasons is part of what must be said of some mutants beside address and path,
// where one fault shows in several ways.
var reasons = map[string]string{
	"peers of any name":                                             "asks for no name",
	"peers of a region whose name begins alike":                     "not bound to one region",
	"peers of any region":                                           "not bound to one region",
	"spare cluster with discovered endpoints behind TLS":            "wraps",
	"spare cluster that writes the caller's address to an instance": "wraps",
	"spare way into this Envoy that leads out of it":                "outside this Envoy",
	"resource of another type":                                      "no resource that a node needs",
	"resource that calls itself something else":                     "calls itself",
	"listener on a socket":                                          "does not understand it",
	"host named twice":                                              "twice",
	"bytes that are no cluster":                                     "cannot be read",
	"settings that nest too deep":                                   "too deep",
	"passed on past the listener that hides the header":             "in clear, before TLS begins",
}

// TestMutants holds that each way to leak is rejected, with a message that
// names the service, the path and the address. The same change is rejected by
// a checker that had proved the good snapshot, and leaves it as it was.
func TestMutants(t *testing.T) {
	mutants := slices.Concat(endpointMutants(), clusterMutants(), routeMutants(), hostMutants(),
		openingMutants(), residentMutants(), glassMutants(), loggedMutants(), sinkMutants(), traceMutants(), filterMutants(), listenerMutants(), passMutants(), spareMutants(), strangeMutants(), nameMutants(), divertedMutants())
	if len(mutants) < 40 {
		t.Fatalf("only %d mutants", len(mutants))
	}
	holdMutants(t, mutantWorld(t), mutants)
}

// holdMutants holds each mutant of a world against the proof.
func holdMutants(t *testing.T, w world, mutants []mutant) {
	good := w.snapshot()
	if found := w.check(good); len(found) > 0 {
		t.Fatalf("the snapshot is not good: %v", found)
	}
	checker := proof.NewChecker(w.book())
	if err := checker.Propose(proof.Change{Set: good, Instances: w.observed()}).Commit(); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range mutants {
		if names[m.name] {
			t.Errorf("two mutants are called %q", m.name)
		}
		names[m.name] = true
		t.Run(m.name, func(t *testing.T) {
			s := open(t, good)
			m.change(s)
			bad := s.resources()
			found := w.check(bad)
			if !slices.ContainsFunc(found, m.named) {
				t.Errorf("want service %q, path %v, address %q; got %d violations:\n%v", m.service, m.path, m.address, len(found), lines(found))
			}
			set, remove := difference(good, bad)
			p := checker.Propose(proof.Change{Set: set, Remove: remove})
			if again := p.Violations(); !slices.ContainsFunc(again, m.named) {
				t.Errorf("as a change of the good snapshot: got %d violations:\n%v", len(again), lines(again))
			}
			if p.Commit() == nil {
				t.Error("the change can be taken over")
			}
			for _, v := range found {
				if v.Reason == "" || v.Address == "" || len(v.Path) == 0 {
					t.Errorf("says too little: %s", v)
				}
			}
		})
	}
	if again := checker.Propose(proof.Change{Set: good}).Violations(); len(again) > 0 {
		t.Errorf("after all that was rejected, the good snapshot has violations: %v", again)
	}
}

// named tells whether a violation says what the mutant wants.
func (m mutant) named(v proof.Violation) bool {
	if m.service == "" && len(v.Services) > 0 || m.service != "" && !slices.Contains(v.Services, m.service) {
		return false
	}
	rest := v.Path
	for _, want := range m.path {
		i := slices.IndexFunc(rest, func(element string) bool { return strings.HasPrefix(element, want) })
		if i < 0 {
			return false
		}
		rest = rest[i+1:]
	}
	return strings.Contains(v.Address, m.address) && strings.Contains(v.Reason, reasons[m.name])
}

func lines(list []proof.Violation) string {
	var b strings.Builder
	for _, v := range list {
		b.WriteString("  " + v.String() + "\n")
	}
	return b.String()
}

// difference is the change that leads from one set of resources to another.
func difference(before, after []proof.Resource) (set []proof.Resource, remove []proof.Key) {
	has := map[proof.Key]bool{}
	for _, r := range after {
		has[r.Key] = true
	}
	for _, r := range before {
		if !has[r.Key] {
			remove = append(remove, r.Key)
		}
	}
	return after, remove
}

// calm switches panic routing off.
func calm() *cluster.Cluster_CommonLbConfig {
	return &cluster.Cluster_CommonLbConfig{HealthyPanicThreshold: &percent.Percent{}}
}
