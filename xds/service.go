package xds

import (
	"slices"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// Gateway is what Service needs to know of the gateway beside the law.
type Gateway struct {
	Region    polder.RegionName
	Activator string // path of the activator's Unix socket
	Traces    bool   // Envoy traces requests, as NodeConfig says
	HTTP3     bool   // tell callers of services with a resident key that HTTP/3 is there
}

// Service gives the resources of one service: its cluster and endpoints, and
// routes and a scope for each of its exact hosts. A service that this gateway does
// not serve has none, so that nothing of it, least of all an endpoint, is present.
// Wildcard hosts have no scopes; Node collects their routes.
func Service(a law.Approved, g Gateway) []Resource {
	return service(a, g, core.HealthStatus_UNKNOWN)
}

// SaturatedService is Service with SaturatedEndpoints.
func SaturatedService(a law.Approved, g Gateway) []Resource {
	return service(a, g, core.HealthStatus_UNHEALTHY)
}

func service(a law.Approved, g Gateway, health core.HealthStatus) []Resource {
	if a.Verdict() != law.Serve {
		return nil
	}
	s := a.Service()
	resources := []Resource{
		newResource(TypeCluster, ServiceCluster(s.Name), serviceCluster(s)),
		endpoints(a, g, health),
	}
	if tellsState(s) {
		resources = append(resources, newResource(TypeCluster, coldCluster(s.Name), activatorCluster(coldCluster(s.Name), g)))
	}
	for _, host := range slices.DeleteFunc(plain(s.Hosts), isWildcard) {
		resources = append(resources,
			newResource(TypeRoute, hostRoutes(host), routesOf(host, s, g, a)),
			newResource(TypeScope, scopeOf(host), hostScope(host)))
	}
	return resources
}

// Endpoints gives a served service's load assignment alone: the fast path when
// an instance comes or goes. It stands behind the law like everything else.
func Endpoints(a law.Approved, g Gateway) Resource {
	return endpoints(a, g, core.HealthStatus_UNKNOWN)
}

// SaturatedEndpoints is Endpoints for a service whose instances are all busy:
// Envoy sends them no new request, and the activator gets it. What is in progress
// there stays, and stays in Envoy's load reports, which leave out what is removed.
func SaturatedEndpoints(a law.Approved, g Gateway) Resource {
	return endpoints(a, g, core.HealthStatus_UNHEALTHY)
}

func endpoints(a law.Approved, g Gateway, health core.HealthStatus) Resource {
	name := ServiceCluster(a.Service().Name)
	return newResource(TypeEndpoint, name, loadAssignment(name, a, g, health))
}
