package proof_test

import (
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	aggregate "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	forward "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	tap "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tap/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	percent "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polder/polder/xds/proof"
)

// endpointMutants lead a service to addresses that are not its own.
func endpointMutants() []mutant {
	first := func(s *snapshot) *endpoint.LbEndpoint {
		return s.assignment("service/billing").Endpoints[0].LbEndpoints[0]
	}
	toBilling := []string{"listener", "chain", "routes host/billing.example.com", "virtual host billing", "route", "cluster service/billing", "endpoint"}
	toLegacy := []string{"listener", "chain", "routes host/legacy.example.com", "virtual host legacy", "route", "cluster service/legacy", "endpoint"}
	return []mutant{
		{"endpoint of another region at low weight", func(s *snapshot) {
			s.instance("legacy", socketAt("10.1.0.5", 8080)).LoadBalancingWeight = wrapperspb.UInt32(1)
		}, "legacy", toLegacy, "10.1.0.5:8080"},
		{"endpoint of another region at the last priority", func(s *snapshot) {
			a := s.assignment("service/legacy")
			a.Endpoints = append(a.Endpoints, &endpoint.LocalityLbEndpoints{Priority: 2, LbEndpoints: []*endpoint.LbEndpoint{endpointAt(socketAt("10.1.0.5", 8080))}})
		}, "legacy", toLegacy, "10.1.0.5:8080"},
		{"endpoint of another region written in another way", func(s *snapshot) { s.instance("legacy", socketAt("::ffff:10.1.0.5", 8080)) },
			"legacy", toLegacy, "10.1.0.5:8080"},
		{"instance observed in another region", func(s *snapshot) { s.instance("catalog", socketAt("10.1.0.77", 20004)) },
			"catalog", []string{"listener", "chain", "routes host/catalog.example.com", "cluster", "endpoint"}, "10.1.0.77:20004"},
		{"endpoint that nobody knows", func(s *snapshot) { s.instance("billing", socketAt("203.0.113.9", 80)) },
			"billing", toBilling, "203.0.113.9:80"},
		{"right address, wrong port", func(s *snapshot) { s.instance("billing", socketAt("127.0.0.1", 22)) },
			"billing", toBilling, "127.0.0.1:22"},
		{"instance of another service", func(s *snapshot) { s.instance("billing", socketAt("127.0.0.1", 20004)) },
			"billing", toBilling, "127.0.0.1:20004"},
		{"peer of another region in clear", func(s *snapshot) { s.instance("billing", socketAt("192.0.2.30", 7443)) },
			"billing", toBilling, "192.0.2.30:7443"},
		{"endpoint by a name that DNS resolves", func(s *snapshot) { s.instance("billing", socketAt("billing.example.org", 80)) },
			"billing", toBilling, "billing.example.org:80"},
		{"endpoint by a name of a port", func(s *snapshot) {
			a := socketAt("127.0.0.1", 0)
			a.GetSocketAddress().PortSpecifier = &core.SocketAddress_NamedPort{NamedPort: "http"}
			s.instance("billing", a)
		}, "billing", []string{"endpoints service/billing", "endpoints"}, "http"},
		{"datagrams to an endpoint", func(s *snapshot) {
			first(s).GetEndpoint().Address.GetSocketAddress().Protocol = core.SocketAddress_UDP
		}, "billing", []string{"endpoints service/billing", "socket_address", "protocol"}, "datagrams"},
		{"endpoint in another network namespace", func(s *snapshot) {
			first(s).GetEndpoint().Address.GetSocketAddress().NetworkNamespaceFilepath = "/run/netns/nl"
		}, "billing", []string{"endpoints service/billing", "socket_address", "network_namespace_filepath"}, "/run/netns/nl"},
		{"further address of an endpoint", func(s *snapshot) {
			first(s).GetEndpoint().AdditionalAddresses = []*endpoint.Endpoint_AdditionalAddress{{Address: socketAt("10.1.0.5", 8080)}}
		}, "billing", []string{"endpoints service/billing", "additional_addresses"}, "10.1.0.5:8080"},
		{"health checks sent elsewhere", func(s *snapshot) {
			first(s).GetEndpoint().HealthCheckConfig = &endpoint.Endpoint_HealthCheckConfig{Address: socketAt("10.1.0.5", 8080)}
		}, "billing", []string{"endpoints service/billing", "health_check_config"}, "10.1.0.5:8080"},
		{"metadata that chooses another transport", func(s *snapshot) {
			first(s).Metadata = &core.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.transport_socket_match": {}}}
		}, "billing", []string{"endpoints service/billing", "metadata"}, ""},
		{"endpoint by name", func(s *snapshot) {
			a := s.assignment("service/billing")
			a.NamedEndpoints = map[string]*endpoint.Endpoint{"x": {Address: socketAt("10.1.0.5", 8080)}}
		}, "billing", []string{"endpoints service/billing", "named_endpoints"}, "10.1.0.5:8080"},
		{"endpoints discovered one by one", func(s *snapshot) {
			s.assignment("service/billing").Endpoints[0].LbConfig = &endpoint.LocalityLbEndpoints_LedsClusterLocalityConfig{
				LedsClusterLocalityConfig: &endpoint.LedsClusterLocalityConfig{LedsCollectionName: "elsewhere"}}
		}, "billing", []string{"endpoints service/billing", "leds_cluster_locality_config"}, "elsewhere"},
		{"another socket in the activator's place", func(s *snapshot) {
			s.assignment("service/billing").Endpoints[1].LbEndpoints[0] = endpointAt(&core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: "/tmp/listener.sock"}}})
		}, "billing", toBilling, "/tmp/listener.sock"},
		{"listener of this Envoy as an endpoint", func(s *snapshot) {
			s.instance("billing", &core.Address{Address: &core.Address_EnvoyInternalAddress{EnvoyInternalAddress: &core.EnvoyInternalAddress{
				AddressNameSpecifier: &core.EnvoyInternalAddress_ServerListenerName{ServerListenerName: "pass/nl"}}}})
		}, "billing", toBilling, "pass/nl"},
		{"endpoints of a service that is not served here", func(s *snapshot) {
			s.add(&endpoint.ClusterLoadAssignment{ClusterName: "service/dutch", Endpoints: []*endpoint.LocalityLbEndpoints{{
				LbEndpoints: []*endpoint.LbEndpoint{endpointAt(socketAt("10.1.0.78", 20005))}}}})
		}, "dutch", []string{"endpoints service/dutch", "endpoint 10.1.0.78:20005"}, "10.1.0.78:20005"},
	}
}

// clusterMutants change what a cluster is.
func clusterMutants() []mutant {
	billing := func(s *snapshot) *cluster.Cluster { return s.cluster("service/billing") }
	discovered := func(s *snapshot, kind cluster.Cluster_DiscoveryType) *cluster.Cluster {
		c := billing(s)
		c.ClusterDiscoveryType, c.EdsClusterConfig = &cluster.Cluster_Type{Type: kind}, nil
		return c
	}
	return []mutant{
		{"cluster that goes where the connection was meant to go", func(s *snapshot) {
			discovered(s, cluster.Cluster_ORIGINAL_DST).LbPolicy = cluster.Cluster_CLUSTER_PROVIDED
		}, "billing", []string{"cluster service/billing", "type ORIGINAL_DST"}, "any address"},
		{"cluster by logical DNS", func(s *snapshot) {
			discovered(s, cluster.Cluster_LOGICAL_DNS).LoadAssignment = staticCluster("x", socketAt("billing.example.org", 80)).LoadAssignment
		}, "billing", []string{"cluster service/billing", "type LOGICAL_DNS"}, "any address"},
		{"cluster by strict DNS", func(s *snapshot) {
			discovered(s, cluster.Cluster_STRICT_DNS).LoadAssignment = staticCluster("x", socketAt("billing.example.org", 80)).LoadAssignment
		}, "billing", []string{"listener", "routes host/billing.example.com", "cluster service/billing", "endpoint"}, "billing.example.org:80"},
		{"cluster that the request chooses the address of", func(s *snapshot) {
			billing(s).ClusterDiscoveryType = &cluster.Cluster_ClusterType{ClusterType: &cluster.Cluster_CustomClusterType{
				Name: "envoy.clusters.dynamic_forward_proxy", TypedConfig: pack(s.t, &forward.ClusterConfig{})}}
		}, "billing", []string{"cluster service/billing", "cluster_type"}, "any address"},
		{"cluster made of another service's", func(s *snapshot) {
			billing(s).ClusterDiscoveryType, billing(s).EdsClusterConfig = &cluster.Cluster_ClusterType{ClusterType: &cluster.Cluster_CustomClusterType{
				Name: "envoy.clusters.aggregate", TypedConfig: pack(s.t, &aggregate.ClusterConfig{Clusters: []string{"service/catalog"}})}}, nil
		}, "billing", []string{"listener", "routes host/billing.example.com", "cluster service/billing", "cluster service/catalog", "endpoint"}, "127.0.0.1:20004"},
		{"cluster made of itself", func(s *snapshot) {
			billing(s).ClusterDiscoveryType, billing(s).EdsClusterConfig = &cluster.Cluster_ClusterType{ClusterType: &cluster.Cluster_CustomClusterType{
				Name: "envoy.clusters.aggregate", TypedConfig: pack(s.t, &aggregate.ClusterConfig{Clusters: []string{"service/billing"}})}}, nil
		}, "billing", []string{"listener", "routes host/billing.example.com", "cluster service/billing", "cluster service/billing"}, "service/billing"},
		{"panic threshold", func(s *snapshot) { billing(s).CommonLbConfig.HealthyPanicThreshold = &percent.Percent{Value: 50} },
			"billing", []string{"cluster service/billing", "field common_lb_config"}, "endpoints that are out"},
		{"panic threshold left to Envoy's default", func(s *snapshot) { billing(s).CommonLbConfig = nil },
			"billing", []string{"cluster service/billing", "field common_lb_config"}, "endpoints that are out"},
		{"endpoints of another service", func(s *snapshot) { billing(s).EdsClusterConfig.ServiceName = "service/catalog" },
			"billing", []string{"listener", "routes host/billing.example.com", "cluster service/billing", "endpoint"}, "127.0.0.1:20004"},
		{"endpoints from a file", func(s *snapshot) {
			billing(s).EdsClusterConfig.EdsConfig = &core.ConfigSource{ConfigSourceSpecifier: &core.ConfigSource_PathConfigSource{
				PathConfigSource: &core.PathConfigSource{Path: "/tmp/endpoints.yaml"}}}
		}, "billing", []string{"cluster service/billing", "eds_config", "path_config_source"}, "/tmp/endpoints.yaml"},
		{"endpoints that do not exist", func(s *snapshot) { billing(s).EdsClusterConfig.ServiceName = "later" },
			"billing", []string{"listener", "routes host/billing.example.com", "cluster service/billing"}, "endpoints later"},
		{"endpoints in the cluster beside the discovered ones", func(s *snapshot) {
			billing(s).LoadAssignment = staticCluster("x", socketAt("10.1.0.5", 8080)).LoadAssignment
		}, "billing", []string{"cluster service/billing", "field load_assignment"}, ""},
		{"instance reached over a tap", func(s *snapshot) {
			billing(s).TransportSocket = &core.TransportSocket{Name: "envoy.transport_sockets.tap",
				ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: pack(s.t, &tap.Tap{})}}
		}, "billing", []string{"cluster service/billing", "transport_socket"}, "whoever taps"},
		{"transport chosen by rules", func(s *snapshot) {
			billing(s).TransportSocketMatches = []*cluster.Cluster_TransportSocketMatch{{Name: "other"}}
		}, "billing", []string{"cluster service/billing", "transport_socket_matches"}, "other"},
		{"instance reached with a key in the open", func(s *snapshot) {
			billing(s).TransportSocket = &core.TransportSocket{Name: "tls", ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: pack(s.t, &tls.UpstreamTlsContext{
				CommonTlsContext: &tls.CommonTlsContext{TlsCertificates: []*tls.TlsCertificate{{PrivateKey: inline("-----BEGIN PRIVATE KEY-----")}}}})}}
		}, "billing", []string{"cluster service/billing", "transport_socket", "tls_certificates"}, "a private key"},
		{"health checks of Envoy's own", func(s *snapshot) { billing(s).HealthChecks = []*core.HealthCheck{{EventLogPath: "/tmp/health.log"}} },
			"billing", []string{"cluster service/billing", "health_checks"}, "/tmp/health.log"},
		{"load reported elsewhere", func(s *snapshot) {
			billing(s).LrsServer = &core.ConfigSource{ConfigSourceSpecifier: &core.ConfigSource_Self{Self: &core.SelfConfigSource{}}}
		}, "billing", []string{"cluster service/billing", "lrs_server"}, "a load report service"},
		{"cluster that nobody uses, to a forbidden address", func(s *snapshot) { s.add(staticCluster("spare", socketAt("10.1.0.5", 8080))) },
			"legacy", []string{"cluster spare", "endpoint 10.1.0.5:8080"}, "10.1.0.5:8080"},
		{"cluster in place of this node's Polder", func(s *snapshot) { s.add(staticCluster("polder", socketAt("127.0.0.1", 20001))) },
			"", []string{"cluster polder"}, "polder"},
		{"cluster that is gone, while routes lead to it", func(s *snapshot) {
			delete(s.messages, proof.Key{Type: "type.googleapis.com/envoy.config.cluster.v3.Cluster", Name: "service/billing"})
		}, "billing", []string{"listener", "routes host/billing.example.com", "cluster service/billing"}, "cluster service/billing"},
	}
}

func inline(text string) *core.DataSource {
	return &core.DataSource{Specifier: &core.DataSource_InlineString{InlineString: text}}
}
