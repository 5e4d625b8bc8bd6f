package xds

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// Hosts remembers what the law said of every service, and keeps the listeners'
// table of hosts without sending it at each change. The table, part of what Node
// gives, is one resource of all hosts; a host that came after it was made is led on
// by a small cluster of its own, which ByName gives, one that it has and that is treated
// otherwise now is diverted to such a cluster, and one that is gone stays in
// the table, where it finds no key and no routes. All are taken into the table when
// Node is called again, which Changed demands where the table would mislead, and
// Pending suggests. Refused hosts are not taken into it while there are few of them.
//
// Everything but Node costs time in proportion to what changes: a service whose
// hosts are treated as before, or a host that moves between services which are
// served alike, changes nothing. The zero value is ready; not safe for concurrent use.
type Hosts struct {
	// Traces is what NodeConfig says: fixed before the first use.
	Traces bool
	// Ways are the ways out that the last Node knew of. Whoever begins anew with
	// other Hosts takes them over, or what goes through these ways is cut.
	Ways Ways

	judged    map[polder.ServiceName]law.Approved
	treated   map[string]treatment
	wildcards map[string]bool // of treated
	stale     bool            // Node was never called, or a wildcard's routes changed

	table    map[string]treatment      // in the resources of the last Node
	former   map[string]polder.Service // of hosts in the table that nobody has now
	outside  map[string]bool           // hosts that the last Node's table for what is led inward keeps out
	diverted map[string]bool           // hosts that the table has, and that are led by their names for all that
	turned   bool                      // and the last Node or ByName gave others:
	marked   map[string]bool           // these
	left     map[string]time.Time      // since when hosts are not among them any more, for some seconds
	passes   map[string]bool           // ways out that the last Node gave, or ByName since
	added    map[string]bool           // those of ByName
	urgent   map[string]bool           // hosts for which the table would mislead
	pending  map[string]bool           // hosts that differ from the table
	led      map[string]treatment      // by a cluster of their own, as ByName gave last
	touched  map[string]bool           // since ByName
	refused  refusedHosts              // of treated, as plain HTTP tells their callers
	plainly  bool                      // and it was told of others by the last Node or ByName
	node     NodeConfig                // of the last Node
	joined   []Way                     // by ByName
}

// treatment is what happens to the connections for one host.
type treatment struct {
	owner   polder.ServiceName
	verdict law.Verdict
	chain   string // where its connections go; "" when the verdict tells
	glass   bool   // its owner has broken the glass
}

// alike tells whether the table would say the same for both.
func (t treatment) alike(u treatment) bool {
	t.owner, u.owner = "", ""
	return t == u
}

// shared tells whether the connections go with those of other services. Those that
// do not have chains which hold a key, end with a broken glass, or note or trace other requests than all do, and
// go at once.
func (t treatment) shared() bool {
	return !t.glass && !strings.HasPrefix(t.chain, ResidentSecrets) && !strings.HasPrefix(t.chain, EndingChains) &&
		!strings.HasPrefix(t.chain, loggedChains) && !strings.HasPrefix(t.chain, untracedChains)
}

// wayOut names the way out that the connections take; "" for those that end here.
func (t treatment) wayOut() string {
	opened, lent, isLent := strings.Cut(t.chain, " ")
	switch {
	case isLent:
		return lent
	case t.verdict == law.Pass:
		return opened
	}
	return ""
}

// ledTo is the internal listener for connections that are led by their name.
func (t treatment) ledTo() string { return cmp.Or(t.wayOut(), refusal(t.verdict), listenerInward) }

// refused tells whether the connections end with an alert and nothing else.
func (t treatment) refused() bool { return refusal(t.verdict) != "" }

// mayDivert tells whether connections for a host that the table leads there can be led
// by their names now. Those that it led out before go on until the next table, so the law
// has to permit them for as long.
func (h *Hosts) mayDivert(host string, there, now treatment) bool {
	if len(h.diverted) >= fewDiverted || !sayable(host) || !there.shared() || !now.shared() {
		return false
	}
	out := there.wayOut()
	if out == "" {
		return true
	}
	a, owned := h.approved(host)
	return owned && mayStay(a, h.Ways.taken[out].targets)
}

func (h *Hosts) begin() {
	if h.judged != nil {
		return
	}
	h.judged, h.treated, h.wildcards = map[polder.ServiceName]law.Approved{}, map[string]treatment{}, map[string]bool{}
	h.led, h.former, h.touched = map[string]treatment{}, map[string]polder.Service{}, map[string]bool{}
	h.urgent, h.pending, h.diverted, h.added = map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	h.left = map[string]time.Time{}
	h.stale = true
}

// Put takes in the law's word on a service, new or not.
func (h *Hosts) Put(a law.Approved) {
	h.begin()
	s := a.Service()
	old, known := h.judged[s.Name]
	if known {
		h.drop(old, a)
	}
	h.judged[s.Name] = a
	now := treatment{owner: s.Name, verdict: a.Verdict(), glass: s.Residency.Failover.Broken != nil}
	if now.verdict == law.Pass {
		now.chain = passOf(a).name
	}
	for _, host := range s.Hosts {
		h.stale = h.stale || h.Ways.offends(string(host), a, true)
		if now.verdict == law.Serve {
			now.chain = servingChain(a, string(host), h.Traces)
			if a.Home() != (law.Home{}) {
				now.chain += " " + passOf(a).name
			}
		}
		h.treat(string(host), now, s)
	}
	// The routes of wildcard hosts are the node's.
	if len(h.wildcards) > 0 && slices.ContainsFunc(plain(s.Hosts), isWildcard) {
		h.stale = h.stale || !known || !reflect.DeepEqual(old.Service(), s)
	}
}

// Remove forgets a service.
func (h *Hosts) Remove(name polder.ServiceName) {
	if old, ok := h.judged[name]; ok {
		h.drop(old, law.Approved{})
		delete(h.judged, name)
	}
}

// drop forgets the hosts that the service no longer has.
func (h *Hosts) drop(old, now law.Approved) {
	name := old.Service().Name
	for _, host := range old.Service().Hosts {
		if h.treated[string(host)].owner == name && !slices.Contains(now.Service().Hosts, host) {
			h.stale = h.stale || h.Ways.offends(string(host), law.Approved{}, false)
			h.treat(string(host), treatment{}, old.Service())
		}
	}
}

// treat sets what happens to a host of a service; the zero treatment removes it.
func (h *Hosts) treat(host string, now treatment, s polder.Service) {
	was := h.treated[host]
	if was == now {
		return
	}
	gone := now == treatment{}
	if isWildcard(host) {
		h.wildcards[host] = true
		h.stale = true // what is captured by it may be anybody's
		if gone {
			delete(h.wildcards, host)
		}
	}
	if gone {
		delete(h.treated, host)
	} else {
		h.treated[host] = now
	}
	h.touched[host] = true
	h.tellPlainly(host, was, now)
	diverted := h.diverted[host]
	h.compare(host, now, s)
	h.turned = h.turned || h.diverted[host] != diverted
}

// tellPlainly notes what plain HTTP has to tell callers of a host.
func (h *Hosts) tellPlainly(host string, was, now treatment) {
	if was.verdict == now.verdict {
		return
	}
	if was.refused() {
		h.refused.take(host, was.verdict)
	}
	if now.refused() {
		h.refused.add(host, now.verdict)
	}
	h.plainly = h.plainly || was.refused() || now.refused()
}

// compare holds a host against the table.
func (h *Hosts) compare(host string, now treatment, s polder.Service) {
	there, listed := h.table[host]
	gone := now == treatment{}
	delete(h.former, host)
	delete(h.urgent, host)
	delete(h.pending, host)
	delete(h.diverted, host)
	switch {
	case gone && !listed, listed && now == there:
		return
	case h.outside[host] && !gone: // only a broken glass permitted it here, and something else does now
		h.urgent[host] = true
	case below(host, h.wildcards): // who it belongs to is in the wildcards' routes as well
		h.urgent[host] = true
	case gone && there.shared():
		h.former[host] = s
		h.pending[host] = true
	case listed && now.alike(there):
	case listed && h.mayDivert(host, there, now):
		h.diverted[host], h.pending[host] = true, true
	case !listed && now.refused() && now.shared() && h.refused.few(): // stays led by its name
	case !listed && now.shared():
		h.pending[host] = true
	default:
		h.urgent[host] = true
	}
}

// Changed tells whether the resources of the node must be made again at once: the
// table would lead some host elsewhere than the law says, or cannot tell of it.
func (h *Hosts) Changed() bool { return h.judged == nil || h.stale || len(h.urgent) > 0 }

// Pending is the number of hosts that are not in the table, though they might, or
// are still in it as they were, and of ways out that came after it and that nobody takes
// any more. Whoever calls Node then ends the detour that the former take.
func (h *Hosts) Pending() int {
	spare := maps.Clone(h.added)
	if len(spare) > 0 {
		for _, t := range h.led {
			delete(spare, t.wayOut())
		}
	}
	return len(h.pending) + len(spare)
}

// Former are the hosts that the table still names and nobody has, with the service
// as it was that they belonged to. The caller must not change the map.
func (h *Hosts) Former() map[string]polder.Service { return h.former }

// ByName gives the clusters of hosts that are not in the table, or diverted, as far as they
// differ from those that it gave before. With them come the ways out that nobody took
// until now, who is diverted if that is different, and with a host that is refused, or is
// not any more, the routes of plain HTTP. Call it after Node, if that is called.
//
// The cluster of a host that is not diverted any more stays for some seconds: a
// connection that Envoy took before has the filter of then, and may not have said its
// name yet. Lingering tells when to call it for those.
func (h *Hosts) ByName(at time.Time) (set []Resource, remove []Key) {
	for host, since := range h.left {
		if at.Sub(since) >= lingers {
			h.touched[host] = true
			delete(h.left, host)
		}
	}
	if h.turned {
		set = append(set, h.divert(at))
	}
	ways := map[string][]string{} // hosts that are led to them
	for host := range h.touched {
		now, wanted := h.treated[host]
		_, listed := h.table[host]
		_, lingering := h.left[host]
		if listed && !h.diverted[host] && !(lingering && now.shared()) || isWildcard(host) {
			wanted = false
		}
		was, led := h.led[host]
		switch {
		case wanted && !(led && was.alike(now)):
			set = append(set, h.newWay(host, now)...)
			set = append(set, newResource(TypeCluster, byName(host), byNameCluster(host, now.ledTo())))
			h.led[host] = now
			ways[now.ledTo()] = append(ways[now.ledTo()], host)
		case !wanted && led:
			remove = append(remove, Key{TypeCluster, byName(host)})
			delete(h.led, host)
		}
	}
	clear(h.touched)
	if h.plainly {
		set, h.plainly = append(set, newResource(TypeRoute, routesHTTP, plainRoutes(h.node.HTTPS.Port(), h.refused))), false
	}
	h.Ways = h.Ways.with(ways)
	h.joined = h.Ways.joinedBy(ways)
	return set, remove
}

// divert gives the filter, and notes whom it does not have any more.
func (h *Hosts) divert(at time.Time) Resource {
	for host := range h.marked {
		if !h.diverted[host] {
			h.touched[host], h.left[host] = true, at
		}
	}
	h.marked, h.turned = maps.Clone(h.diverted), false
	for host := range h.marked {
		delete(h.left, host)
	}
	return newResource(TypeExtension, filterDiverted, divertedFilter(slices.Sorted(maps.Keys(h.marked))))
}

// Lingering tells whether the cluster of some host that is not diverted any more was kept
// for long enough: ByName then removes it.
func (h *Hosts) Lingering(at time.Time) bool {
	for _, since := range h.left {
		if at.Sub(since) >= lingers {
			return true
		}
	}
	return false
}

// newWay gives the way out that a host is led to, if the node does not have it yet.
func (h *Hosts) newWay(host string, now treatment) []Resource {
	a, owned := h.approved(host)
	out := now.wayOut()
	if out == "" || h.passes[out] || !owned {
		return nil
	}
	p := passOf(a)
	h.passes[out], h.added[out] = true, true
	h.Ways = h.Ways.including(p)
	return passResources(p, h.node)
}

// Joined tells what the last ByName added to the Ways: hosts that are led to them by
// their names.
func (h *Hosts) Joined() []Way { return h.joined }

// Node gives the resources of the node for what the law said, with a table of all
// hosts. It costs time in proportion to the number of services.
func (h *Hosts) Node(n NodeConfig) []Resource {
	h.begin()
	h.stale = false
	h.table = maps.Clone(h.treated)
	h.node = n
	h.plainly = false
	clear(h.former)
	clear(h.diverted)
	h.divert(n.Now)
	clear(h.added)
	clear(h.urgent)
	clear(h.pending)
	for host := range h.led {
		h.touched[host] = true
	}
	t := sortHosts(slices.Collect(maps.Values(h.judged)), n.Region, h.Traces)
	for host := range t.led {
		h.touched[host] = true
		delete(h.table, host)
	}
	h.refused = t.refusedHosts
	h.outside = make(map[string]bool, len(t.outside))
	for _, host := range t.outside {
		h.outside[host] = true
	}
	h.passes = map[string]bool{} // without those that are kept for their connections alone
	for _, p := range t.passes {
		h.passes[p.name] = true
	}
	var kept []pass
	h.Ways, kept = h.Ways.next(t.passes, h.approved, n.Now)
	t.passes = append(t.passes, kept...)
	slices.SortFunc(t.passes, byPassName)
	return t.resources(n)
}

// approved is the law's word on the service that has a host.
func (h *Hosts) approved(host string) (law.Approved, bool) {
	t, owned := h.treated[host]
	if !owned {
		return law.Approved{}, false
	}
	a, known := h.judged[t.owner]
	return a, known
}
