package proof_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filelog "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	aggregate "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	lua "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// clientWorld is the world of the mutants, seen from a program that calls without
// an Envoy on another machine: its services speak HTTP/2, and their instances have
// addresses that other machines reach.
func clientWorld(t testing.TB) world {
	config := strings.ReplaceAll(mutantConfig, "] }\n    run:", "] }\n    protocol: h2c\n    run:")
	config = strings.ReplaceAll(config, "] }\n    endpoints:", "] }\n    protocol: h2c\n    endpoints:")
	w := makeWorld(t, []byte(config), []byte(strings.ReplaceAll(mutantCircumstances, "127.0.0.1", "10.0.0.7")))
	w.clients = &xds.Clients{Region: w.here, Activator: netip.MustParseAddrPort("192.0.2.1:7445"), TrustDomain: trustDomain}
	return w
}

// toBilling is the way of calls for billing, up to the clusters that they may end in.
var toBilling = []string{"listener billing.example.com", "routes client/billing.example.com", "virtual host billing", "cluster client/billing"}

// TestClientMutants holds that a client without an Envoy is led to the instances of
// the host's own service in this region, or to the activator, inside mTLS with a
// peer of the region, and nowhere else.
func TestClientMutants(t *testing.T) {
	holdMutants(t, clientWorld(t), slices.Concat(clientPlaceMutants(), clientEntryMutants(), clientActivatorMutants()))
}

func clientPlaceMutants() []mutant {
	const instances = "client-instances/billing"
	toInstances := append(slices.Clone(toBilling), "cluster "+instances, "endpoint")
	add := func(s *snapshot, assignment, host string, port uint32) {
		first := s.assignment(assignment).Endpoints[0]
		first.LbEndpoints = append(first.LbEndpoints, endpointAt(socketAt(host, port)))
	}
	members := func(s *snapshot, names ...string) {
		s.cluster("client/billing").GetClusterType().TypedConfig = pack(s.t, &aggregate.ClusterConfig{Clusters: names})
	}
	return []mutant{
		{"client: instance in another region", func(s *snapshot) { add(s, "client-instances/catalog", "10.1.0.77", 20004) },
			"catalog", []string{"listener catalog.example.com", "cluster client-instances/catalog", "endpoint"}, "10.1.0.77:20004"},
		{"client: configured address in another region", func(s *snapshot) { add(s, "client-instances/legacy", "10.1.0.5", 8080) },
			"legacy", []string{"listener legacy.example.com", "cluster client-instances/legacy", "endpoint"}, "10.1.0.5:8080"},
		{"client: instance of another service", func(s *snapshot) { add(s, instances, "10.0.0.7", 20004) }, "billing", toInstances, "10.0.0.7:20004"},
		{"client: address that nobody knows", func(s *snapshot) { add(s, instances, "203.0.113.9", 80) }, "billing", toInstances, "203.0.113.9:80"},
		{"client: peer of another region in clear", func(s *snapshot) { add(s, instances, "192.0.2.30", 7443) }, "billing", toInstances, "192.0.2.30:7443"},
		{"client: activator among the instances", func(s *snapshot) { add(s, instances, "192.0.2.1", 7445) }, "billing", toInstances, "192.0.2.1:7445"},
		{"client: instance where the activator is meant", func(s *snapshot) { add(s, "client-activator", "10.0.0.7", 20001) },
			"billing", append(slices.Clone(toBilling), "cluster client-activator/billing", "endpoint"), "10.0.0.7:20001"},
		{"client: another address for the activator", func(s *snapshot) {
			s.assignment("client-activator").Endpoints[0].LbEndpoints[0].GetEndpoint().Address = socketAt("203.0.113.9", 7445)
		}, "billing", append(slices.Clone(toBilling), "cluster client-activator/billing", "endpoint"), "203.0.113.9:7445"},
		{"client: socket of this machine", func(s *snapshot) {
			first := s.assignment(instances).Endpoints[0]
			first.LbEndpoints = append(first.LbEndpoints, endpointAt(&core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: activator}}}))
		}, "billing", toInstances, activator},
		{"client: instances of another service beside its own", func(s *snapshot) { members(s, instances, "client-instances/catalog") },
			"billing", append(slices.Clone(toBilling), "cluster client-instances/catalog", "endpoint"), "10.0.0.7:20004"},
		{"client: made of a cluster that is not there", func(s *snapshot) { members(s, instances, "elsewhere") },
			"billing", append(slices.Clone(toBilling), "cluster elsewhere"), "elsewhere"},
		{"client: instances wrapped as the activator is", func(s *snapshot) {
			s.cluster(instances).TransportSocket = s.cluster("client-activator/billing").TransportSocket
		}, "billing", []string{"cluster " + instances}, instances},
		{"client: endpoints from another control plane", func(s *snapshot) {
			s.cluster(instances).EdsClusterConfig.EdsConfig.ConfigSourceSpecifier = &core.ConfigSource_Self{Self: &core.SelfConfigSource{}}
		}, "billing", []string{"cluster " + instances, "field eds_cluster_config"}, ""},
		{"client: load reported to another place", func(s *snapshot) {
			s.cluster(instances).LrsServer = &core.ConfigSource{ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}}}
		}, "billing", []string{"cluster " + instances, "field lrs_server"}, "load report"},
		{"client: calls to whom the name server says", func(s *snapshot) {
			s.cluster(instances).ClusterDiscoveryType = &cluster.Cluster_Type{Type: cluster.Cluster_LOGICAL_DNS}
		}, "billing", []string{"cluster " + instances, "type LOGICAL_DNS"}, "any address"},
		{"client: panic routing", func(s *snapshot) { s.cluster("client/billing").CommonLbConfig = nil },
			"billing", []string{"cluster client/billing", "field common_lb_config"}, "endpoints that are out"},
	}
}

// entry changes what a client finds by the name that it resolves.
func (s *snapshot) entry(host string, change func(*hcm.HttpConnectionManager)) {
	s.t.Helper()
	edit(s.t, s.listener(host).ApiListener.ApiListener, change)
}

func clientEntryMutants() []mutant {
	const host = "billing.example.com"
	routes := func(s *snapshot, of, to string) {
		s.entry(of, func(h *hcm.HttpConnectionManager) { h.GetRds().RouteConfigName = to })
	}
	renamed := func(s *snapshot, to string) {
		l := proto.Clone(s.listener(host)).(*listener.Listener)
		l.Name = to
		s.add(l)
	}
	action := func(s *snapshot) *route.RouteAction { return s.host("client/"+host, "billing").Routes[0].GetRoute() }
	return []mutant{
		{"client: routes of another service", func(s *snapshot) {
			routes(s, host, "client/catalog.example.com")
			h := s.host("client/catalog.example.com", "catalog")
			h.Domains = append(h.Domains, host)
		}, "billing", []string{"listener " + host, "routes client/catalog.example.com"}, "catalog.example.com"},
		{"client: routes that are not there", func(s *snapshot) { routes(s, host, "elsewhere") }, "billing", []string{"listener " + host}, "elsewhere"},
		{"client: routes from another control plane", func(s *snapshot) {
			s.entry(host, func(h *hcm.HttpConnectionManager) {
				h.GetRds().ConfigSource = &core.ConfigSource{ConfigSourceSpecifier: &core.ConfigSource_Self{Self: &core.SelfConfigSource{}}}
			})
		}, "billing", []string{"listener " + host, "field api_listener", "field rds"}, ""},
		{"client: host of a service that another region has", func(s *snapshot) { renamed(s, "dutch.example.com") },
			"dutch", []string{"listener dutch.example.com"}, "routes client/" + host},
		{"client: host of a service that waits for another region's end", func(s *snapshot) { renamed(s, "standby.example.com") },
			"standby", []string{"listener standby.example.com"}, "routes client/" + host},
		{"client: host of a service that is refused here", func(s *snapshot) { renamed(s, "vault.example.com") },
			"vault", []string{"listener vault.example.com"}, "routes client/" + host},
		{"client: host that nobody owns", func(s *snapshot) { renamed(s, "stranger.example.com") },
			"", []string{"listener stranger.example.com"}, "stranger.example.com"},
		{"client: host of another region in the routes", func(s *snapshot) {
			h := s.host("client/"+host, "billing")
			h.Domains = append(h.Domains, "dutch.example.com")
		}, "dutch", []string{"routes client/" + host, "virtual host billing", "domain dutch.example.com"}, "10.0.0.7:20001"},
		{"client: hosts of everybody in the routes", func(s *snapshot) { s.host("client/"+host, "billing").Domains = []string{"*.billing.example.com", host} },
			"inner", []string{"routes client/" + host, "virtual host billing", "domain *.billing.example.com"}, "10.0.0.7:20001"},
		{"client: cluster of another service", func(s *snapshot) {
			action(s).ClusterSpecifier = &route.RouteAction_Cluster{Cluster: "client/catalog"}
		}, "billing", []string{"listener " + host, "virtual host billing", "cluster client/catalog", "cluster client-instances/catalog", "endpoint"}, "10.0.0.7:20004"},
		{"client: calls copied to another service", func(s *snapshot) {
			action(s).RequestMirrorPolicies = []*route.RouteAction_RequestMirrorPolicy{{Cluster: "client-instances/catalog"}}
		}, "billing", []string{"listener " + host, "virtual host billing", "mirror client-instances/catalog", "endpoint"}, "10.0.0.7:20004"},
		{"client: cluster that the call chooses", func(s *snapshot) {
			action(s).ClusterSpecifier = &route.RouteAction_ClusterHeader{ClusterHeader: "x-cluster"}
		}, "billing", []string{"routes client/" + host, "cluster_header"}, "any address"},
		{"client: a name that also listens", func(s *snapshot) { s.listener(host).Address = socketAt("192.0.2.1", 443) },
			"billing", []string{"listener " + host, "field api_listener"}, ""},
		{"client: a listener for others", func(s *snapshot) {
			s.add(&listener.Listener{Name: "other", Address: socketAt("192.0.2.1", 443)})
		}, "", []string{"listener other"}, "192.0.2.1:443"},
		{"client: a filter with code", func(s *snapshot) {
			s.entry(host, func(h *hcm.HttpConnectionManager) {
				h.HttpFilters = append([]*hcm.HttpFilter{{Name: "lua", ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: pack(s.t, &lua.Lua{})}}}, h.HttpFilters...)
			})
		}, "billing", []string{"listener " + host, "api_listener"}, "any address"},
		{"client: a log of calls", func(s *snapshot) {
			s.entry(host, func(h *hcm.HttpConnectionManager) {
				h.AccessLog = []*accesslog.AccessLog{{Name: "file", ConfigType: &accesslog.AccessLog_TypedConfig{TypedConfig: pack(s.t, &filelog.FileAccessLog{Path: logFile})}}}
			})
		}, "billing", []string{"listener " + host, "field api_listener"}, ""},
		{"client: a name that leads to no requests", func(s *snapshot) { s.listener(host).ApiListener.ApiListener = pack(s.t, &cluster.Cluster{Name: "x"}) },
			"billing", []string{"listener " + host, "field api_listener"}, ""},
	}
}

func clientActivatorMutants() []mutant {
	const leaf = "client-activator/billing"
	path := append(slices.Clone(toBilling), "cluster "+leaf, "endpoint")
	const at = "192.0.2.1:7445"
	inside := func(change func(*tls.CommonTlsContext)) func(*snapshot) {
		return func(s *snapshot) {
			s.toPeers(leaf, func(c *tls.UpstreamTlsContext) { change(c.CommonTlsContext) })
		}
	}
	named := func(patterns ...*matcher.StringMatcher) func(*snapshot) {
		return inside(func(c *tls.CommonTlsContext) {
			//lint:ignore SA1019 gRPC reads no other field for it
			c.GetValidationContext().MatchSubjectAltNames = patterns
		})
	}
	prefix := func(p string) *matcher.StringMatcher {
		return &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Prefix{Prefix: p}}
	}
	const region = "spiffe://polder.test/region/"
	secret := func(name string) *tls.SdsSecretConfig {
		return &tls.SdsSecretConfig{Name: name, SdsConfig: &core.ConfigSource{ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}}}}
	}
	return []mutant{
		{"client: activator in clear", func(s *snapshot) { s.cluster(leaf).TransportSocket = nil }, "billing", path, at},
		{"client: activator whose place anybody can take", named(), "billing", path, at},
		{"client: activator whose place a node can take", named(prefix(region + "fr/")), "billing", path, at},
		{"client: activator whose place another region can take", named(prefix(region+"fr/peer/"), prefix(region+"nl/peer/")), "billing", path, at},
		{"client: activator whose place a region that begins alike can take", named(prefix(region + "fr")), "billing", path, at},
		{"client: activator named by a pattern", named(&matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Suffix{Suffix: "/peer/fr-1"}}), "billing", []string{"cluster " + leaf}, ""},
		{"client: activator named where gRPC does not look", inside(func(c *tls.CommonTlsContext) {
			//lint:ignore SA1019 gRPC reads no other field for it
			c.GetValidationContext().MatchSubjectAltNames = nil
			c.GetValidationContext().MatchTypedSubjectAltNames = []*tls.SubjectAltNameMatcher{{SanType: tls.SubjectAltNameMatcher_URI, Matcher: prefix(region + "fr/peer/")}}
		}), "billing", path, at},
		{"client: activator that anybody signed", inside(func(c *tls.CommonTlsContext) { c.GetValidationContext().CaCertificateProviderInstance = nil }), "billing", path, at},
		{"client: activator that another file vouches for", inside(func(c *tls.CommonTlsContext) {
			c.GetValidationContext().CaCertificateProviderInstance.InstanceName = "other"
		}), "billing", path, at},
		{"client: another certificate of the client", inside(func(c *tls.CommonTlsContext) { c.TlsCertificateProviderInstance.InstanceName = "other" }), "billing", path, at},
		{"client: no certificate of the client", inside(func(c *tls.CommonTlsContext) { c.TlsCertificateProviderInstance = nil }), "billing", path, at},
		{"client: certificates over discovery", inside(func(c *tls.CommonTlsContext) {
			c.TlsCertificateProviderInstance = nil
			c.TlsCertificateSdsSecretConfigs = []*tls.SdsSecretConfig{secret("polder")}
			c.ValidationContextType = &tls.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tls.CommonTlsContext_CombinedCertificateValidationContext{
				ValidationContextSdsSecretConfig: secret("polder"),
				DefaultValidationContext: &tls.CertificateValidationContext{MatchTypedSubjectAltNames: []*tls.SubjectAltNameMatcher{
					{SanType: tls.SubjectAltNameMatcher_URI, Matcher: prefix(region + "fr/peer/")}}},
			}}
		}), "billing", path, at},
		{"client: certificates of both kinds", inside(func(c *tls.CommonTlsContext) {
			c.TlsCertificateSdsSecretConfigs = []*tls.SdsSecretConfig{secret("peer/identity")}
		}), "billing", []string{"cluster " + leaf}, "peer/identity"},
		{"client: spare cluster to the activator in clear", func(s *snapshot) { s.add(staticCluster("spare", socketAt("192.0.2.1", 7445))) },
			"", []string{"cluster spare", "endpoint"}, at},
	}
}

// TestClientConstructsStayWithClients holds that what only clients without an Envoy
// understand as it is meant is a violation in every other book.
func TestClientConstructsStayWithClients(t *testing.T) {
	provider := func() *tls.CertificateProviderPluginInstance {
		return &tls.CertificateProviderPluginInstance{InstanceName: "peer/identity"}
	}
	toNL := []string{"cluster pass/nl"}
	holdMutants(t, mutantWorld(t), []mutant{
		{"gateway: a listener that clients resolve", func(s *snapshot) {
			s.add(&listener.Listener{Name: "billing.example.com", ApiListener: &listener.ApiListener{ApiListener: pack(s.t, &hcm.HttpConnectionManager{
				RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{RouteConfigName: "host/billing.example.com",
					ConfigSource: &core.ConfigSource{ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}}}}},
			})}})
		}, "billing", []string{"listener billing.example.com", "api_listener"}, ""},
		{"gateway: load reported by the cluster's own choice", func(s *snapshot) {
			s.cluster("service/billing").LrsServer = &core.ConfigSource{ConfigSourceSpecifier: &core.ConfigSource_Self{Self: &core.SelfConfigSource{}}}
		}, "billing", []string{"cluster service/billing", "lrs_server"}, "load report"},
		{"gateway: a certificate from a file", func(s *snapshot) {
			s.toPeers("pass/nl", func(c *tls.UpstreamTlsContext) {
				c.CommonTlsContext.TlsCertificateSdsSecretConfigs, c.CommonTlsContext.TlsCertificateProviderInstance = nil, provider()
			})
		}, "dutch", toNL, "a file"},
		{"gateway: trust in a file", func(s *snapshot) {
			s.toPeers("pass/nl", func(c *tls.UpstreamTlsContext) {
				c.CommonTlsContext.ValidationContextType = &tls.CommonTlsContext_ValidationContext{
					ValidationContext: &tls.CertificateValidationContext{CaCertificateProviderInstance: provider()}}
			})
		}, "dutch", toNL, "anybody"},
		{"gateway: a name of any kind", func(s *snapshot) {
			s.toPeers("pass/nl", func(c *tls.UpstreamTlsContext) {
				//lint:ignore SA1019 that is what is forbidden
				c.CommonTlsContext.GetCombinedValidationContext().DefaultValidationContext.MatchSubjectAltNames = []*matcher.StringMatcher{{
					MatchPattern: &matcher.StringMatcher_Prefix{Prefix: "spiffe://polder.test/region/nl/peer/"}}}
			})
		}, "dutch", toNL, "anybody"},
	})
	w := clientWorld(t)
	good := w.snapshot()
	w.clients = nil
	for _, r := range good {
		if r.Type != xds.TypeListener {
			continue
		}
		if found := w.check([]proof.Resource{r}); len(found) == 0 {
			t.Errorf("a gateway may have listener %s, which only clients understand", r.Name)
		}
	}
}

// TestClientsSleepAndReach holds that a sleeping service is lawful for clients, that
// the proof sees where each host leads, and that a host of another region leads
// nowhere.
func TestClientsSleepAndReach(t *testing.T) {
	w := clientWorld(t)
	s := open(t, w.snapshot())
	s.assignment("client-instances/billing").Endpoints = nil
	if found := w.check(s.resources()); len(found) > 0 {
		t.Errorf("a service that sleeps: got\n%s", lines(found))
	}
	checker := proof.NewChecker(w.book())
	if err := checker.Propose(proof.Change{Set: w.snapshot(), Instances: w.observed()}).Commit(); err != nil {
		t.Fatal(err)
	}
	var ends []string
	for _, way := range checker.Reach("billing.example.com") {
		ends = append(ends, string(way.Kind)+" "+way.Address)
	}
	slices.Sort(ends)
	want := []string{"activator 192.0.2.1:7445", "instance 10.0.0.7:20001", "instance 10.0.0.7:20002"}
	if !slices.Equal(ends, want) {
		t.Errorf("billing leads to %v, want %v", ends, want)
	}
	for _, host := range []string{"dutch.example.com", "vault.example.com", "standby.example.com", "a.billing.example.com"} {
		if ways := checker.Reach(host); len(ways) > 0 {
			t.Errorf("%s leads to %v, want nowhere", host, ways)
		}
	}
}
