package xds

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// NodeConfig describes one gateway's Envoy.
type NodeConfig struct {
	Region   polder.RegionName
	HTTPS    netip.AddrPort                 // public entrypoint
	HTTP     netip.AddrPort                 // public redirect
	Peer     netip.AddrPort                 // mTLS for connections that peers pass on
	PeerOf   map[polder.RegionName][]string // host:port of the peers, the own ones included
	PeerAt   map[string]string              // the same by the peer's name
	WeightOf map[string]uint32              // by address, from 1: shares of peers in their region; missing: 1
	// RTT is the round trip to the nearest peer of each region; missing: not measured.
	// Give it in few steps: with it changes how long connecting may take.
	RTT         map[polder.RegionName]time.Duration
	TrustDomain string // of the peers' SPIFFE identities
	HTTP3       bool   // serve HTTP/3 on the entrypoint's port as well
	Traces      bool   // make spans of requests whose caller traces them and whose policy permits it
	AccessLog   string // file for the requests of services whose policy permits it; "" for none
	Ejections   string // file of the bootstrap, for the proof; "" for none
	// Draining asks Envoy to end the connections that it has opened, each after its
	// present request: callers come again, and are sent elsewhere.
	Draining bool
	// Now is when the resources are made, for the ways out that Hosts keeps.
	Now time.Time
}

// Node gives the resources that the gateway has once: its listeners, the
// routes of plain HTTP and of wildcard hosts, and the ways to other regions;
// and the clusters of hosts that are led to their refusal by name.
// They depend on the services only through the verdict on each host.
func Node(judged []law.Approved, n NodeConfig) []Resource {
	t := sortHosts(judged, n.Region, n.Traces)
	resources := t.resources(n)
	for _, host := range slices.Sorted(maps.Keys(t.led)) {
		resources = append(resources, newResource(TypeCluster, byName(host), byNameCluster(host, t.led[host])))
	}
	return resources
}

func (t hostTable) resources(n NodeConfig) []Resource {
	t.draining, t.accessLog = n.Draining, n.AccessLog
	resources := []Resource{
		newResource(TypeListener, listenerHTTPS, entrypoint(n, t)),
		newResource(TypeListener, listenerHTTP, plainListener(n)),
		newResource(TypeListener, listenerPeers, peerListener(n)),
		newResource(TypeListener, listenerInward, inwardListener(n, t)),
		newResource(TypeCluster, clusterInward, internalCluster(clusterInward, listenerInward)),
		newResource(TypeCluster, wrapName(listenerInward), wrapCluster(wrapName(listenerInward), listenerInward)),
		newResource(TypeRoute, routesHTTP, plainRoutes(n.HTTPS.Port(), t.refusedHosts)),
		newResource(TypeRoute, routesWildcard, wildcardRoutes(t, n)),
		newResource(TypeExtension, filterDiverted, divertedFilter(nil)),
	}
	if n.HTTP3 && len(t.quic()) > 0 {
		resources = append(resources, newResource(TypeListener, listenerHTTP3, quicEntrypoint(n, t)))
	}
	for _, l := range refusingListeners() {
		resources = append(resources,
			newResource(TypeListener, l.Name, l),
			newResource(TypeCluster, wrapName(l.Name), internalCluster(wrapName(l.Name), l.Name)))
	}
	for _, p := range t.passes {
		resources = append(resources, passResources(p, n)...)
	}
	return resources
}

// hostTable sorts all hosts by what happens to their connections. Every slice
// is sorted, so that equal verdicts give equal bytes.
type hostTable struct {
	here       polder.RegionName
	served     []string   // exact hosts that end here, in the chain that all share
	servedWild []string   // wildcard hosts that end here, in the chain that all share
	owned      []ownChain // and in others
	lent       []string   // of both, those whose new callers go to their home
	refusedHosts
	led       map[string]string // of the refused, those that the table does not name, to the listener that refuses them
	passes    []pass
	draining  bool
	accessLog string
	traces    bool
	wildcards []wildService // served, with at least one wildcard host
	captured  []string      // of other services, below a wildcard host that ends here
	outside   []string      // of all services, the ones that may not end here though the key would not tell
	inside    []string      // exact hosts that end here, below a wildcard host that does too
}

// wildService is a service with wildcard hosts.
type wildService struct {
	polder.Service
	resident bool // and with a key that stays
	traced   bool // and whose requests may be traced
}

// pass is one way out: the hosts whose connections go to the same home and
// regions.
type pass struct {
	name    string
	home    string // peer that comes before all others; "" for none
	targets []polder.RegionName
	hosts   []string // of callers at the entrypoint
}

func sortHosts(judged []law.Approved, here polder.RegionName, traces bool) hostTable {
	t := hostTable{here: here, traces: traces}
	passes := map[string]*pass{}
	way := func(a law.Approved) *pass {
		p := passOf(a)
		if passes[p.name] == nil {
			passes[p.name] = &p
		}
		return passes[p.name]
	}
	for _, a := range judged {
		s := a.Service()
		hosts := plain(s.Hosts)
		switch a.Verdict() {
		case law.Serve:
			for _, h := range hosts {
				switch own := t.own(a, h); {
				case own != nil:
					own.hosts = append(own.hosts, h)
				case isWildcard(h):
					t.servedWild = append(t.servedWild, h)
				default:
					t.served = append(t.served, h)
				}
			}
			if slices.ContainsFunc(hosts, isWildcard) {
				t.wildcards = append(t.wildcards, wildService{s, a.Resident(), a.MayKeep(polder.RecordTraces)})
			}
			if a.Home() != (law.Home{}) {
				p := way(a)
				p.hosts = append(p.hosts, hosts...)
				t.lent = append(t.lent, hosts...)
			}
		case law.Pass:
			p := way(a)
			p.hosts = append(p.hosts, hosts...)
		case law.Forbidden, law.Unavailable:
			list := t.list(a.Verdict())
			*list = append(*list, hosts...)
		}
	}
	for _, list := range [][]string{t.served, t.servedWild, t.lent, t.forbidden, t.unavailable} {
		slices.Sort(list)
	}
	t.sortOwned()
	for _, p := range passes {
		slices.Sort(p.hosts)
		t.passes = append(t.passes, *p)
	}
	slices.SortFunc(t.passes, byPassName)
	slices.SortFunc(t.wildcards, func(a, b wildService) int { return strings.Compare(string(a.Name), string(b.Name)) })
	t.findCaptured(judged, here)
	var hosts []string // of all services, whatever happens to them
	for _, a := range judged {
		hosts = append(hosts, plain(a.Service().Hosts)...)
	}
	t.leadRefused(wildcardSet(hosts))
	return t
}

// findCaptured finds the hosts that lie below a wildcard of another service. They
// belong to their own service all the same.
func (t *hostTable) findCaptured(judged []law.Approved, here polder.RegionName) {
	served, closed := wildcardSet(t.servedWild), wildcardSet(t.forbidden, t.unavailable)
	for _, c := range t.owned {
		maps.Copy(served, wildcardSet(c.hosts))
	}
	for _, a := range judged {
		hosts := plain(a.Service().Hosts)
		// What only a broken glass permits ends in a chain of its own, or not here.
		glass := a.Verdict() != law.Serve && !a.Permission().Until(here).IsZero()
		own := a.Verdict() == law.Serve && slices.ContainsFunc(hosts, isWildcard)
		for _, h := range hosts {
			if !own && below(h, served) {
				t.captured = append(t.captured, h)
			}
			if glass || a.Verdict() != law.Serve && !own && below(h, served) {
				t.outside = append(t.outside, h)
			}
			if a.Verdict() != law.Forbidden && a.Verdict() != law.Unavailable && below(h, closed) {
				t.redirected = append(t.redirected, h)
			}
		}
	}
	for _, h := range t.served {
		if below(h, served) {
			t.inside = append(t.inside, h)
		}
	}
	for _, list := range [][]string{t.captured, t.outside, t.redirected} {
		slices.Sort(list)
	}
}

func byPassName(a, b pass) int { return strings.Compare(a.name, b.name) }

func wildcardSet(lists ...[]string) map[string]bool {
	set := map[string]bool{}
	for _, list := range lists {
		for _, h := range list {
			if isWildcard(h) {
				set[h] = true
			}
		}
	}
	return set
}

// below tells whether one of the wildcards matches the host, or every name
// that the host matches when it is a wildcard itself.
func below(host string, wildcards map[string]bool) bool {
	for rest, found := strings.TrimPrefix(host, "*."), true; found && len(wildcards) > 0; {
		if _, rest, found = strings.Cut(rest, "."); found && wildcards["*."+rest] {
			return true
		}
	}
	return false
}

func isWildcard(host string) bool { return strings.HasPrefix(host, "*.") }

func plain(hosts []polder.Host) []string {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = string(h)
	}
	return names
}
