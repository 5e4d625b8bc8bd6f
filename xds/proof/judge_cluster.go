package proof

import (
	"fmt"
	"slices"
	"strings"

	"github.com/polder/polder"
)

// judgeCluster proves what holds for a cluster whoever leads to it. That it is
// lawful does not mean that everybody may be led to it.
func (v *view) judgeCluster(f *facts) {
	c, path := f.cluster, f.path()
	if !c.understood {
		return // its faults say why
	}
	for _, m := range c.members {
		if v.facts(Key{typeCluster, m}) == nil {
			v.report(v.users(f.key), path, at("cluster", m), "is made of a cluster that does not exist")
		}
	}
	if c.eds != "" {
		if v.facts(Key{typeEndpoint, c.eds}) == nil {
			v.report(v.users(f.key), path, at("endpoints", c.eds), "has endpoints that do not exist")
		}
		if c.socket.kind != clear && !v.onlyActivator(c) {
			v.report(v.users(f.key), path, at("endpoints", c.eds), "wraps what it sends to instances in a way that the proof does not follow")
		}
		for _, p := range v.placesOf(c) {
			if v.isRemoteActivator(p) {
				if reason := v.provesActivator(c.socketFor(p)); reason != "" {
					v.report(v.users(f.key), extend(path, p.path), p.address, reason)
				}
			}
		}
		return
	}
	switch c.socket.kind {
	case clear:
		for _, p := range c.places {
			v.judgeStray(f, p)
		}
	case tlsKind:
		v.judgePeerCluster(everybody, path, c)
	case internal, header:
		v.judgeInternalCluster(everybody, path, c)
	}
}

// judgeStray proves that an address, reached in clear, is the activator or an
// instance of some service that this region serves.
func (v *view) judgeStray(f *facts, p place) {
	path := extend(f.path(), p.path)
	switch {
	case p.internal:
		v.report(v.users(f.key), path, at("listener", p.address), "leads into this Envoy in a way that the proof does not follow")
	case p.pipe:
		if p.address != v.site().Activator {
			v.report(v.users(f.key), path, p.address, "is a socket that the book does not know")
		}
	case v.isRemoteActivator(p):
		if f.cluster == nil {
			break // how it is reached is judged with the cluster
		}
		if reason := v.provesActivator(f.cluster.socketFor(p)); reason != "" {
			v.report(v.users(f.key), path, p.address, reason)
		}
	case v.isInstance(p.address):
	default:
		var reasons []string
		var services []polder.ServiceName
		for h := range v.holdersOf(p.address) {
			if e := v.service(h.service); e != nil && h.region == v.site().Region && !e.opened {
				reasons = append(reasons, v.book.mayNot(e))
			} else {
				reasons = append(reasons, fmt.Sprintf("is an address of service %s in region %s", h.service, h.region))
			}
			services = append(services, h.service)
		}
		if regions := v.peersAt(p.address); len(regions) > 0 {
			reasons = append(reasons, fmt.Sprintf("is a peer in region %s, reached in clear", regions[0]))
		}
		if len(reasons) == 0 {
			reasons = []string{fmt.Sprintf("is no address in region %s that the book knows", v.site().Region)}
		}
		v.report(append(services, v.users(f.key)...), path, p.address, strings.Join(reasons, "; "))
	}
}

// judgePeerCluster proves that a cluster reaches, with mTLS, only peers of the
// regions whose identities it accepts. It gives these regions.
func (v *view) judgePeerCluster(whose callers, path []string, c *clusterFacts) []polder.RegionName {
	t := c.socket.tls
	first := "peers"
	if len(c.places) > 0 {
		first = c.places[0].address
	}
	if t.identity == "" || t.identity != v.site().Identity {
		v.report(whose(), path, first, "shows peers no certificate of this gateway")
	}
	if t.trust == "" || t.trust != v.site().Trust {
		v.report(whose(), path, first, "does not check who signed the peer's certificate")
	}
	if len(t.peerNames) == 0 {
		v.report(whose(), path, first, "accepts a peer of any region, for it asks for no name")
	}
	var regions []polder.RegionName
	for _, n := range t.peerNames {
		region, ok := v.regionOf(n)
		if !ok {
			v.report(whose(), path, first, fmt.Sprintf("accepts peers named %q, which is not bound to one region", n.text))
			continue
		}
		regions = append(regions, region)
	}
	for _, p := range c.places {
		at := v.peersAt(p.address)
		if p.internal || p.pipe || !slices.ContainsFunc(at, func(r polder.RegionName) bool { return slices.Contains(regions, r) }) {
			v.report(whose(), extend(path, p.path), p.address, fmt.Sprintf("is no peer in %v", regions))
		}
	}
	return regions
}

// regionOf finds the one region whose peers can have a name.
func (v *view) regionOf(n peerName) (polder.RegionName, bool) {
	rest, ok := strings.CutPrefix(n.text, v.site().identity(""))
	if !ok {
		return "", false
	}
	region, _, ended := strings.Cut(rest, "/")
	return polder.RegionName(region), ended && region != ""
}

// judgeInternalCluster proves that a cluster leads to listeners of this Envoy
// and nowhere else, and gives them.
func (v *view) judgeInternalCluster(whose callers, path []string, c *clusterFacts) []*facts {
	s := c.socket
	if s.kind == header {
		s = *s.inner
	}
	if s.kind == tlsKind {
		v.report(whose(), path, v.firstPlace(c), "sends the caller's address in clear, before TLS begins")
		return nil
	}
	if s.kind != internal || s.inner.kind != clear {
		v.report(whose(), path, v.firstPlace(c), "wraps bytes in a way that the proof does not follow")
		return nil
	}
	var listeners []*facts
	for _, p := range c.places {
		if !p.internal {
			v.report(whose(), extend(path, p.path), p.address, "is outside this Envoy, where only its own listeners are meant")
			continue
		}
		f := v.facts(Key{typeListener, p.address})
		if f == nil || f.listener == nil || !f.listener.internal {
			v.report(whose(), extend(path, p.path), at("listener", p.address), "leads to a listener that does not exist")
			continue
		}
		listeners = append(listeners, f)
	}
	return listeners
}

func (v *view) firstPlace(c *clusterFacts) string {
	if len(c.places) == 0 {
		return unknown
	}
	return c.places[0].address
}
