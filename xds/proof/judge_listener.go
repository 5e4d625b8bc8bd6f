package proof

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/polder/polder"
)

// maxNesting bounds how many listeners of this Envoy a connection may go through.
const maxNesting = 6

// deed is what a filter chain does with connections, once it is understood.
type deed struct {
	kind    deedKind
	ends    int64                        // the second at which the chain goes with its connections; 0 for never
	log     string                       // the file that its requests are noted in
	traced  bool                         // somebody is told of its requests as spans
	keyOf   polder.ServiceName           // whose resident key it opens with; "" for those on demand
	regions map[polder.RegionName]string // passed to, with an address there
}

type deedKind int

const (
	strange deedKind = iota // not lawful for anybody; the reason was reported
	closes                  // ends the connection, unopened, with a fixed answer
	opens                   // decrypts it and reads requests
	passes                  // passes it on unopened
	names                   // leads it to the cluster of its name, which is proved by itself
)

// judgeListener proves a listener from the outside: what it is for is told by
// where it listens. Those inside Envoy are judged where they are reached.
func (v *view) judgeListener(f *facts) {
	l, path := f.listener, f.key.path()
	switch {
	case l.entry != nil:
		v.judgeEntry(f)
	case l.internal:
		v.restsOn(Key{onGates, ""})
		if slices.ContainsFunc(v.gates, func(g gate) bool { return g.inner && g.key == f.key }) {
			v.judgeNames(f.key, l, path, false)
		}
	case l.quic && !v.site().servesHTTPS(l.bind):
		v.report(nil, path, l.bind, "listens for datagrams where the book knows of no public entrypoint")
	case v.site().servesHTTPS(l.bind):
		v.judgeKept(v.judgeNames(f.key, l, path, true))
	case v.site().servesHTTP(l.bind):
		v.judgePlain(l, path)
	case l.bind == canonical(v.site().Peer):
		v.judgePeers(l, path)
	default:
		v.report(nil, path, l.bind, "listens where the book knows of no listener")
	}
}

// judgeNames proves a listener that chooses by the name in the ClientHello: the
// public one, and the one for what peers passed on, which may not pass it on again.
// What happens to each name is proved by judgeName.
func (v *view) judgeNames(key Key, l *listenerFacts, path []string, public bool) gate {
	g := v.gateOf(key, l, path, public)
	if l.byName == nil && len(l.chains) > 1 {
		v.report(nil, path, "requests", "has several filter chains and nothing that chooses one")
	}
	if d := g.deeds[g.otherwise()]; d.kind == opens && public || d.kind == passes {
		v.report(nil, extend(path, at("chain", g.otherwise())), someAddress(d), "takes connections for names that nobody owns")
	}
	return g
}

// judgeTransport proves that QUIC is opened with a key that is there before
// anybody calls, since Envoy fetches none while a handshake waits, and that it
// is never passed on; and that nothing else is taken for QUIC.
func (v *view) judgeTransport(l *listenerFacts, c *chainFacts, d deed, path []string) bool {
	inside := c.socket.kind == tlsKind && c.socket.tls.quic
	switch {
	case l.quic && d.kind != strange && (!inside || d.kind != opens || d.keyOf == ""):
		v.report(v.servicesOf(l, c.name), extend(path, at("chain", c.name)), "datagrams", "does something else with QUIC than open it with the resident key of a service")
	case !l.quic && inside:
		v.report(v.servicesOf(l, c.name), extend(path, at("chain", c.name)), "connections", "takes for QUIC what is none")
	default:
		return true
	}
	return false
}

// outlives says that connections would stay when a broken glass is whole again.
func outlives(second int64) string {
	return fmt.Sprintf("is permitted only by a broken glass, until %s, and the chain's connections would not end then", time.Unix(second, 0).UTC().Format(time.RFC3339))
}

func someAddress(d deed) string {
	list := make([]string, 0, len(d.regions))
	for _, a := range d.regions {
		list = append(list, a)
	}
	if len(list) == 0 {
		return "requests"
	}
	return slices.Min(list)
}

// deedOf finds out what a chain does, and reports what makes it lawful for nobody.
func (v *view) deedOf(l *listenerFacts, c *chainFacts, path []string) deed {
	path = extend(path, at("chain", c.name))
	whose := func() []polder.ServiceName { return v.servicesOf(l, c.name) }
	report := func(address, reason string) deed {
		v.report(whose(), path, address, reason)
		return deed{kind: strange}
	}
	switch {
	case c.http != nil && c.socket.kind == tlsKind:
		return v.judgeOpening(whose, c, path)
	case c.http != nil:
		return report("requests", "reads requests that are not encrypted")
	case c.socket.kind != clear:
		return report(v.firstOf(c.proxied), "opens connections and does with what is inside as the proof does not understand")
	case len(c.sinks) > 0:
		return report(c.sinks[0].name(), "tells of connections that this region may know nothing of")
	case c.byName != "" && c.byName == v.site().ByName:
		return deed{kind: names}
	case c.byName != "":
		return report(at("clusters", c.byName+"..."), "lets the caller choose among clusters that the book does not know")
	case len(c.proxied) > 0:
		d := deed{kind: passes, regions: map[polder.RegionName]string{}}
		for _, w := range c.proxied {
			v.follow(whose, extend(path, w.path[1:]...), w.cluster, 0, d.regions)
		}
		return d
	case c.answers:
		return deed{kind: closes}
	}
	return deed{kind: strange} // a fault says why
}

// judgeOpening proves that a chain fetches the key when a caller asks for a
// name, that its routes exist, and that only the book's sinks are told.
func (v *view) judgeOpening(whose callers, c *chainFacts, path []string) deed {
	t := c.socket.tls
	keyOf, resident := v.site().residentOf(t.identity)
	switch {
	case t.identity != "" && t.onDemand:
		v.report(whose(), path, at("secret", t.identity), "opens connections with a key on demand and another that is there before anybody calls")
	case t.identity != "" && !resident:
		v.report(whose(), path, at("secret", t.identity), "opens connections with a key that is there before anybody calls")
	case resident:
		if e := v.service(keyOf); e == nil || !e.resident {
			v.report(append(whose(), keyOf), path, at("secret", t.identity), "holds a key before anybody calls, which the policy does not permit here")
		}
	case !t.onDemand:
		v.report(whose(), path, "a key", "opens connections with a key that is not chosen by the name in the ClientHello")
	}
	if t.onDemand && t.resumes {
		v.report(whose(), path, "sessions", "takes up sessions that began with a key which may be gone")
	}
	if t.trust != "" || t.wantsPeer || len(t.peerNames) > 0 {
		v.report(whose(), path, at("secret", t.trust), "asks callers for certificates")
	}
	if c.http.routes != "" && v.facts(Key{typeRoute, c.http.routes}) == nil {
		v.report(whose(), path, at("routes", c.http.routes), "leads to routes that do not exist")
	}
	d := deed{kind: opens, keyOf: keyOf}
	for _, s := range c.sinks {
		v.judgeSink(whose, path, s)
		d.log = cmp.Or(d.log, s.file)
		d.traced = d.traced || s.tracer
	}
	return d
}

func (v *view) judgeSink(whose callers, path []string, s sink) {
	site := v.site()
	switch {
	case s.file != "" && slices.Contains(site.LogFiles, s.file):
	case s.cluster != "" && slices.Contains(site.Local, s.cluster):
	default:
		v.report(whose(), extend(path, s.path[1:]...), s.name(), "tells of requests where the book knows of no sink")
	}
}

// name says what a sink is.
func (s sink) name() string {
	switch {
	case s.file != "":
		return "file " + s.file
	case s.cluster != "":
		return at("cluster", s.cluster)
	}
	return "a sink"
}

func (v *view) firstOf(ways []way) string {
	return v.firstAddress(virtualHost{ways: ways})
}

// follow goes after a connection that is passed on unopened, and notes the
// regions it can come to. On its way it may go through listeners of this Envoy.
func (v *view) follow(whose callers, path []string, name string, depth int, regions map[polder.RegionName]string) {
	path = extend(path, at("cluster", name))
	f := v.facts(Key{typeCluster, name})
	if f == nil || f.cluster == nil {
		v.report(whose(), path, at("cluster", name), "leads to a cluster that does not exist")
		return
	}
	if depth > maxNesting {
		v.report(whose(), path, at("cluster", name), "goes through too many clusters and listeners, or in a circle")
		return
	}
	c := f.cluster
	for _, m := range c.members {
		v.follow(whose, path, m, depth+1, regions)
	}
	switch c.socket.kind {
	case tlsKind:
		for _, region := range v.judgePeerCluster(whose, path, c) {
			address := fmt.Sprintf("peers in %s", region)
			for _, p := range c.places {
				if slices.Contains(v.peersAt(p.address), region) {
					address = p.address
					break
				}
			}
			regions[region] = address
		}
	case internal, header:
		for _, to := range v.judgeInternalCluster(whose, path, c) {
			v.followInside(whose, extend(path, to.key.path()...), to.listener, depth+1, regions)
		}
	default:
		for _, p := range v.placesOf(c) {
			v.report(whose(), extend(path, p.path), p.address, "is reached without mTLS, so nobody proves who takes the connection: "+v.whose(p.address))
		}
	}
}

// followInside goes through a listener of this Envoy on the way to a peer.
func (v *view) followInside(whose callers, path []string, l *listenerFacts, depth int, regions map[polder.RegionName]string) {
	for i := range l.chains {
		c := &l.chains[i]
		path := extend(path, at("chain", c.name))
		switch {
		case c.http != nil || c.socket.kind != clear:
			v.report(whose(), path, "requests", "opens connections that are only passed on here")
		case c.byName != "":
			v.report(whose(), path, at("clusters", c.byName+"..."), "lets the caller choose where a connection goes that is passed on")
		case len(c.sinks) > 0:
			v.report(whose(), path, c.sinks[0].name(), "tells of connections that this region may know nothing of")
		}
		for _, w := range c.proxied {
			v.follow(whose, extend(path, w.path[1:]...), w.cluster, depth, regions)
		}
	}
}

// whose says to whom an address belongs.
func (v *view) whose(address string) string {
	if regions := v.peersAt(address); len(regions) > 0 {
		return fmt.Sprintf("it is a peer's in region %s", regions[0])
	}
	for h := range v.holdersOf(address) {
		return fmt.Sprintf("it is service %s's in region %s", h.service, h.region)
	}
	return "nobody knows whose it is"
}

// judgePlain proves that the listener for plain HTTP answers everything by
// itself: what arrives there may belong to a service that is forbidden here.
func (v *view) judgePlain(l *listenerFacts, path []string) {
	for i := range l.chains {
		c := &l.chains[i]
		path := extend(path, at("chain", c.name))
		switch {
		case c.answers:
		case c.socket.kind != clear || c.http == nil:
			v.report(nil, path, v.firstOf(c.proxied), "does something else with plain HTTP than answer it")
		case c.http.bySNI:
			v.report(nil, path, "requests", "leads requests that are not encrypted to services")
		default:
			v.judgeAnswers(path, c.http.routes)
		}
		if len(c.sinks) > 0 {
			v.report(nil, path, c.sinks[0].name(), "tells of requests that this region may know nothing of")
		}
	}
}

func (v *view) judgeAnswers(path []string, name string) {
	path = extend(path, at("routes", name))
	f := v.facts(Key{typeRoute, name})
	if f == nil || f.routes == nil {
		v.report(nil, path, at("routes", name), "leads to routes that do not exist")
		return
	}
	for _, h := range f.routes.hosts {
		if !h.local() {
			v.report(v.ownersOf(h.domains), extend(path, at("virtual host", h.name)), v.firstAddress(h), "leads requests that are not encrypted to a service")
		}
	}
}

// judgePeers proves that the listener for peers lets in only gateways of this
// installation, and only to the listener that opens what this region may open.
func (v *view) judgePeers(l *listenerFacts, path []string) {
	for i := range l.chains {
		c := &l.chains[i]
		path := extend(path, at("chain", c.name))
		if c.answers && c.socket.kind == clear {
			continue
		}
		t := c.socket.tls
		if t == nil || !t.wantsPeer || t.trust == "" || t.trust != v.site().Trust || t.identity == "" || t.identity != v.site().Identity {
			v.report(nil, path, l.bind, "lets in connections without knowing the peer")
			continue
		}
		if len(t.peerNames) == 0 {
			v.report(nil, path, l.bind, "lets in whoever has any certificate, for it asks for no name")
		}
		for _, n := range t.peerNames {
			if _, one := v.regionOf(n); !one && n.text != v.site().identity("") {
				v.report(nil, path, l.bind, fmt.Sprintf("lets in peers named %q, who are not of this installation's regions", n.text))
			}
		}
		if len(c.sinks) > 0 {
			v.report(nil, path, c.sinks[0].name(), "tells of connections that this region may know nothing of")
		}
		if c.http != nil || len(c.proxied) == 0 {
			v.report(nil, path, "requests", "does something else with peers' connections than lead them inward")
		}
		for _, w := range c.proxied {
			v.judgeInward(extend(path, w.path[1:]...), w.cluster)
		}
	}
}

func (v *view) judgeInward(path []string, name string) {
	path = extend(path, at("cluster", name))
	f := v.facts(Key{typeCluster, name})
	if f == nil || f.cluster == nil {
		v.report(nil, path, at("cluster", name), "leads to a cluster that does not exist")
		return
	}
	c := f.cluster
	if c.socket.kind != internal && c.socket.kind != header || len(c.members) > 0 {
		for _, p := range v.placesOf(c) {
			v.report(nil, extend(path, p.path), p.address, "takes what peers passed on somewhere else than inward")
		}
		for _, m := range c.members {
			v.report(nil, path, at("cluster", m), "takes what peers passed on somewhere else than inward")
		}
		return
	}
	for _, to := range v.judgeInternalCluster(everybody, path, c) {
		v.judgeNames(to.key, to.listener, extend(path, to.key.path()...), false)
	}
}
