package proof

import (
	"fmt"
	"slices"
	"strings"

	"github.com/polder/polder"
)

// gate is a listener that chooses by the name in the ClientHello, with what its
// chains do.
type gate struct {
	key    Key
	path   []string
	l      *listenerFacts
	public bool // callers come to it; else peers do, or what is led by its name
	inner  bool // nothing but names leads to it
	deeds  map[string]deed
}

// otherwise is the chain for names that the listener does not know.
func (g gate) otherwise() string {
	if g.l.byName == nil && len(g.l.chains) > 0 {
		return g.l.chains[0].name // takes everything
	}
	return g.l.otherwise
}

// chain finds the chain for a host, and whether a name, its own or a wildcard,
// leads to it.
func (g gate) chain(host string) (chain string, named bool) {
	if name, found := match(func(n string) bool { _, ok := g.l.byName[n]; return ok }, host); found {
		return g.l.byName[name], true
	}
	return g.otherwise(), false
}

func (v *view) gateOf(key Key, l *listenerFacts, path []string, public bool) gate {
	g := gate{key: key, path: path, l: l, public: public, deeds: map[string]deed{"": {kind: closes}}}
	if l.diverts.filter != "" && (!public || l.quic) {
		v.report(nil, extend(path, at("listener filter", l.diverts.filter)), "connections", "diverts connections elsewhere than where callers come")
	}
	for i := range l.chains {
		c := &l.chains[i]
		d := v.deedOf(l, c, path)
		if d.ends = v.site().endOf(c.name); d.ends != 0 && (d.kind == opens || d.kind == passes) && !v.ends(d.ends) {
			v.report(v.servicesOf(l, c.name), extend(path, at("chain", c.name)), someAddress(d), "keeps connections alive that ended with a broken glass which is whole again")
		}
		if (d.kind == passes || d.kind == names) && !public {
			v.report(v.servicesOf(l, c.name), extend(path, at("chain", c.name)), someAddress(d), "passes on once more what a peer passed on")
			d.kind = strange
		}
		if !v.judgeTransport(l, c, d, path) {
			d.kind = strange
		}
		g.deeds[c.name] = d
	}
	return g
}

// findGates finds the gates of the node. Every name must be judged again when they
// change. What is wrong with them is reported where they are judged.
func (v *view) findGates() []gate {
	var gates []gate
	v.eachResource(func(f *facts) {
		if f.listener == nil || f.listener.entry != nil {
			return
		}
		v.restsOn(f.key)
		l, path := f.listener, f.key.path()
		switch {
		case l.internal:
		case v.site().servesHTTPS(l.bind):
			gates = append(gates, v.gateOf(f.key, l, path, true))
		case l.bind == canonical(v.site().Peer):
			for i := range l.chains {
				for _, w := range l.chains[i].proxied {
					gates = append(gates, v.gatesInward(extend(path, at("chain", l.chains[i].name)), w)...)
				}
			}
		}
	})
	v.eachResource(func(f *facts) {
		if l := f.listener; l != nil && l.internal && l.opens() && !slices.ContainsFunc(gates, func(g gate) bool { return g.key == f.key }) {
			g := v.gateOf(f.key, l, f.key.path(), false)
			g.inner = true
			gates = append(gates, g)
		}
	})
	slices.SortFunc(gates, func(a, b gate) int { return slices.Compare(a.path, b.path) })
	return gates
}

func (v *view) gatesInward(path []string, w way) []gate {
	path = extend(extend(path, w.path[1:]...), at("cluster", w.cluster))
	f := v.facts(Key{typeCluster, w.cluster})
	if f == nil || f.cluster == nil || f.cluster.socket.kind != internal && f.cluster.socket.kind != header {
		return nil
	}
	var gates []gate
	for _, to := range v.judgeInternalCluster(everybody, path, f.cluster) {
		gates = append(gates, v.gateOf(to.key, to.listener, extend(path, to.key.path()...), false))
	}
	return gates
}

// judgeName proves what happens to the connections for one name: a host of some
// service, or one that a listener names. It rests on the gates as well, which is not
// written down: every name is judged again when they change.
func (v *view) judgeName(host string) {
	e := v.owner(host)
	gone := e == nil
	if gone {
		e = v.former(host)
	}
	known := v.book.owners.has(host)
	for _, g := range v.gates {
		chain, named := g.chain(host)
		_, exactly := g.l.byName[host]
		if v.diverted(g.l, host) {
			if d := g.deeds[chain]; e != nil && d.kind == passes { // it keeps the connections that it had
				v.judgeDeed(e, d, extend(g.path, at("chain", chain), at("kept for", host)), host)
			}
			chain, named, exactly = g.l.diverts.chain, true, true
		}
		d := g.deeds[chain]
		switch {
		case e != nil && !e.opened && d.kind == opens && d.keyOf == "" && (!g.public && !named || gone):
			// Envoy is given no key for it: see CheckSecret.
		case e != nil:
			v.judgeDeed(e, d, extend(g.path, at("chain", chain), at("host", host)), host)
		case (exactly || known && named) && (d.kind == opens || d.kind == passes):
			v.report(nil, extend(g.path, at("chain", chain), at("host", host)), someAddress(d), "takes connections for a name that nobody owns")
		}
	}
}

// judgeDeed proves what is done with the connections for a host of a service.
func (v *view) judgeDeed(e *entry, d deed, path []string, host string) {
	whose := []polder.ServiceName{e.name}
	switch {
	case d.kind == opens && !e.opened:
		v.report(whose, path, "requests for "+host, v.book.mayNot(e))
	case d.kind == opens && d.keyOf != "" && d.keyOf != e.name:
		v.report(whose, path, "requests for "+host, fmt.Sprintf("are opened with the key of service %s", d.keyOf))
	case d.kind == opens && d.log != "" && !e.records[polder.RecordAccessLog]:
		v.report(whose, path, "file "+d.log, "notes requests whose policy does not permit it here")
	case d.kind == opens && d.traced && !e.records[polder.RecordTraces]:
		v.report(whose, path, "a tracer", "is told of requests whose policy keeps no traces here")
	case d.kind == opens && e.ends[v.site().Region] != 0 && d.ends != e.ends[v.site().Region]:
		v.report(whose, path, "requests for "+host, outlives(e.ends[v.site().Region]))
	case d.kind == passes && !e.passed:
		v.report(whose, path, someAddress(d), "is passed on, though the owner refuses callers outside the allowed regions")
	case d.kind == passes:
		for region, address := range d.regions {
			if !slices.Contains(e.receivers, region) {
				v.report(whose, path, address, fmt.Sprintf("is passed on to region %s, which may not have it now; it is allowed in %v", region, e.allowed))
			} else if second := e.ends[region]; second != 0 && d.ends != second {
				v.report(whose, path, address, outlives(second))
			}
		}
	}
}

// byName tells whose connections are led to a cluster of this name by their name.
func (s *state) byName(cluster string) (host string, ok bool) {
	if s.site().ByName == "" {
		return "", false
	}
	return strings.CutPrefix(cluster, s.site().ByName)
}

// judgeByName proves a cluster that the connections for one host are led to by
// their name: it leads to the listener that opens what this region may open, to one on
// the way to a peer, or to one that does nothing but end connections.
func (v *view) judgeByName(f *facts, host string) {
	v.restsOn(Key{onGates, ""})
	path := f.key.path()
	e := v.owner(host)
	whose := func() []polder.ServiceName { return v.ownersOf([]string{host}) }
	switch {
	case e == nil:
		v.report(nil, path, at("host", host), "takes connections for a name that nobody owns")
		return
	case len(f.cluster.members) == 0:
		v.judgeLedTo(whose, e, path, f.cluster, host)
	}
	for _, m := range f.cluster.members {
		path := extend(path, at("cluster", m))
		if to := v.facts(Key{typeCluster, m}); to != nil && to.cluster != nil { // that it exists is judged for every cluster
			v.judgeLedTo(whose, e, path, to.cluster, host)
		}
	}
}

// judgeLedTo proves where the connections for a host end that are led to a cluster,
// which is not made of others.
func (v *view) judgeLedTo(whose callers, e *entry, path []string, c *clusterFacts, host string) {
	if c.socket.kind != internal && c.socket.kind != header || len(c.members) > 0 {
		v.report(whose(), path, v.firstPlace(c), "leads connections that are not opened out of this Envoy")
		return
	}
	for _, to := range v.judgeInternalCluster(whose, path, c) {
		path := extend(path, to.key.path()...)
		if i := slices.IndexFunc(v.gates, func(g gate) bool { return g.key == to.key }); i >= 0 {
			chain, _ := v.gates[i].chain(host)
			v.judgeDeed(e, v.gates[i].deeds[chain], extend(path, at("chain", chain), at("host", host)), host)
			continue
		}
		if to.listener.closes() {
			continue
		}
		d := deed{kind: passes, regions: map[polder.RegionName]string{}}
		v.followInside(whose, path, to.listener, 1, d.regions)
		v.judgeDeed(e, d, path, host)
	}
}
