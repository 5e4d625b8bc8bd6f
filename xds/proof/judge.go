package proof

import (
	"fmt"
	"slices"
	"strings"

	"github.com/polder/polder"
)

// judge proves one unit.
func (v *view) judge(u unit) {
	if u.Type == ofName {
		v.judgeName(u.Name)
		return
	}
	f := v.facts(u.Key)
	if f == nil {
		return
	}
	if u.part != whole {
		v.judgeHost(f, f.routes.hosts[u.part])
		return
	}
	for _, x := range f.faults {
		v.report(v.concerned(f, x), extend(f.path(), x.path...), v.addressOf(x), x.reason)
	}
	for _, x := range f.clients {
		if !v.site().Clients {
			v.report(v.concerned(f, x), extend(f.path(), x.path...), v.addressOf(x), x.reason)
		}
	}
	if slices.Contains(v.site().Local, f.key.Name) && f.key.Type == typeCluster {
		v.report(nil, f.path(), f.key.Name, "takes the name of the cluster that ends in this node's Polder")
	}
	switch {
	case f.listener != nil:
		v.judgeListener(f)
	case f.scope != nil:
		v.judgeScope(f)
	case f.routes != nil:
		v.judgeDomains(f)
	case f.cluster != nil:
		v.judgeCluster(f)
		if host, ok := v.byName(f.key.Name); ok {
			v.judgeByName(f, host)
		}
	case f.endpoints != nil:
		for _, p := range f.endpoints.places {
			v.judgeStray(f, p)
		}
	}
}

// units lists the parts that a resource is judged in.
func (f *facts) units() []unit {
	list := []unit{{f.key, whole}}
	if f.routes != nil {
		for i := range f.routes.hosts {
			list = append(list, unit{f.key, i})
		}
	}
	return list
}

// addressOf says what a fault reaches: what the construct itself says, and what
// the clusters that it mentions lead to.
func (v *view) addressOf(x fault) string {
	var list []string
	for _, name := range x.strings {
		if f := v.facts(Key{typeCluster, name}); f != nil && f.cluster != nil {
			var places []string
			for _, p := range v.placesOf(f.cluster) {
				places = append(places, p.address)
			}
			name = fmt.Sprintf("cluster %s (%s)", name, strings.Join(places, ", "))
		}
		list = append(list, name)
	}
	switch {
	case x.address == "" && len(list) == 0:
		return unknown
	case x.address == "":
		return strings.Join(list, ", ")
	case len(list) == 0:
		return x.address
	}
	return x.address + ", such as " + strings.Join(list, ", ")
}

// placesOf lists the places of a cluster that is not made of others.
func (v *view) placesOf(c *clusterFacts) []place {
	if c.eds == "" {
		return c.places
	}
	if f := v.facts(Key{typeEndpoint, c.eds}); f != nil && f.endpoints != nil {
		return f.endpoints.places
	}
	return nil
}

// concerned finds the services whose callers a fault concerns.
func (v *view) concerned(f *facts, x fault) []polder.ServiceName {
	switch {
	case len(x.domains) > 0:
		return v.ownersOf(x.domains)
	case f.listener != nil && f.listener.entry != nil:
		return v.ownersOf([]string{f.key.Name})
	case f.listener != nil && f.listener.internal && f.listener.byName == nil:
		return v.users(f.key)
	case x.chain != "" && f.listener != nil:
		return v.servicesOf(f.listener, x.chain)
	case f.routes != nil:
		var all []string
		for _, h := range f.routes.hosts {
			all = append(all, h.domains...)
		}
		return v.ownersOf(all)
	case f.scope != nil:
		return v.ownersOf([]string{f.scope.key})
	case f.key.Type == typeCluster || f.key.Type == typeEndpoint:
		return v.users(f.key)
	}
	return nil
}

func (v *view) ownersOf(domains []string) []polder.ServiceName {
	var list []polder.ServiceName
	for _, d := range domains {
		if e := v.owner(d); e != nil {
			list = append(list, e.name)
		}
	}
	return list
}

// servicesOf lists the services whose connections a chain takes.
func (v *view) servicesOf(l *listenerFacts, chain string) []polder.ServiceName {
	var list []polder.ServiceName
	for domain, to := range l.byName {
		if name, _ := v.book.owners.get(domain); to == chain && name != "" {
			list = append(list, name)
		}
	}
	return list
}

// users finds the services whose traffic comes to a cluster, a load assignment or
// a listener of this Envoy. It looks at everything, and is for messages only.
func (v *view) users(k Key) []polder.ServiceName { return v.usersWithin(k, maxNesting) }

func (v *view) usersWithin(k Key, depth int) []polder.ServiceName {
	if depth == 0 {
		return nil
	}
	if host, ok := v.byName(k.Name); ok && k.Type == typeCluster {
		return v.ownersOf([]string{host})
	}
	var list []polder.ServiceName
	leads := func(w way) bool {
		c := v.resource(Key{typeCluster, w.cluster})
		return k == Key{typeCluster, w.cluster} || c != nil && c.cluster != nil && k == Key{typeEndpoint, c.cluster.eds}
	}
	v.eachResource(func(f *facts) {
		switch {
		case f.routes != nil:
			for _, h := range f.routes.hosts {
				if slices.ContainsFunc(h.ways, leads) {
					list = append(list, v.ownersOf(h.domains)...)
				}
			}
		case f.listener != nil && f.listener.byName == nil && f.listener.internal:
			if slices.ContainsFunc(f.listener.chains, func(c chainFacts) bool { return slices.ContainsFunc(c.proxied, leads) }) {
				list = append(list, v.usersWithin(f.key, depth-1)...)
			}
		case f.listener != nil:
			for _, c := range f.listener.chains {
				if slices.ContainsFunc(c.proxied, leads) {
					list = append(list, v.servicesOf(f.listener, c.name)...)
				}
			}
		case f.cluster != nil && slices.ContainsFunc(f.cluster.members, func(m string) bool { return leads(way{cluster: m}) }):
			list = append(list, v.usersWithin(f.key, depth-1)...)
		case f.cluster != nil && k.Type == typeListener:
			if slices.ContainsFunc(f.cluster.places, func(p place) bool { return p.internal && p.address == k.Name }) {
				list = append(list, v.usersWithin(f.key, depth-1)...)
			}
		}
	})
	return list
}

func (s *state) eachResource(visit func(*facts)) {
	for k, f := range s.resources {
		if _, replaced := s.newResources[k]; !replaced {
			visit(f)
		}
	}
	for _, f := range s.newResources {
		if f != nil {
			visit(f)
		}
	}
}
