package proof_test

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// lawbook is the policy of a world read word for word, apart from package law
// and from the book of the proof.
type lawbook struct{ world }

// policies are the service's policy, and what peers take it to be.
func (w lawbook) policies(s polder.Service) []polder.Residency {
	return append(slices.Clone(w.disputed[s.Name]), s.Residency)
}

func (w lawbook) allows(r polder.Residency, name polder.RegionName) bool {
	return slices.ContainsFunc(w.model.Regions, func(region polder.Region) bool {
		return region.Name == name && slices.ContainsFunc(r.Allow, func(p polder.Place) bool {
			return string(p) == string(name) || slices.Contains(region.Jurisdictions, polder.Jurisdiction(p))
		})
	})
}

// may tells whether a region may serve a service now, by the policy and by all
// that peers take it to be.
func (w lawbook) may(s polder.Service, region polder.RegionName) bool {
	can := func(r polder.RegionName) bool { return s.Run != nil || len(s.Endpoints[r]) > 0 }
	if !can(region) {
		return false
	}
	for _, policy := range w.policies(s) {
		if w.allows(policy, region) {
			continue
		}
		living, known := false, false
		for _, r := range w.model.Regions {
			living = living || w.allows(policy, r.Name) && can(r.Name) && (w.alive[r.Name] || r.Name == w.here)
			known = known || r.Name == region
		}
		f := policy.Failover
		standby := f.Class == polder.FailoverListed || f.Class == polder.FailoverBreakGlass && f.Broken != nil &&
			!w.now.Before(f.Broken.From) && w.now.Before(f.Broken.Until)
		if living || !known || !standby || !slices.Contains(f.Regions, region) {
			return false
		}
	}
	return true
}

// ends tells when the region must have no connection of the service any more;
// zero when it may go on.
func (w lawbook) ends(s polder.Service, region polder.RegionName) time.Time {
	var first time.Time
	for _, policy := range w.policies(s) {
		b := policy.Failover.Broken
		if !w.allows(policy, region) && policy.Failover.Class == polder.FailoverBreakGlass && (first.IsZero() || b.Until.Before(first)) {
			first = b.Until
		}
	}
	return first
}

// inTime tells whether a way goes with the filter chain that it came through, no
// later than it must.
func inTime(way proof.Way, end time.Time) bool {
	if end.IsZero() {
		return true
	}
	i := slices.IndexFunc(way.Path, func(element string) bool { return strings.HasPrefix(element, "chain until/") })
	if i < 0 {
		return false
	}
	digits, _, _ := strings.Cut(strings.TrimPrefix(way.Path[i], "chain until/"), "/")
	second, err := strconv.ParseInt(digits, 10, 64)
	return err == nil && !time.Unix(second, 0).After(end)
}

// noted tells whether requests of the service may be noted in this node's log.
func (w lawbook) noted(s polder.Service) bool {
	return w.may(s, w.here) && !slices.ContainsFunc(w.policies(s), func(r polder.Residency) bool {
		kept := r.Telemetry.AccessLog
		return kept != polder.KeptServing && (kept != polder.KeptAllowed || !w.allows(r, w.here))
	})
}

// resident tells whether this node may hold the service's key before anybody calls.
func (w lawbook) resident(s polder.Service) bool {
	return w.may(s, w.here) && !slices.ContainsFunc(w.policies(s), func(r polder.Residency) bool {
		return r.Keys != polder.KeysResident || !w.allows(r, w.here)
	})
}

// addresses are all that this node may connect to or listen on: its own, those
// of instances of services that it may serve, and those of peers.
func (w lawbook) addresses() map[string]bool {
	lawful := map[string]bool{bindHTTPS.String(): true, bindHTTP.String(): true, bindPeer.String(): true}
	for _, s := range w.model.Services {
		if !w.may(s, w.here) {
			continue
		}
		for _, a := range s.Endpoints[w.here] {
			lawful[a.String()] = true
		}
		for _, e := range w.instances {
			if e.Service == s.Name && e.Region == w.here {
				lawful[e.Address.String()] = true
			}
		}
	}
	for _, peers := range w.peers {
		for _, a := range peers {
			lawful[a] = true
		}
	}
	return lawful
}

// strays finds, by looking at nothing but addresses, those that no resource may
// speak of.
func (w lawbook) strays(resources []proof.Resource) []string {
	lawful := w.addresses()
	var strays []string
	for _, r := range resources {
		look(r, func(m protoreflect.Message) {
			switch a := m.Interface().(type) {
			case *core.SocketAddress:
				address := net.JoinHostPort(a.Address, strconv.FormatUint(uint64(a.GetPortValue()), 10))
				if parsed, err := netip.ParseAddrPort(address); err == nil {
					address = netip.AddrPortFrom(parsed.Addr().Unmap(), parsed.Port()).String()
				}
				if !lawful[strings.ToLower(address)] {
					strays = append(strays, address)
				}
			case *core.Pipe:
				if a.Path != activator {
					strays = append(strays, a.Path)
				}
			}
		})
	}
	return strays
}

// unlawful finds what callers of each host can reach and may not.
func (w lawbook) unlawful(c *proof.Checker) []proof.Way {
	var found []proof.Way
	for _, s := range w.model.Services {
		here := w.may(s, w.here)
		own := map[string]bool{}
		for _, a := range s.Endpoints[w.here] {
			own[a.String()] = true
		}
		for _, e := range w.instances {
			if e.Service == s.Name && e.Region == w.here {
				own[e.Address.String()] = true
			}
		}
		for _, host := range s.Hosts {
			for _, way := range c.Reach(string(host)) {
				lawful := false
				switch way.Kind {
				case proof.ToAnswer:
					lawful = true
				case proof.ToInstance:
					lawful = here && own[way.Address] && inTime(way, w.ends(s, w.here))
				case proof.ToActivator:
					lawful = here && inTime(way, w.ends(s, w.here))
				case proof.ToSink:
					lawful = here && (way.Address != "file "+logFile || w.noted(s))
				case proof.ToKey:
					resident := strings.HasPrefix(way.Address, "secret resident/")
					lawful = here && (!resident || w.resident(s) && way.Address == "secret resident/"+string(s.Name))
				case proof.ToPeer:
					// In this region too: another peer of it.
					lawful = w.may(s, way.Region) && inTime(way, w.ends(s, way.Region))
				}
				if !lawful {
					found = append(found, way)
				}
			}
		}
	}
	return found
}

// stringPool is what random mutations say.
func (w world) stringPool(resources []proof.Resource) []string {
	pool := []string{"", "*", "203.0.113.9", "10.2.1.1", "10.1.1.1", "x-polder-service", "%FILE_CONTENT(/etc/passwd)%", "spiffe://polder.test/region/", "/tmp/x"}
	for _, r := range resources {
		pool = append(pool, r.Name)
	}
	for _, s := range w.model.Services {
		for _, h := range s.Hosts {
			pool = append(pool, string(h))
		}
	}
	slices.Sort(pool)
	return slices.Compact(pool)
}

// TestTranslationAndProofAgree holds random topologies: the proof finds nothing
// in what the translation makes of what the law approved, and by every host
// callers reach only what the policy says.
func TestTranslationAndProofAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		good := w.snapshot()
		c := proof.NewChecker(w.book())
		p := c.Propose(proof.Change{Set: good, Instances: w.observed()})
		if found := p.Violations(); len(found) > 0 {
			t.Fatalf("the proof finds in the translation:\n%s", lines(found))
		}
		if err := p.Commit(); err != nil {
			t.Fatal(err)
		}
		if strays := (lawbook{w}).strays(good); len(strays) > 0 {
			t.Fatalf("the snapshot speaks of %v", strays)
		}
		if found := (lawbook{w}).unlawful(c); len(found) > 0 {
			t.Fatalf("callers reach %+v", found)
		}
	})
}

// TestMutationsThatReachForbiddenAddresses changes something, anywhere, at
// random. A change that puts a forbidden address anywhere, or leads callers to
// what they may not reach, is rejected.
func TestMutationsThatReachForbiddenAddresses(t *testing.T) {
	accepted, rejected := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		good := w.snapshot()
		pool := w.stringPool(good)
		base := proof.NewChecker(w.book())
		if err := base.Propose(proof.Change{Set: good, Instances: w.observed()}).Commit(); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			bad, i := drawMutation(t, good, pool)
			if len(base.Propose(proof.Change{Set: bad[i : i+1]}).Violations()) > 0 {
				rejected++
				continue
			}
			accepted++
			c := proof.NewChecker(w.book())
			if err := c.Propose(proof.Change{Set: bad, Instances: w.observed()}).Commit(); err != nil {
				t.Fatal(err)
			}
			if strays := (lawbook{w}).strays(bad[i : i+1]); len(strays) > 0 {
				t.Fatalf("accepted, with %v", strays)
			}
			if found := (lawbook{w}).unlawful(c); len(found) > 0 {
				t.Fatalf("accepted, and callers reach %+v", found)
			}
		}
	})
	t.Logf("%d mutations rejected, %d accepted as harmless", rejected, accepted)
	if accepted == 0 || rejected == 0 {
		t.Error("the mutations are all alike")
	}
}

// TestForbiddenAddressAnywhere puts an address that this node may not reach in
// the place of one that it may.
func TestForbiddenAddressAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		bad := slices.Clone(w.snapshot())
		var places []int
		for i, r := range bad {
			look(r, func(m protoreflect.Message) {
				if _, ok := m.Interface().(*core.SocketAddress); ok {
					places = append(places, i)
				}
			})
		}
		forbidden := rapid.SampledFrom([]string{"203.0.113.9", "10.99.1.1", "evil.example.org", "::ffff:203.0.113.9"}).Draw(t, "forbidden")
		i := rapid.SampledFrom(places).Draw(t, "resource")
		body, first := proto.Clone(bad[i].Body).(*anypb.Any), true
		visit(body.ProtoReflect(), func(m protoreflect.Message) bool {
			a, ok := m.Interface().(*core.SocketAddress)
			if !ok || !first {
				return false
			}
			a.Address, first = forbidden, false
			return true
		})
		bad[i].Body = body
		found := w.check(bad)
		if !slices.ContainsFunc(found, func(v proof.Violation) bool {
			return strings.Contains(v.Address, strings.TrimPrefix(forbidden, "::ffff:"))
		}) {
			t.Fatalf("%s %s with %s: got\n%s", bad[i].Type, bad[i].Name, forbidden, lines(found))
		}
	})
}

// TestChangesAreProvedAsWhole holds that a checker which proved one state, and
// then a change, says exactly what it would say of the result from scratch.
func TestChangesAreProvedAsWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := drawWorld(t)
		c := proof.NewChecker(before.book())
		resources := before.snapshot()
		if err := c.Propose(proof.Change{Set: resources, Instances: before.observed()}).Commit(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			after := before
			drawCircumstances(t, &after)
			if rapid.Bool().Draw(t, "another policy") {
				after.model = &polder.Model{Regions: before.model.Regions, Services: slices.Clone(before.model.Services)}
				i := rapid.IntRange(0, len(after.model.Services)-1).Draw(t, "service")
				after.model.Services[i] = drawService(t, after.model.Services[i].Name, after.model.Services[i].Hosts)
			}
			next := drawLed(t, after.model, after.snapshot())
			if rapid.Bool().Draw(t, "mutated") {
				next, _ = drawMutation(t, next, after.stringPool(next))
			}
			set, remove := difference(resources, next)
			p := c.Propose(proof.Change{Set: set, Remove: remove, Instances: everyone(before, after), Book: after.book()})
			if got, want := lines(p.Violations()), lines(after.check(next)); got != want {
				t.Fatalf("as a change:\n%s\nfrom scratch:\n%s", got, want)
			}
			if len(p.Violations()) == 0 {
				if err := p.Commit(); err != nil {
					t.Fatal(err)
				}
				before, resources = after, next
			}
		}
	})
}

// drawLed leads some hosts by their names, lawfully or not.
func drawLed(t *rapid.T, model *polder.Model, set []proof.Resource) []proof.Resource {
	var inside []string
	for _, r := range set {
		if r.Type == xds.TypeListener {
			inside = append(inside, r.Name)
		}
	}
	for _, s := range model.Services {
		if !rapid.Bool().Draw(t, "led by name") {
			continue
		}
		name := "to/" + string(s.Hosts[0])
		to := rapid.SampledFrom(inside).Draw(t, "into")
		c := staticCluster(name, &core.Address{Address: &core.Address_EnvoyInternalAddress{EnvoyInternalAddress: &core.EnvoyInternalAddress{
			AddressNameSpecifier: &core.EnvoyInternalAddress_ServerListenerName{ServerListenerName: to}}}})
		for _, r := range set {
			if r.Key == (proof.Key{Type: xds.TypeCluster, Name: "inward"}) {
				var inward cluster.Cluster
				if err := r.Body.UnmarshalTo(&inward); err != nil {
					t.Fatal(err)
				}
				c.TransportSocket = inward.TransportSocket
			}
		}
		body := new(anypb.Any)
		if err := body.MarshalFrom(c); err != nil {
			t.Fatal(err)
		}
		set = append(set, proof.Resource{Key: proof.Key{Type: xds.TypeCluster, Name: name}, Body: body})
	}
	return set
}

// everyone names each service, so that those without instances lose them.
func everyone(before, after world) map[polder.ServiceName][]polder.Endpoint {
	by := after.observed()
	for _, s := range before.model.Services {
		if by[s.Name] == nil {
			by[s.Name] = nil
		}
	}
	return by
}
