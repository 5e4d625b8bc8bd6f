package proof

import (
	"fmt"
	"slices"

	"github.com/polder/polder"
)

// maxClusters bounds how many clusters one way may go through.
const maxClusters = 16

// judgeScope proves that the connections for a host find the routes of its own
// service, and that this region may serve it.
func (v *view) judgeScope(f *facts) { v.judgeLead(f.path(), f.scope.key, f.scope.routes) }

// judgeLead proves that callers of a host find the routes of its own service, and
// that this region may serve it.
func (v *view) judgeLead(path []string, host, routes string) {
	e := v.owner(host)
	if e == nil {
		v.report(nil, path, "host "+host, "is for a host that nobody owns")
		return
	}
	name := []polder.ServiceName{e.name}
	if !e.opened {
		v.report(name, path, at("routes", routes), v.book.mayNot(e))
	}
	to := v.facts(Key{typeRoute, routes})
	if to == nil || to.routes == nil {
		v.report(name, path, at("routes", routes), "leads to routes that do not exist")
		return
	}
	h, found := to.routes.choose(host)
	if !found || h.local() {
		return // every request is answered on the spot
	}
	for _, d := range h.domains {
		if other := v.owner(d); other != nil && other != e {
			v.report(name, extend(path, append(to.key.path(), at("virtual host", h.name))...), at("host", d),
				fmt.Sprintf("leads callers of %s to the routes of service %s", host, other.name))
			return
		}
	}
}

// choose finds the virtual host for a host, as Envoy does.
func (r *routesFacts) choose(host string) (virtualHost, bool) {
	domain, found := match(func(name string) bool { return r.index(name) >= 0 }, host)
	if !found {
		return virtualHost{}, false
	}
	return r.hosts[r.index(domain)], true
}

func (r *routesFacts) index(domain string) int {
	return slices.IndexFunc(r.hosts, func(h virtualHost) bool { return slices.Contains(h.domains, domain) })
}

// judgeDomains proves that each virtual host takes the requests of its own
// service and of nobody else: above all that no wildcard captures what lies
// below it and belongs to another service.
func (v *view) judgeDomains(f *facts) {
	byDomain := map[string]int{}
	for i, h := range f.routes.hosts {
		for _, d := range h.domains {
			if _, twice := byDomain[d]; twice {
				v.report(v.ownersOf([]string{d}), extend(f.path(), at("virtual host", h.name)), at("host", d), "is named by two virtual hosts")
			}
			byDomain[d] = i
		}
	}
	has := func(name string) bool { _, ok := byDomain[name]; return ok }
	for i, h := range f.routes.hosts {
		if h.local() {
			continue
		}
		for _, d := range h.domains {
			e := v.owner(d)
			if e == nil || d[0] != '*' {
				continue // a stranger's domain is judged with the virtual host
			}
			for _, host := range v.below(d) {
				other := v.owner(host)
				if other == nil || other == e {
					continue
				}
				if domain, _ := match(has, host); byDomain[domain] == i {
					v.report([]polder.ServiceName{other.name}, extend(f.path(), at("virtual host", h.name), at("domain", d)),
						v.firstAddress(h), fmt.Sprintf("captures requests for %s and leads them to service %s", host, e.name))
				}
			}
		}
	}
}

// judgeHost proves that requests for one virtual host reach the instances of
// its service in this region, or the activator under its name.
func (v *view) judgeHost(f *facts, h virtualHost) {
	if h.local() {
		return
	}
	path := extend(f.path(), at("virtual host", h.name))
	var e *entry
	for _, d := range h.domains {
		o := v.owner(d)
		switch {
		case o == nil:
			v.report(v.ownersOf(h.domains), extend(path, at("domain", d)), v.firstAddress(h), fmt.Sprintf("takes requests for %s, which nobody owns", d))
		case e != nil && o != e:
			v.report([]polder.ServiceName{e.name, o.name}, extend(path, at("domain", d)), v.firstAddress(h),
				fmt.Sprintf("leads services %s and %s to one place", e.name, o.name))
		default:
			e = o
		}
	}
	if e == nil {
		return
	}
	for _, w := range h.ways {
		v.judgeWay(e, h, extend(path, w.path...), w.cluster, 0)
	}
}

// judgeWay follows one way of a service's requests to addresses.
func (v *view) judgeWay(e *entry, h virtualHost, path []string, name string, depth int) {
	whose := []polder.ServiceName{e.name}
	path = extend(path, at("cluster", name))
	f := v.facts(Key{typeCluster, name})
	switch {
	case f == nil || f.cluster == nil:
		v.report(whose, path, at("cluster", name), "leads to a cluster that does not exist")
		return
	case depth > maxClusters:
		v.report(whose, path, at("cluster", name), "goes through too many clusters")
		return
	}
	for _, member := range f.cluster.members {
		v.judgeWay(e, h, path, member, depth+1)
	}
	if f.cluster.eds != "" && v.facts(Key{typeEndpoint, f.cluster.eds}) == nil {
		v.report(whose, path, at("endpoints", f.cluster.eds), "leads to endpoints that do not exist")
	}
	for _, p := range v.placesOf(f.cluster) {
		if reason := v.mayReach(e, h, f.cluster, p); reason != "" {
			v.report(whose, extend(path, p.path), p.address, reason)
		}
	}
}

// mayReach tells what forbids that a service's opened requests go to a place; ""
// if nothing does.
func (v *view) mayReach(e *entry, h virtualHost, c *clusterFacts, p place) string {
	switch {
	case !e.opened:
		return v.book.mayNot(e)
	case p.internal:
		return "is another listener of this Envoy, which could send requests anywhere"
	case v.isRemoteActivator(p):
		if reason := v.provesActivator(c.socketFor(p)); reason != "" {
			return reason
		}
		return v.namesService(e, h)
	case c.socketFor(p).kind != clear:
		return "is reached in a way that no instance of this region understands"
	case p.pipe && p.address == v.site().Activator:
		return v.namesService(e, h)
	case p.pipe:
		return "is a socket that the book does not know"
	case !v.has(e, p.address):
		return v.strangeness(e, p.address)
	}
	// The configuration may give two services one address; of instances that
	// were seen at one, all but one are gone, and nobody knows which.
	for _, h := range v.observed(p.address) {
		if h.service != e.name {
			return fmt.Sprintf("is also an instance of service %s", h.service)
		}
	}
	return ""
}

// isRemoteActivator tells whether a place is the activator, for Envoys on other machines.
func (v *view) isRemoteActivator(p place) bool {
	return v.site().ActivatorAt.IsValid() && !p.pipe && !p.internal && p.address == canonical(v.site().ActivatorAt)
}

// provesActivator tells what is wrong unless the other side must prove, with
// mTLS, that it is a peer of this region.
func (v *view) provesActivator(s socket) string {
	peers := peerName{v.site().identity(v.site().Region) + "peer/", false}
	switch {
	case s.kind != tlsKind:
		return "is the activator on another machine, reached in clear"
	case s.tls.provided != v.site().Clients || s.tls.identity == "" || s.tls.identity != v.site().Identity || s.tls.trust == "" || s.tls.trust != v.site().Trust:
		return "is the activator on another machine, and nobody checks who signed whose certificate"
	case !slices.Equal(s.tls.peerNames, []peerName{peers}):
		return fmt.Sprintf("is the activator on another machine, and others than peers of region %s may take its place", v.site().Region)
	}
	return ""
}

// namesService tells what is wrong unless the activator is told the service,
// and no other.
func (v *view) namesService(e *entry, h virtualHost) string {
	if v.site().Clients {
		return "" // no header does: it goes by the host that is called
	}
	header, set := v.site().ActivatorHeader, false
	for _, m := range h.sets {
		if m.name != header {
			continue
		}
		if !m.overwrite || m.value != string(e.name) {
			return fmt.Sprintf("is the activator, and the header %s may name another service than %s", header, e.name)
		}
		set = true
	}
	if !set {
		return fmt.Sprintf("is the activator, and the caller chooses the service, because nothing sets the header %s", header)
	}
	return ""
}

// strangeness says whose an address is, if not the service's.
func (v *view) strangeness(e *entry, address string) string {
	for h := range v.holdersOf(address) {
		switch {
		case h.service == e.name && h.region != v.site().Region:
			return fmt.Sprintf("is an address of this service in region %s: requests may be opened only where they are served", h.region)
		case h.service != e.name:
			return fmt.Sprintf("is an address of service %s in region %s", h.service, h.region)
		}
	}
	if regions := v.peersAt(address); len(regions) > 0 {
		return fmt.Sprintf("is a peer in region %s, and the request is in clear", regions[0])
	}
	return fmt.Sprintf("is no address of service %s in region %s", e.name, v.site().Region)
}

// firstAddress is where a virtual host leads, for messages.
func (v *view) firstAddress(h virtualHost) string {
	if len(h.ways) == 0 {
		return unknown
	}
	name := h.ways[0].cluster
	for range maxClusters {
		f := v.facts(Key{typeCluster, name})
		if f == nil || f.cluster == nil {
			break
		}
		if places := v.placesOf(f.cluster); len(places) > 0 {
			return places[0].address
		}
		if len(f.cluster.members) == 0 {
			break
		}
		name = f.cluster.members[0]
	}
	return at("cluster", name)
}
