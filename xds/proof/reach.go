package proof

import (
	"cmp"
	"slices"

	"github.com/polder/polder"
)

// Way is one end that traffic for a host can come to on this node.
type Way struct {
	Path    []string          // from the listener on
	Kind    WayKind           // what is at the end
	Address string            // of it
	Region  polder.RegionName // where it is, for an instance or a peer
}

// WayKind says what is at the end of a way.
type WayKind string

// The ends of ways. What the proof does not understand has none, and is a
// violation instead.
const (
	ToAnswer    WayKind = "answer"    // Envoy answers by itself
	ToInstance  WayKind = "instance"  // a request goes to an instance
	ToActivator WayKind = "activator" // a request goes to this node's activator
	ToPeer      WayKind = "peer"      // a connection is passed on, unopened, inside mTLS
	ToKey       WayKind = "key"       // Envoy asks for the key of the host
	ToSink      WayKind = "sink"      // somebody is told of the request
)

// Reach lists what a caller of a host can reach on this node, with the
// resources that were taken over. It shows what is there, and does not judge.
// host is a name, or a wildcard of the configuration.
func (c *Checker) Reach(host string) []Way {
	e := explorer{view: view{state: &c.now, rests: map[Key]struct{}{}}, host: host}
	c.now.eachResource(func(f *facts) {
		switch l := f.listener; {
		case l == nil || l.internal:
		case l.entry == nil:
			e.enter(l, f.path(), 0)
		case f.key.Name == host:
			e.request(l.entry, f.path())
		}
	})
	slices.SortFunc(e.ways, func(a, b Way) int {
		return cmp.Or(slices.Compare(a.Path, b.Path), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Address, b.Address))
	})
	return e.ways
}

// explorer follows one host through the facts.
type explorer struct {
	view
	host string
	ways []Way
}

func (e *explorer) end(kind WayKind, path []string, address string, region polder.RegionName) {
	e.ways = append(e.ways, Way{slices.Clone(path), kind, address, region})
}

func (e *explorer) enter(l *listenerFacts, path []string, depth int) {
	if depth > maxNesting {
		return
	}
	for i := range l.chains {
		c := &l.chains[i]
		named := false
		if l.byName != nil {
			chosen := l.otherwise
			if name, found := match(func(n string) bool { _, ok := l.byName[n]; return ok }, e.host); found {
				chosen, named = l.byName[name], true
			}
			if e.diverted(l, e.host) {
				chosen, named = l.diverts.chain, true
			}
			if chosen != c.name {
				continue
			}
		}
		path := extend(path, at("chain", c.name))
		if c.byName != "" {
			to := c.byName + e.host
			if e.resource(Key{typeCluster, to}) == nil {
				e.end(ToAnswer, path, "no cluster of its name", "")
			}
			e.connection(path, to, depth)
		}
		if (l.internal && !named || e.owner(e.host) == nil && e.former(e.host) != nil) && c.socket.kind == tlsKind && c.socket.tls.onDemand && len(CheckSecret(e.book, e.host)) > 0 {
			e.end(ToAnswer, path, "no key", "")
			continue
		}
		if c.socket.kind == tlsKind && c.socket.tls.onDemand {
			e.end(ToKey, path, at("secret", e.host), e.site().Region)
		}
		if c.socket.kind == tlsKind && c.http != nil && c.socket.tls.identity != "" {
			e.end(ToKey, path, at("secret", c.socket.tls.identity), e.site().Region)
		}
		for _, s := range c.sinks {
			e.end(ToSink, extend(path, s.path[1:]...), s.name(), "")
		}
		if c.answers {
			e.end(ToAnswer, path, "a fixed answer", "")
		}
		if c.http != nil {
			e.request(c.http, path)
		}
		for _, w := range c.proxied {
			e.connection(extend(path, w.path[1:]...), w.cluster, depth)
		}
	}
}

// request follows a request whose host is the connection's.
func (e *explorer) request(h *httpFacts, path []string) {
	name := h.routes
	if h.bySNI {
		scope := ""
		e.eachResource(func(f *facts) {
			if f.scope != nil && f.scope.key == e.host && (scope == "" || f.key.Name < scope) {
				scope, name = f.key.Name, f.scope.routes
			}
		})
		if scope == "" {
			e.end(ToAnswer, path, "no routes", "")
			return
		}
		path = extend(path, at("scope", e.host))
	}
	path = extend(path, at("routes", name))
	f := e.resource(Key{typeRoute, name})
	if f == nil || f.routes == nil {
		e.end(ToAnswer, path, "no routes", "")
		return
	}
	host, found := f.routes.choose(e.host)
	if !found || host.local() {
		e.end(ToAnswer, extend(path, at("virtual host", host.name)), "a fixed answer", "")
		return
	}
	for _, w := range host.ways {
		e.cluster(extend(path, append([]string{at("virtual host", host.name)}, w.path...)...), w.cluster, 0)
	}
}

func (e *explorer) cluster(path []string, name string, depth int) {
	path = extend(path, at("cluster", name))
	f := e.resource(Key{typeCluster, name})
	if f == nil || f.cluster == nil || depth > maxClusters {
		return
	}
	for _, m := range f.cluster.members {
		e.cluster(path, m, depth+1)
	}
	for _, p := range e.placesOf(f.cluster) {
		kind, region := ToInstance, e.site().Region
		if p.pipe && p.address == e.site().Activator || e.isRemoteActivator(p) {
			kind = ToActivator
		} else {
			for h := range e.holdersOf(p.address) {
				region = h.region
			}
		}
		e.end(kind, extend(path, p.path), p.address, region)
	}
}

// connection follows a connection that is passed on unopened.
func (e *explorer) connection(path []string, name string, depth int) {
	path = extend(path, at("cluster", name))
	f := e.resource(Key{typeCluster, name})
	if f == nil || f.cluster == nil || depth > maxNesting {
		return
	}
	for _, m := range f.cluster.members {
		e.connection(path, m, depth+1)
	}
	for _, p := range e.placesOf(f.cluster) {
		if !p.internal {
			region := polder.RegionName("")
			if regions := e.peersAt(p.address); len(regions) > 0 {
				region = regions[0]
			}
			e.end(ToPeer, extend(path, p.path), p.address, region)
			continue
		}
		if to := e.resource(Key{typeListener, p.address}); to != nil && to.listener != nil {
			e.enter(to.listener, extend(path, to.key.path()...), depth+1)
		}
	}
}
