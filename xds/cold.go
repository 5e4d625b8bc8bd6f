package xds

import (
	"fmt"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polder/polder"
)

// tellsState tells whether any of the service's callers is told to come back.
// Of all others the path belongs to the service, like every other.
func tellsState(s polder.Service) bool {
	return s.Run != nil && s.Cold.Uses(polder.ColdAccepted, polder.ColdPage)
}

// stateRoute leads the questions to the activator, also while an instance is
// ready. The virtual host names the service to it.
func stateRoute(s polder.Service) *route.Route {
	r := serviceRoute(s, "state", nil, "connect-failure,refused-stream,reset-before-request,retriable-headers", unsentRetries, activatorStopping)
	r.Name = fmt.Sprintf("%s/state", s.Name)
	r.Match = &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: polder.ColdStatePath}}
	action := r.GetRoute()
	action.ClusterSpecifier = &route.RouteAction_Cluster{Cluster: coldCluster(s.Name)}
	action.RetryPolicy.RetryPriority = nil // there is one place only
	return r
}

// activatorCluster leads to the activator and nowhere else.
func activatorCluster(name string, g Gateway) *cluster.Cluster {
	return &cluster.Cluster{
		Name:                          name,
		ClusterDiscoveryType:          &cluster.Cluster_Type{Type: cluster.Cluster_STATIC},
		ConnectTimeout:                durationpb.New(connectTimeout),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(bufferLimit),
		CommonLbConfig:                noPanic(),
		CircuitBreakers:               breakers(),
		LoadAssignment: &endpoint.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints:   []*endpoint.LocalityLbEndpoints{{LbEndpoints: []*endpoint.LbEndpoint{lbEndpoint(pipeAddress(g.Activator))}}},
		},
	}
}
