package convergence

import (
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder/xds"
)

// TestLeastNewHost tells what a service with a new host takes at the very least over the
// delta protocol, with resources that say nothing but where requests go: no limit, no
// timeout, no retry, no activator. It is more than a kilobyte, most of which are the names
// of types, once in each response, resource and answer.
func TestLeastNewHost(t *testing.T) {
	const host, service = "new000000." + domain, "service/new000000"
	ads := &core.ConfigSource{ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}}, ResourceApiVersion: core.ApiVersion_V3}
	least := []struct {
		name, typeURL string
		m             proto.Message
	}{
		{service, xds.TypeCluster, &cluster.Cluster{Name: service, ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
			EdsClusterConfig: &cluster.Cluster_EdsClusterConfig{EdsConfig: ads}}},
		{service, xds.TypeEndpoint, &endpoint.ClusterLoadAssignment{ClusterName: service, Endpoints: []*endpoint.LocalityLbEndpoints{{
			LbEndpoints: []*endpoint.LbEndpoint{{HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: &core.Address{
				Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{Address: "127.0.0.1", PortSpecifier: &core.SocketAddress_PortValue{PortValue: 40000}}}}}}}}}}}},
		{"scope/0123456789abcdef", xds.TypeScope, &route.ScopedRouteConfiguration{Name: "scope/0123456789abcdef", RouteConfigurationName: host,
			Key: &route.ScopedRouteConfiguration_Key{Fragments: []*route.ScopedRouteConfiguration_Key_Fragment{{
				Type: &route.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: host}}}}}},
		{host, xds.TypeRoute, &route.RouteConfiguration{Name: host, VirtualHosts: []*route.VirtualHost{{Name: "h", Domains: []string{host}, Routes: []*route.Route{{
			Match: &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}},
			Action: &route.Route_Route{Route: &route.RouteAction{
				ClusterSpecifier: &route.RouteAction_Cluster{Cluster: service}}}}}}}}},
	}
	const framing = 5 // gRPC's, of each message
	said, names := 0, 0
	for _, r := range least {
		body, err := anypb.New(r.m)
		if err != nil {
			t.Fatal(err)
		}
		said += len(body.Value)
		names += framing + proto.Size(&discovery.DeltaDiscoveryResponse{TypeUrl: r.typeURL, Nonce: "1000", SystemVersionInfo: "1000",
			Resources: []*discovery.Resource{{Name: r.name, Version: "0123456789abcdef", Resource: body}}}) - len(body.Value)
		names += framing + proto.Size(&discovery.DeltaDiscoveryRequest{TypeUrl: r.typeURL, ResponseNonce: "1000"})
		if r.typeURL == xds.TypeEndpoint || r.typeURL == xds.TypeRoute { // asked for by name
			names += framing + proto.Size(&discovery.DeltaDiscoveryRequest{TypeUrl: r.typeURL, ResourceNamesSubscribe: []string{r.name}})
		}
	}
	t.Logf("at least %d bytes: %d of resources, and %d of the protocol around them", said+names, said, names)
	if said+names < 1_000 {
		t.Errorf("a new host could take %d bytes; docs/xds.md says that it cannot take less than a kilobyte", said+names)
	}
}
