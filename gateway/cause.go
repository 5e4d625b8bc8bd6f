package gateway

import (
	"slices"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

// traceCauses finds for every rejected resource where the configuration says what
// it was made of. What belongs to no service alone has no such place.
func traceCauses(m *polder.Model, nodes []server.NodeStatus) {
	for _, n := range nodes {
		for i, rejection := range n.Rejections {
			if s, ok := serviceOf(m, xds.Key{Type: rejection.Type, Name: rejection.Name}); ok && s.At != (polder.Position{}) {
				n.Rejections[i].Cause = s.At.String()
			}
		}
	}
}

// serviceOf finds the service that a resource was made of.
func serviceOf(m *polder.Model, key xds.Key) (polder.Service, bool) {
	if m == nil {
		return polder.Service{}, false
	}
	var is func(polder.Service) bool
	if name, ok := xds.ServiceOfResource(key); ok {
		is = func(s polder.Service) bool { return s.Name == name }
	} else {
		is = func(s polder.Service) bool {
			return slices.ContainsFunc(s.Hosts, func(h polder.Host) bool { return xds.IsAboutHost(key, string(h)) })
		}
	}
	if i := slices.IndexFunc(m.Services, is); i >= 0 {
		return m.Services[i], true
	}
	return polder.Service{}, false
}
