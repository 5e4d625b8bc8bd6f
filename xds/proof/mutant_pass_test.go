package proof_test

import (
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	ratelimitconfig "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	aggregate "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	directresponse "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ratelimit/v3"
	tcpproxy "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	proxyprotocol "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

func clone[M proto.Message](m M) M { return proto.Clone(m).(M) }

// names makes the peers' names these prefixes.
func names(c *tls.CommonTlsContext, prefixes ...string) *tls.CommonTlsContext {
	context := c.GetCombinedValidationContext().DefaultValidationContext
	context.MatchTypedSubjectAltNames = nil
	for _, p := range prefixes {
		context.MatchTypedSubjectAltNames = append(context.MatchTypedSubjectAltNames, &tls.SubjectAltNameMatcher{
			SanType: tls.SubjectAltNameMatcher_URI,
			Matcher: &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Prefix{Prefix: p}}})
	}
	return c
}

// passMutants pass connections to where they may not go, or in a way that
// others can read along.
func passMutants() []mutant {
	out := []string{"listener entrypoint-https", "chain pass/nl", "cluster wrap/pass/nl", "listener pass/nl", "chain pass/nl", "cluster pass/nl"}
	toPeers := func(change func(*tls.CommonTlsContext)) func(s *snapshot) {
		return func(s *snapshot) {
			s.toPeers("pass/nl", func(c *tls.UpstreamTlsContext) { change(c.CommonTlsContext) })
		}
	}
	addresses := func(s *snapshot, name string) *core.SocketAddress {
		return s.cluster(name).LoadAssignment.Endpoints[0].LbEndpoints[0].GetEndpoint().Address.GetSocketAddress()
	}
	return []mutant{
		{"host passed to a region that may not have it", func(s *snapshot) { s.lead("entrypoint-https", "dutch.example.com", "pass/pl") },
			"dutch", []string{"listener entrypoint-https", "chain pass/pl", "host dutch.example.com"}, "192.0.2.30:7443"},
		{"refused host passed on", func(s *snapshot) { s.lead("entrypoint-https", "vault.example.com", "pass/nl") },
			"vault", []string{"listener entrypoint-https", "chain pass/nl", "host vault.example.com"}, "nl.example.net:7443"},
		{"names that nobody owns are passed on", func(s *snapshot) { s.matcher("entrypoint-https").OnNoMatch = s.to("pass/nl") },
			"", []string{"listener entrypoint-https", "chain pass/nl"}, "nl.example.net:7443"},
		{"passed on without TLS", func(s *snapshot) { s.cluster("pass/nl").TransportSocket = nil },
			"dutch", append(out, "endpoint"), "nl.example.net:7443"},
		{"passed on past the listener that hides the header", func(s *snapshot) {
			edit(s.t, s.chain("entrypoint-https", "pass/nl").Filters[0].GetTypedConfig(), func(p *tcpproxy.TcpProxy) {
				p.ClusterSpecifier = &tcpproxy.TcpProxy_Cluster{Cluster: "leak"}
			})
			c := clone(s.cluster("pass/nl"))
			c.Name, c.LoadAssignment.ClusterName = "leak", "leak"
			c.TransportSocket = &core.TransportSocket{Name: "proxy", ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: pack(s.t,
				&proxyprotocol.ProxyProtocolUpstreamTransport{Config: &core.ProxyProtocolConfig{Version: core.ProxyProtocolConfig_V2}, TransportSocket: c.TransportSocket})}}
			s.add(c)
		}, "dutch", []string{"listener entrypoint-https", "chain pass/nl", "cluster leak"}, "nl.example.net:7443"},
		{"address of another region's peer", func(s *snapshot) {
			addresses(s, "pass/nl").Address = "192.0.2.30"
		}, "dutch", append(out, "endpoint"), "192.0.2.30:7443"},
		{"address that is no peer's", func(s *snapshot) { addresses(s, "pass/nl").Address = "203.0.113.9" },
			"dutch", append(out, "endpoint"), "203.0.113.9:7443"},
		{"peers of any region", toPeers(func(c *tls.CommonTlsContext) { names(c, "spiffe://polder.test/region/") }), "dutch", out, "nl.example.net:7443"},
		{"peers of a region whose name begins alike", toPeers(func(c *tls.CommonTlsContext) { names(c, "spiffe://polder.test/region/nl") }), "dutch", out, "nl.example.net:7443"},
		{"peers of another installation at an address of ours", toPeers(func(c *tls.CommonTlsContext) { names(c, "spiffe://other.test/region/nl/") }), "dutch", out, "nl.example.net:7443"},
		{"peers of a second region as well", toPeers(func(c *tls.CommonTlsContext) {
			names(c, "spiffe://polder.test/region/nl/", "spiffe://polder.test/region/pl/")
		}), "dutch", []string{"listener entrypoint-https", "chain pass/nl", "host dutch.example.com"}, "peers in pl"},
		{"peers of any name", toPeers(func(c *tls.CommonTlsContext) { names(c) }), "dutch", out, "nl.example.net:7443"},
		{"peers by a DNS name", toPeers(func(c *tls.CommonTlsContext) {
			c.GetCombinedValidationContext().DefaultValidationContext.MatchTypedSubjectAltNames[0].SanType = tls.SubjectAltNameMatcher_DNS
		}), "dutch", out, "nl.example.net:7443"},
		{"peers that nobody signed", toPeers(func(c *tls.CommonTlsContext) {
			c.GetCombinedValidationContext().DefaultValidationContext.TrustChainVerification = tls.CertificateValidationContext_ACCEPT_UNTRUSTED
		}), "dutch", []string{"cluster pass/nl", "transport_socket", "trust_chain_verification"}, "anybody"},
		{"peers signed by another authority", toPeers(func(c *tls.CommonTlsContext) {
			c.GetCombinedValidationContext().ValidationContextSdsSecretConfig.Name = "other"
		}), "dutch", out, "nl.example.net:7443"},
		{"peers shown a service's certificate", toPeers(func(c *tls.CommonTlsContext) { c.TlsCertificateSdsSecretConfigs[0].Name = "billing.example.com" }), "dutch", out, "nl.example.net:7443"},
		{"one connection in a thousand to another region", func(s *snapshot) {
			edit(s.t, s.chain("entrypoint-https", "pass/nl").Filters[0].GetTypedConfig(), func(p *tcpproxy.TcpProxy) {
				p.ClusterSpecifier = &tcpproxy.TcpProxy_WeightedClusters{WeightedClusters: &tcpproxy.TcpProxy_WeightedCluster{
					Clusters: []*tcpproxy.TcpProxy_WeightedCluster_ClusterWeight{{Name: "wrap/pass/nl", Weight: 999}, {Name: "wrap/pass/pl", Weight: 1}}}}
			})
		}, "dutch", []string{"listener entrypoint-https", "chain pass/nl", "host dutch.example.com"}, "192.0.2.30:7443"},
		{"listener of this Envoy that leads to another region", func(s *snapshot) {
			edit(s.t, s.chain("pass/nl", "pass/nl").Filters[0].GetTypedConfig(), func(p *tcpproxy.TcpProxy) {
				p.ClusterSpecifier = &tcpproxy.TcpProxy_Cluster{Cluster: "pass/pl"}
			})
		}, "dutch", []string{"listener entrypoint-https", "chain pass/nl", "host dutch.example.com"}, "192.0.2.30:7443"},
		{"listener of this Envoy that opens what is passed on", func(s *snapshot) {
			s.chain("pass/nl", "pass/nl").TransportSocket = clone(s.chain("entrypoint-https", "serve").TransportSocket)
		}, "dutch", []string{"listener entrypoint-https", "chain pass/nl", "cluster wrap/pass/nl", "listener pass/nl", "chain pass/nl"}, "requests"},
		{"listeners of this Envoy in a circle", func(s *snapshot) {
			edit(s.t, s.chain("pass/nl", "pass/nl").Filters[0].GetTypedConfig(), func(p *tcpproxy.TcpProxy) {
				p.ClusterSpecifier = &tcpproxy.TcpProxy_Cluster{Cluster: "wrap/pass/nl"}
			})
		}, "dutch", []string{"listener entrypoint-https", "chain pass/nl", "cluster wrap/pass/nl", "listener pass/nl"}, "wrap/pass/nl"},
		{"tunnel to wherever the peer says", func(s *snapshot) {
			edit(s.t, s.chain("pass/nl", "pass/nl").Filters[0].GetTypedConfig(), func(p *tcpproxy.TcpProxy) {
				p.TunnelingConfig = &tcpproxy.TcpProxy_TunnelingConfig{Hostname: "evil.example.org:443"}
			})
		}, "dutch", []string{"listener pass/nl", "filter_chains pass/nl", "filters", "tunneling_config"}, "evil.example.org:443"},
		{"passed to a cluster that is gone", func(s *snapshot) {
			edit(s.t, s.chain("pass/nl", "pass/nl").Filters[0].GetTypedConfig(), func(p *tcpproxy.TcpProxy) {
				p.ClusterSpecifier = &tcpproxy.TcpProxy_Cluster{Cluster: "later"}
			})
		}, "dutch", []string{"listener entrypoint-https", "chain pass/nl", "listener pass/nl", "cluster later"}, "cluster later"},
		{"listener of this Envoy that tells of what it passes on", func(s *snapshot) {
			c := s.chain("pass/nl", "pass/nl")
			c.Filters = append([]*listener.Filter{s.filter("early", &ratelimit.RateLimit{StatPrefix: "early", Domain: "arrivals",
				RateLimitService: &ratelimitconfig.RateLimitServiceConfig{GrpcService: toCluster("polder")}})}, c.Filters...)
		}, "dutch", []string{"listener entrypoint-https", "chain pass/nl", "listener pass/nl", "chain pass/nl"}, "cluster polder"},
		{"host passed to another peer of this region, which may not have it", func(s *snapshot) {
			toPeers(func(c *tls.CommonTlsContext) { names(c, "spiffe://polder.test/region/fr/") })(s)
		}, "dutch", []string{"listener entrypoint-https", "chain pass/nl", "host dutch.example.com"}, "peers in fr"},
		{"passed straight to an instance", func(s *snapshot) {
			edit(s.t, s.chain("entrypoint-https", "pass/nl").Filters[0].GetTypedConfig(), func(p *tcpproxy.TcpProxy) {
				p.ClusterSpecifier = &tcpproxy.TcpProxy_Cluster{Cluster: "service/billing"}
			})
		}, "dutch", []string{"listener entrypoint-https", "chain pass/nl", "cluster service/billing", "endpoint"}, "127.0.0.1:20001"},
		{"panic threshold among peers", func(s *snapshot) { s.cluster("pass/nl").CommonLbConfig = &cluster.Cluster_CommonLbConfig{} },
			"dutch", []string{"cluster pass/nl", "field common_lb_config"}, "endpoints that are out"},
	}
}

// strangeMutants are what the proof cannot read.
func strangeMutants() []mutant {
	unknownField := []byte{0xfa, 0x7f, 1, 'x'} // number 2047, length-delimited
	return []mutant{
		{"bytes that are no cluster", func(s *snapshot) { s.garbage = proof.Key{Type: xds.TypeCluster, Name: "service/billing"} },
			"billing", []string{"cluster service/billing"}, ""},
		{"settings that nest too deep", func(s *snapshot) {
			deep := structpb.NewStringValue("x")
			for range 40 {
				deep = structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"x": deep}})
			}
			s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) {
				h.LocalReplyConfig.Mappers[0].BodyFormatOverride.GetJsonFormat().Fields["x"] = deep
			})
		}, "billing", []string{"listener entrypoint-https", "filter_chains serve", "filters", "local_reply_config"}, ""},
		{"key in a fixed answer", func(s *snapshot) {
			edit(s.t, s.chain("entrypoint-https", "unavailable").Filters[0].GetTypedConfig(), func(d *directresponse.Config) {
				d.Response = &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: []byte("-----BEGIN PRIVATE KEY-----")}}
			})
		}, "", []string{"listener entrypoint-https", "filter_chains unavailable", "filters", "response"}, "a private key"},
		{"endpoint without an address", func(s *snapshot) { s.instance("billing", nil) },
			"billing", []string{"endpoints service/billing", "endpoint"}, ""},
		{"secret among the resources", func(s *snapshot) {
			s.add(&tls.Secret{Name: "vault.example.com", Type: &tls.Secret_TlsCertificate{TlsCertificate: &tls.TlsCertificate{PrivateKey: inline("key")}}})
		}, "", []string{"secret vault.example.com"}, "secret vault.example.com"},
		{"resource of another type", func(s *snapshot) { s.add(&core.TransportSocket{Name: "filter"}) }, "", []string{"resource"}, ""},
		{"resource that calls itself something else", func(s *snapshot) { s.cluster("service/billing").Name = "service/other" },
			"billing", []string{"cluster service/billing"}, "service/other"},
		{"field that the type does not have", func(s *snapshot) { s.cluster("service/billing").ProtoReflect().SetUnknown(unknownField) },
			"billing", []string{"cluster service/billing"}, ""},
		{"field deep inside that the type does not have", func(s *snapshot) {
			s.assignment("service/billing").Endpoints[0].LbEndpoints[0].GetEndpoint().Address.ProtoReflect().SetUnknown(protoreflect.RawFields(unknownField))
		}, "billing", []string{"endpoints service/billing", "endpoints", "lb_endpoints", "endpoint", "address"}, ""},
		{"scope without routes of its own", func(s *snapshot) { s.scope("billing.example.com").Key = nil },
			"", []string{"scope", "field key"}, ""},
		{"listener that is gone, while a cluster leads to it", func(s *snapshot) {
			for k := range s.messages {
				if k.Type == xds.TypeListener && k.Name == "pass/nl" {
					delete(s.messages, k)
				}
			}
		}, "dutch", []string{"listener entrypoint-https", "chain pass/nl", "cluster wrap/pass/nl", "endpoint"}, "listener pass/nl"},
	}
}

// spareMutants are lawless by themselves: nothing leads to them yet.
func spareMutants() []mutant {
	discovered := func(name string) *cluster.Cluster {
		return &cluster.Cluster{Name: name, CommonLbConfig: calm(), ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
			EdsClusterConfig: &cluster.Cluster_EdsClusterConfig{EdsConfig: fromADS()}}
	}
	assigned := func(name string, a *core.Address) *endpoint.ClusterLoadAssignment {
		return &endpoint.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpoint.LocalityLbEndpoints{{LbEndpoints: []*endpoint.LbEndpoint{endpointAt(a)}}}}
	}
	inside := func(name string) *core.Address {
		return &core.Address{Address: &core.Address_EnvoyInternalAddress{EnvoyInternalAddress: &core.EnvoyInternalAddress{
			AddressNameSpecifier: &core.EnvoyInternalAddress_ServerListenerName{ServerListenerName: name}}}}
	}
	return []mutant{
		{"spare cluster made of one that does not exist", func(s *snapshot) {
			s.add(&cluster.Cluster{Name: "spare", CommonLbConfig: calm(), ClusterDiscoveryType: &cluster.Cluster_ClusterType{ClusterType: &cluster.Cluster_CustomClusterType{
				Name: "aggregate", TypedConfig: pack(s.t, &aggregate.ClusterConfig{Clusters: []string{"later"}})}}})
		}, "", []string{"cluster spare"}, "cluster later"},
		{"spare cluster without endpoints", func(s *snapshot) { s.add(discovered("spare")) }, "", []string{"cluster spare"}, "endpoints spare"},
		{"spare cluster with discovered endpoints behind TLS", func(s *snapshot) {
			c := discovered("spare")
			c.TransportSocket = s.cluster("pass/nl").TransportSocket
			s.add(c)
			s.add(assigned("spare", socketAt("127.0.0.1", 20001)))
		}, "", []string{"cluster spare"}, "endpoints spare"},
		{"spare cluster of no known kind of endpoints", func(s *snapshot) {
			c := discovered("spare")
			c.EdsClusterConfig.EdsConfig = nil
			s.add(c)
		}, "", []string{"cluster spare", "field eds_cluster_config"}, ""},
		{"spare cluster with endpoints and a discovery too", func(s *snapshot) {
			c := staticCluster("spare", socketAt("127.0.0.1", 20001))
			c.EdsClusterConfig = discovered("x").EdsClusterConfig
			s.add(c)
		}, "", []string{"cluster spare", "field eds_cluster_config"}, ""},
		{"spare cluster made of others, with endpoints too", func(s *snapshot) {
			c := staticCluster("spare", socketAt("127.0.0.1", 20001))
			c.ClusterDiscoveryType = &cluster.Cluster_ClusterType{ClusterType: &cluster.Cluster_CustomClusterType{
				Name: "aggregate", TypedConfig: pack(s.t, &aggregate.ClusterConfig{Clusters: []string{"service/billing"}})}}
			s.add(c)
		}, "", []string{"cluster spare", "field cluster_type"}, ""},
		{"spare cluster with two certificates", func(s *snapshot) {
			c := clone(s.cluster("pass/nl"))
			c.Name, c.LoadAssignment.ClusterName = "spare", "spare"
			edit(s.t, c.TransportSocket.GetTypedConfig(), func(u *tls.UpstreamTlsContext) {
				u.CommonTlsContext.TlsCertificateSdsSecretConfigs = append(u.CommonTlsContext.TlsCertificateSdsSecretConfigs, &tls.SdsSecretConfig{Name: "vault.example.com", SdsConfig: fromADS()})
			})
			s.add(c)
		}, "", []string{"cluster spare", "secret vault.example.com"}, "secret vault.example.com"},
		{"spare cluster wrapped in TLS of the wrong side", func(s *snapshot) {
			c := staticCluster("spare", socketAt("127.0.0.1", 20001))
			c.TransportSocket = s.chain("peers", "peers").TransportSocket
			s.add(c)
		}, "", []string{"cluster spare", "transport socket"}, ""},
		{"spare endpoints inside this Envoy", func(s *snapshot) { s.add(assigned("spare", inside("pass/nl"))) },
			"", []string{"endpoints spare", "endpoint pass/nl"}, "listener pass/nl"},
		{"spare endpoints at another socket", func(s *snapshot) {
			s.add(assigned("spare", &core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: "/tmp/x.sock"}}}))
		}, "", []string{"endpoints spare", "endpoint /tmp/x.sock"}, "/tmp/x.sock"},
		{"spare cluster that writes the caller's address to an instance", func(s *snapshot) {
			c := staticCluster("spare", socketAt("127.0.0.1", 20001))
			c.TransportSocket = &core.TransportSocket{Name: "proxy", ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: pack(s.t,
				&proxyprotocol.ProxyProtocolUpstreamTransport{Config: &core.ProxyProtocolConfig{}})}}
			s.add(c)
		}, "", []string{"cluster spare"}, "127.0.0.1:20001"},
		{"spare way into this Envoy that leads out of it", func(s *snapshot) {
			c := clone(s.cluster("inward"))
			c.Name, c.LoadAssignment = "spare", assigned("spare", socketAt("203.0.113.9", 80))
			s.add(c)
		}, "", []string{"cluster spare", "endpoint 203.0.113.9:80"}, "203.0.113.9:80"},
		{"spare listener in a way that is not understood", func(s *snapshot) {
			c := clone(s.chain("entrypoint-https", "serve"))
			c.TransportSocket = s.cluster("pass/nl").TransportSocket
			s.listener("pass/nl").FilterChains = []*listener.FilterChain{c}
		}, "dutch", []string{"listener pass/nl", "chain serve", "transport socket"}, ""},
		{"chain that does nothing", func(s *snapshot) { s.chain("entrypoint-https", "unavailable").Filters = nil },
			"", []string{"listener entrypoint-https", "chain unavailable"}, ""},
		{"filter after the last", func(s *snapshot) {
			c := s.chain("entrypoint-https", "pass/nl")
			c.Filters = append(c.Filters, s.chain("entrypoint-https", "unavailable").Filters...)
		}, "dutch", []string{"listener entrypoint-https", "chain pass/nl", "filter"}, ""},
	}
}
