package proof_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// TestMain lets every property try some hundred cases, of ten mutations each
// where there are any. For long runs: go test ./xds/proof -rapid.checks=100000.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "50"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// hostPool is small and full of wildcards, so that services lie below each
// other's.
var hostPool = []polder.Host{
	"a.example.com", "b.example.com", "*.example.com", "a.b.example.com", "*.b.example.com", "*.a.b.example.com",
	"x.a.b.example.com", "example.com", "example.org", "*.example.org", "b.example.org",
}

var (
	regionPool  = []polder.RegionName{"fr", "fr2", "nl", "pl"}
	placePool   = []polder.Place{"fr", "fr2", "nl", "pl", "EU", "FR"}
	peerPool    = []string{"192.0.2.30:7443", "peer.example.net:7443", "[2001:db8::1]:7443", "192.0.2.31:7443"}
	servicePool = []polder.ServiceName{"ant", "bee", "cat", "dog", "elk", "fox"}
)

func subset[T comparable](t *rapid.T, label string, pool []T, least int) []T {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(pool), least, len(pool), rapid.ID[T]).Draw(t, label)
}

// drawWorld makes a random topology with random policies. Each address belongs
// to one service in one region.
func drawWorld(t *rapid.T) world {
	m := &polder.Model{}
	names := subset(t, "regions", regionPool, 1)
	slices.Sort(names)
	for _, name := range names {
		m.Regions = append(m.Regions, polder.Region{Name: name,
			Jurisdictions: subset(t, "jurisdictions", []polder.Jurisdiction{"EU", "FR"}, 0)})
	}
	hosts := rapid.Permutation(hostPool).Draw(t, "hosts")
	services := subset(t, "services", servicePool, 1)
	slices.Sort(services)
	for _, name := range services {
		if len(hosts) == 0 {
			break
		}
		n := rapid.IntRange(1, min(3, len(hosts))).Draw(t, "number of hosts")
		m.Services = append(m.Services, drawService(t, name, hosts[:n]))
		hosts = hosts[n:]
	}
	w := world{model: m, here: rapid.SampledFrom(names).Draw(t, "here")}
	drawCircumstances(t, &w)
	return w
}

func drawService(t *rapid.T, name polder.ServiceName, hosts []polder.Host) polder.Service {
	s := polder.Service{Name: name, Hosts: slices.Sorted(slices.Values(hosts)),
		Protocol:  rapid.SampledFrom([]polder.Protocol{polder.HTTP1, polder.HTTP2}).Draw(t, "protocol"),
		Residency: drawResidency(t)}
	if rapid.Bool().Draw(t, "run") {
		s.Run = &polder.Run{Command: []string{"./x"}}
		s.Cold.Answer = rapid.SampledFrom([]polder.ColdAnswer{polder.ColdHold, polder.ColdAccepted, polder.ColdReject}).Draw(t, "cold")
		return s
	}
	s.Endpoints = map[polder.RegionName][]netip.AddrPort{}
	for _, region := range subset(t, "routed in", regionPool, 0) {
		s.Endpoints[region] = []netip.AddrPort{addressOf(name, region, 0)}
	}
	return s
}

func drawResidency(t *rapid.T) polder.Residency {
	kept := rapid.SampledFrom([]polder.Kept{polder.KeptNowhere, polder.KeptAllowed, polder.KeptServing})
	r := polder.Residency{
		Allow: subset(t, "allow", placePool, 1),
		Failover: polder.Failover{
			Class:   rapid.SampledFrom([]polder.FailoverClass{polder.FailoverClosed, polder.FailoverListed, polder.FailoverBreakGlass}).Draw(t, "failover"),
			Regions: subset(t, "stand in", regionPool, 0),
		},
		Elsewhere: rapid.SampledFrom([]polder.Elsewhere{polder.PassThrough, polder.Refuse}).Draw(t, "elsewhere"),
		Keys:      rapid.SampledFrom([]polder.Keys{polder.KeysOnDemand, polder.KeysResident}).Draw(t, "keys"),
		Telemetry: polder.Telemetry{AccessLog: kept.Draw(t, "access log"), Traces: kept.Draw(t, "traces"), Metrics: kept.Draw(t, "metrics"),
			Profiles: kept.Draw(t, "profiles"), Ledger: kept.Draw(t, "ledger")},
	}
	if rapid.IntRange(0, 3).Draw(t, "broken") > 0 {
		hours := rapid.IntRange(1, 6)
		r.Failover.Broken = &polder.BrokenGlass{From: noon.Add(-2 * time.Hour), Until: noon.Add(time.Duration(hours.Draw(t, "until")-2) * time.Hour), Reason: "fire"}
	}
	return r
}

// drawCircumstances draws what changes while a model stays.
func drawCircumstances(t *rapid.T, w *world) {
	w.alive, w.peers, w.instances = polder.RegionHealth{}, map[polder.RegionName][]string{}, nil
	w.now = noon.Add(time.Duration(rapid.IntRange(-3, 5).Draw(t, "now")) * time.Hour)
	w.disputed = map[polder.ServiceName][]polder.Residency{}
	for _, s := range w.model.Services {
		for range max(0, rapid.IntRange(-3, 2).Draw(t, "disputed")) {
			w.disputed[s.Name] = append(w.disputed[s.Name], drawResidency(t))
		}
	}
	w.peerAt, w.homes = map[string]string{}, map[polder.ServiceName]law.Home{}
	for _, r := range subset(t, "alive", regionPool, 0) {
		w.alive[r] = true
	}
	w.rank = subset(t, "rank", regionPool, 0)
	for i, r := range regionPool {
		if rapid.Bool().Draw(t, "has peers") {
			w.peers[r] = []string{peerPool[i]}
			w.peerAt[string(r)+"-7"] = peerPool[i]
		}
	}
	for _, s := range w.model.Services {
		if rapid.Bool().Draw(t, "has a home") {
			region := rapid.SampledFrom(regionPool).Draw(t, "home")
			w.homes[s.Name] = law.Home{Peer: string(region) + "-7", Region: region}
		}
	}
	for _, s := range w.model.Services {
		if s.Run == nil {
			continue
		}
		for _, r := range w.model.Regions {
			for n := range rapid.IntRange(0, 2).Draw(t, "instances") {
				w.instances = append(w.instances, polder.Endpoint{Service: s.Name, Region: r.Name, Address: addressOf(s.Name, r.Name, n)})
			}
		}
	}
}

// addressOf is an address that only this instance of this service has.
func addressOf(s polder.ServiceName, r polder.RegionName, n int) netip.AddrPort {
	return netip.MustParseAddrPort(fmt.Sprintf("10.%d.%d.%d:8080",
		slices.Index(regionPool, r)+1, slices.Index(servicePool, s)+1, n+1))
}
