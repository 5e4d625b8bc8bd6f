package proof

import (
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

func (r *reader) readScope(s *route.ScopedRouteConfiguration) *scopeFacts {
	f := &scopeFacts{routes: s.RouteConfigurationName}
	if fragments := s.GetKey().GetFragments(); len(fragments) == 1 {
		f.key = fragments[0].GetStringKey()
	} else {
		r.fault(fault{path: []string{at("field", "key")}, reason: "has a key that is not one name"})
	}
	return f
}

func (r *reader) readRoutes(c *route.RouteConfiguration) *routesFacts {
	f := &routesFacts{}
	common := readMutations(nil, c.RequestHeadersToAdd, c.RequestHeadersToRemove)
	for _, h := range c.VirtualHosts {
		host := virtualHost{name: h.Name, domains: h.Domains}
		host.sets = readMutations(common, h.RequestHeadersToAdd, h.RequestHeadersToRemove)
		for _, one := range h.Routes {
			host.sets = readMutations(host.sets, one.RequestHeadersToAdd, one.RequestHeadersToRemove)
			path := []string{at("route", one.Name)}
			switch action := one.Action.(type) {
			case *route.Route_Route:
				host.ways = append(host.ways, r.readAction(path, action.Route, h)...)
			case *route.Route_Redirect:
				if !action.Redirect.GetHttpsRedirect() {
					r.fault(fault{path: append([]string{at("virtual host", h.Name)}, path...), domains: h.Domains, address: "plain HTTP",
						reason: "sends the caller to something else than HTTPS"})
				}
			case *route.Route_DirectResponse:
			default:
				r.fault(fault{path: append([]string{at("virtual host", h.Name)}, path...), domains: h.Domains, address: unknown,
					reason: "does something with requests that the proof does not understand"})
			}
		}
		f.hosts = append(f.hosts, host)
	}
	return f
}

// readAction lists every cluster that an action can send a request, or a copy
// of it, to. Shares and fractions do not matter: a small one leads there too.
func (r *reader) readAction(path []string, a *route.RouteAction, h *route.VirtualHost) []way {
	var ways []way
	add := func(element, cluster string) {
		ways = append(ways, way{append(path[:len(path):len(path)], element), cluster})
	}
	switch c := a.ClusterSpecifier.(type) {
	case *route.RouteAction_Cluster:
		ways = append(ways, way{path, c.Cluster})
	case *route.RouteAction_WeightedClusters:
		for _, w := range c.WeightedClusters.GetClusters() {
			add(at("weighted cluster", w.Name), w.Name)
		}
	default:
		r.fault(fault{path: append([]string{at("virtual host", h.Name)}, path...), domains: h.Domains, address: anywhere,
			reason: "chooses the cluster in a way that the proof does not understand"})
	}
	for _, m := range a.RequestMirrorPolicies {
		add(at("mirror", m.Cluster), m.Cluster)
	}
	return ways
}

// readMutations adds what is done to request headers. A removal is a mutation
// that does not overwrite.
func readMutations(before []mutation, set []*core.HeaderValueOption, remove []string) []mutation {
	list := before[:len(before):len(before)]
	for _, o := range set {
		list = append(list, mutation{
			name:      strings.ToLower(o.GetHeader().GetKey()),
			value:     o.GetHeader().GetValue(),
			overwrite: o.GetAppendAction() == core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	for _, name := range remove {
		list = append(list, mutation{name: strings.ToLower(name)})
	}
	return list
}
