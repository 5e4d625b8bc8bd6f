package convergence

import (
	"net/netip"
	"testing"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder/regions/law"
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
	var said, names int
	for _, r := range least {
		body, err := anypb.New(r.m)
		if err != nil {
			t.Fatal(err)
		}
		said += len(body.Value)
		names += around(xds.Resource{Key: xds.Key{Type: r.typeURL, Name: r.name}, Version: "0123456789abcdef", Body: body})
	}
	t.Logf("at least %d bytes: %d of resources, and %d of the protocol around them", said+names, said, names)
	if said+names < 1_000 {
		t.Errorf("a new host could take %d bytes; docs/xds.md says that it cannot take less than a kilobyte", said+names)
	}
}

// around is what the delta protocol says besides the content of a resource that is sent: the
// response, the answer to it, and the question where Envoy asks by name; in bytes.
func around(r xds.Resource) int {
	const framing, nonce = 5, "1000" // gRPC's framing of each message
	bytes := framing + proto.Size(&discovery.DeltaDiscoveryResponse{TypeUrl: r.Type, Nonce: nonce,
		Resources: []*discovery.Resource{{Name: r.Name, Version: r.Version, Resource: r.Body}}}) - len(r.Body.Value)
	bytes += framing + proto.Size(&discovery.DeltaDiscoveryRequest{TypeUrl: r.Type, ResponseNonce: nonce})
	if r.Type == xds.TypeEndpoint || r.Type == xds.TypeRoute {
		bytes += framing + proto.Size(&discovery.DeltaDiscoveryRequest{TypeUrl: r.Type, ResourceNamesSubscribe: []string{r.Name}})
	}
	return bytes
}

// TestWhatANewHostTakes tells of which bytes a service with a new host consists, and holds
// them to what docs/xds.md says: a field more in its resources is a field more of every host.
func TestWhatANewHostTakes(t *testing.T) {
	f := fleet{gateway: xds.Gateway{Region: region, Activator: "/run/polder-bench-1234567890/activator.sock"},
		origins: [2]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:40000")}}
	var hosts xds.Hosts
	hosts.Put(judge(f.service(0), law.Home{}))
	hosts.Node(xds.NodeConfig{Region: region, TrustDomain: "bench.polder", HTTPS: f.origins[0], HTTP: f.origins[0], Peer: f.origins[0]})
	hosts.ByName(time.Time{})
	came := judge(f.named(newService(0)), law.Home{})
	hosts.Put(came)
	if hosts.Changed() {
		t.Fatal("the table is sent for a new host")
	}
	byName, _ := hosts.ByName(time.Time{})
	said, names := 0, 0
	for _, r := range append(xds.Service(came, f.gateway), byName...) {
		t.Logf("%-32s %4d of content, %4d around it", r.Name, len(r.Body.Value), around(r))
		said, names = said+len(r.Body.Value), names+around(r)
	}
	t.Logf("%d bytes: %d of resources, and %d of the protocol around them", said+names, said, names)
	if said > 1_350 || names > 1_500 {
		t.Errorf("a new host takes %d bytes of resources and %d of the protocol; docs/xds.md says 1,344 and 1,465", said, names)
	}
}
