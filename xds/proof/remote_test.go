package proof_test

import (
	"net/netip"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polder/polder/xds"
)

// remoteWorld is the world of the mutants, seen from an Envoy on another machine.
func remoteWorld(t testing.TB) world {
	w := mutantWorld(t)
	w.remote = &xds.Remote{
		Region: w.here, Activator: netip.MustParseAddrPort("192.0.2.1:7444"), TrustDomain: trustDomain,
		Nodes: []xds.RemoteNode{
			{Name: "fr-2", HTTPS: netip.MustParseAddrPort("192.0.2.2:443"), HTTP: netip.MustParseAddrPort("192.0.2.2:80")},
			{Name: "fr-3", HTTPS: netip.MustParseAddrPort("192.0.2.3:443"), HTTP: netip.MustParseAddrPort("192.0.2.3:80")},
		},
	}
	return w
}

// TestRemoteMutants holds that an Envoy on another machine sends what it opened
// to the activator only inside mTLS with a peer of its own region.
func TestRemoteMutants(t *testing.T) {
	const billing = "service/billing"
	toBilling := []string{"listener entrypoint-https@fr-", "chain", "routes host/billing.example.com", "cluster service/billing", "endpoint"}
	last := func(s *snapshot) *endpoint.LbEndpoint {
		a := s.assignment(billing)
		return a.Endpoints[len(a.Endpoints)-1].LbEndpoints[0]
	}
	match := func(s *snapshot) *cluster.Cluster_TransportSocketMatch {
		return s.cluster(billing).TransportSocketMatches[0]
	}
	trusting := func(s *snapshot, prefixes ...string) {
		context := new(tls.UpstreamTlsContext)
		if err := match(s).TransportSocket.GetTypedConfig().UnmarshalTo(context); err != nil {
			s.t.Fatal(err)
		}
		var names []*tls.SubjectAltNameMatcher
		for _, p := range prefixes {
			names = append(names, &tls.SubjectAltNameMatcher{SanType: tls.SubjectAltNameMatcher_URI,
				Matcher: &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Prefix{Prefix: p}}})
		}
		context.CommonTlsContext.GetCombinedValidationContext().DefaultValidationContext.MatchTypedSubjectAltNames = names
		match(s).TransportSocket.ConfigType = &core.TransportSocket_TypedConfig{TypedConfig: pack(s.t, context)}
	}
	holdMutants(t, remoteWorld(t), []mutant{
		{"activator of another machine in clear", func(s *snapshot) { s.cluster(billing).TransportSocketMatches = nil },
			"billing", toBilling, "192.0.2.1:7444"},
		{"activator that does not choose mTLS", func(s *snapshot) { last(s).Metadata = nil },
			"billing", toBilling, "192.0.2.1:7444"},
		{"activator that chooses what the cluster does not have", func(s *snapshot) {
			last(s).Metadata.FilterMetadata["envoy.transport_socket_match"] = &structpb.Struct{
				Fields: map[string]*structpb.Value{"other": structpb.NewBoolValue(true)}}
		}, "billing", toBilling, "192.0.2.1:7444"},
		{"activator whose place a node can take", func(s *snapshot) { trusting(s, "spiffe://polder.test/region/fr/") },
			"billing", toBilling, "192.0.2.1:7444"},
		{"activator whose place a peer of another region can take", func(s *snapshot) {
			trusting(s, "spiffe://polder.test/region/fr/peer/", "spiffe://polder.test/region/nl/peer/")
		}, "billing", toBilling, "192.0.2.1:7444"},
		{"activator whose place anybody can take", func(s *snapshot) { trusting(s) }, "billing", toBilling, "192.0.2.1:7444"},
		{"activator at another address", func(s *snapshot) { last(s).GetEndpoint().Address = socketAt("203.0.113.9", 7444) },
			"billing", toBilling, "203.0.113.9:7444"},
		{"activator's socket on another machine", func(s *snapshot) {
			last(s).GetEndpoint().Address = &core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: activator}}}
		}, "billing", toBilling, activator},
		{"spare cluster to the activator in clear", func(s *snapshot) {
			s.add(staticCluster("spare", socketAt("192.0.2.1", 7444)))
		}, "", []string{"cluster spare", "endpoint"}, "192.0.2.1:7444"},
		{"rules for the transport that nobody follows", func(s *snapshot) {
			match(s).Match.Fields["zone"] = structpb.NewStringValue("a")
		}, "billing", []string{"cluster service/billing", "transport_socket_matches"}, "activator"},
		{"more metadata of an endpoint", func(s *snapshot) {
			last(s).Metadata.FilterMetadata["envoy.lb"] = &structpb.Struct{}
		}, "billing", []string{"endpoints service/billing", "metadata"}, ""},
		{"entrypoint where no node is", func(s *snapshot) {
			s.listener("entrypoint-https@fr-2").Address = socketAt("192.0.2.9", 443)
		}, "", []string{"listener entrypoint-https@fr-2"}, "192.0.2.9:443"},
	})
}
