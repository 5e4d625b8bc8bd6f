package proof_test

import (
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	lua "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	omit "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	percent "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// routeMutants change where a route leads.
func routeMutants() []mutant {
	billing := []string{"listener", "chain", "routes host/billing.example.com", "virtual host billing", "route"}
	field := []string{"listener", "chain", "routes host/billing.example.com", "virtual_hosts billing", "routes any"}
	foreign := func(s *snapshot) { s.add(staticCluster("mirror", socketAt("10.1.0.5", 8080))) }
	return []mutant{
		{"mirror of one request in a million", func(s *snapshot) {
			foreign(s)
			s.action("billing").RequestMirrorPolicies = []*route.RouteAction_RequestMirrorPolicy{{Cluster: "mirror",
				RuntimeFraction: &core.RuntimeFractionalPercent{DefaultValue: &percent.FractionalPercent{Numerator: 1, Denominator: percent.FractionalPercent_MILLION}}}}
		}, "billing", append(billing, "mirror mirror", "cluster mirror", "endpoint"), "10.1.0.5:8080"},
		{"mirror for a whole virtual host", func(s *snapshot) {
			foreign(s)
			s.host("host/billing.example.com", "billing").RequestMirrorPolicies = []*route.RouteAction_RequestMirrorPolicy{{Cluster: "mirror"}}
		}, "billing", []string{"routes host/billing.example.com", "virtual_hosts billing", "request_mirror_policies"}, "10.1.0.5:8080"},
		{"mirror for all routes", func(s *snapshot) {
			foreign(s)
			s.routes("host/billing.example.com").RequestMirrorPolicies = []*route.RouteAction_RequestMirrorPolicy{{Cluster: "mirror"}}
		}, "billing", []string{"routes host/billing.example.com", "request_mirror_policies"}, "10.1.0.5:8080"},
		{"weighted cluster of weight 1", func(s *snapshot) {
			foreign(s)
			s.action("billing").ClusterSpecifier = &route.RouteAction_WeightedClusters{WeightedClusters: &route.WeightedCluster{Clusters: []*route.WeightedCluster_ClusterWeight{
				{Name: "service/billing", Weight: wrapperspb.UInt32(999)}, {Name: "mirror", Weight: wrapperspb.UInt32(1)}}}}
		}, "billing", append(billing, "weighted cluster mirror", "cluster mirror", "endpoint"), "10.1.0.5:8080"},
		{"cluster of another service", func(s *snapshot) {
			s.action("billing").ClusterSpecifier = &route.RouteAction_Cluster{Cluster: "service/catalog"}
		}, "billing", append(billing, "cluster service/catalog", "endpoint"), "127.0.0.1:20004"},
		{"cluster that leads to peers", func(s *snapshot) {
			s.action("billing").ClusterSpecifier = &route.RouteAction_Cluster{Cluster: "pass/nl"}
		}, "billing", append(billing, "cluster pass/nl", "endpoint"), "nl.example.net:7443"},
		{"cluster that leads into a passing listener", func(s *snapshot) {
			s.action("billing").ClusterSpecifier = &route.RouteAction_Cluster{Cluster: "wrap/pass/nl"}
		}, "billing", append(billing, "cluster wrap/pass/nl", "endpoint"), "pass/nl"},
		{"cluster of the control plane", func(s *snapshot) {
			s.action("billing").ClusterSpecifier = &route.RouteAction_Cluster{Cluster: "polder"}
		}, "billing", append(billing, "cluster polder"), "polder"},
		{"cluster that a header names", func(s *snapshot) {
			s.action("billing").ClusterSpecifier = &route.RouteAction_ClusterHeader{ClusterHeader: "x-cluster"}
		}, "billing", append(field, "route", "cluster_header"), "any address, such as x-cluster"},
		{"cluster that code names", func(s *snapshot) {
			s.action("billing").ClusterSpecifier = &route.RouteAction_ClusterSpecifierPlugin{ClusterSpecifierPlugin: "plugin"}
		}, "billing", append(field, "route", "cluster_specifier_plugin"), "plugin"},
		{"redirect to another host", func(s *snapshot) {
			s.host("host/billing.example.com", "billing").Routes[1].Action = &route.Route_Redirect{Redirect: &route.RedirectAction{
				SchemeRewriteSpecifier: &route.RedirectAction_HttpsRedirect{HttpsRedirect: true}, HostRedirect: "billing.example.org"}}
		}, "billing", append(field, "redirect", "host_redirect"), "billing.example.org"},
		{"redirect to plain HTTP", func(s *snapshot) {
			s.host("host/billing.example.com", "billing").Routes[1].Action = &route.Route_Redirect{Redirect: &route.RedirectAction{}}
		}, "billing", billing, "plain HTTP"},
		{"redirects of the instance followed by Envoy", func(s *snapshot) {
			s.action("billing").InternalRedirectPolicy = &route.InternalRedirectPolicy{AllowCrossSchemeRedirect: true}
		}, "billing", append(field, "route", "internal_redirect_policy"), "any address"},
		{"tunnel for a route", func(s *snapshot) {
			s.action("billing").UpgradeConfigs = []*route.RouteAction_UpgradeConfig{{UpgradeType: "CONNECT", ConnectConfig: &route.RouteAction_UpgradeConfig_ConnectConfig{}}}
		}, "billing", append(field, "route", "upgrade_configs"), "CONNECT"},
		{"retries on hosts that code chooses", func(s *snapshot) {
			s.action("billing").RetryPolicy.RetryHostPredicate = []*route.RetryPolicy_RetryHostPredicate{{Name: "previous",
				ConfigType: &route.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: pack(s.t, &omit.PreviousHostsPredicate{})}}}
		}, "billing", append(field, "route", "retry_policy", "retry_host_predicate"), "previous"},
		{"code for a single route", func(s *snapshot) {
			s.host("host/billing.example.com", "billing").Routes[1].TypedPerFilterConfig = map[string]*anypb.Any{"lua": pack(s.t, &lua.LuaPerRoute{})}
		}, "billing", append(field, "typed_per_filter_config"), ""},
		{"reply from a file", func(s *snapshot) {
			s.host("host/billing.example.com", "billing").Routes[1].Action = &route.Route_DirectResponse{DirectResponse: &route.DirectResponseAction{Status: 200,
				Body: &core.DataSource{Specifier: &core.DataSource_Filename{Filename: "/var/lib/polder/keys/vault.pem"}}}}
		}, "billing", append(field, "direct_response", "body", "filename"), "/var/lib/polder/keys/vault.pem"},
		{"key in a reply", func(s *snapshot) {
			h := s.host("wildcards", "misdirected")
			h.Routes[0].GetDirectResponse().Body = inline("-----BEGIN EC PRIVATE KEY-----\nMHcCAQ")
		}, "inner", []string{"routes wildcards", "virtual_hosts misdirected", "routes misdirected", "direct_response"}, "a private key"},
		{"environment in a header", func(s *snapshot) {
			h := s.host("host/billing.example.com", "billing")
			h.ResponseHeadersToAdd = []*core.HeaderValueOption{{Header: &core.HeaderValue{Key: "x-key", Value: "%ENVIRONMENT(VAULT_KEY)%"}}}
		}, "billing", []string{"routes host/billing.example.com", "virtual_hosts billing", "response_headers_to_add", "header", "value"}, "%ENVIRONMENT%"},
		{"activator told another service", func(s *snapshot) {
			s.host("host/billing.example.com", "billing").RequestHeadersToAdd[0].Header.Value = "dutch"
		}, "billing", append(billing, "cluster service/billing", "endpoint "+activator), activator},
		{"activator told what the caller says", func(s *snapshot) { s.host("host/billing.example.com", "billing").RequestHeadersToAdd = nil },
			"billing", append(billing, "cluster service/billing", "endpoint "+activator), activator},
		{"activator told what the caller says as well", func(s *snapshot) {
			s.host("host/billing.example.com", "billing").RequestHeadersToAdd[0].AppendAction = core.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
		}, "billing", append(billing, "cluster service/billing", "endpoint "+activator), activator},
		{"activator told another service by a later rule", func(s *snapshot) {
			s.routes("host/billing.example.com").RequestHeadersToAdd = []*core.HeaderValueOption{{AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
				Header: &core.HeaderValue{Key: "X-Polder-Service", Value: "catalog"}}}
		}, "billing", append(billing, "cluster service/billing", "endpoint "+activator), activator},
		{"routes fetched on demand", func(s *snapshot) { s.routes("host/billing.example.com").Vhds = &route.Vhds{} },
			"billing", []string{"routes host/billing.example.com", "vhds"}, ""},
		{"routes from somewhere else", func(s *snapshot) {
			s.manager("entrypoint-https", "serve-wildcard", func(m *hcm.HttpConnectionManager) { m.GetRds().ConfigSource = nil })
		}, "billing", []string{"listener entrypoint-https", "chain serve-wildcard", "filter", "field rds"}, ""},
		{"scopes from somewhere else", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(m *hcm.HttpConnectionManager) { m.GetScopedRoutes().GetScopedRds().ScopedRdsConfigSource = nil })
		}, "billing", []string{"listener entrypoint-https", "chain serve", "filter", "field scoped_routes"}, ""},
		{"no routes at all", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(m *hcm.HttpConnectionManager) { m.RouteSpecifier = nil })
		}, "billing", []string{"listener entrypoint-https", "chain serve", "filter", "field route_specifier"}, ""},
		{"no filter that sends requests on", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(m *hcm.HttpConnectionManager) { m.HttpFilters = nil })
		}, "billing", []string{"listener entrypoint-https", "chain serve", "filter", "field http_filters"}, ""},
		{"route that does nothing known", func(s *snapshot) { s.host("host/billing.example.com", "billing").Routes[1].Action = nil },
			"billing", billing, ""},
		{"route to no cluster", func(s *snapshot) { s.action("billing").ClusterSpecifier = nil }, "billing", billing, "any address"},
		{"routes inside the listener", func(s *snapshot) {
			foreign(s)
			s.manager("entrypoint-https", "serve", func(m *hcm.HttpConnectionManager) {
				m.RouteSpecifier = &hcm.HttpConnectionManager_RouteConfig{RouteConfig: &route.RouteConfiguration{VirtualHosts: []*route.VirtualHost{{
					Name: "all", Domains: []string{"*"}, Routes: []*route.Route{{Action: &route.Route_Route{Route: &route.RouteAction{
						ClusterSpecifier: &route.RouteAction_Cluster{Cluster: "mirror"}}}}}}}}}
			})
		}, "billing", []string{"listener entrypoint-https", "filter_chains serve", "filters", "route_config"}, "10.1.0.5:8080"},
	}
}

// hostMutants change which host finds which routes.
func hostMutants() []mutant {
	return []mutant{
		{"wildcard that captures another's host", func(s *snapshot) { s.host("wildcards", "misdirected").Domains = []string{"*"} },
			"inner", []string{"listener", "chain", "routes wildcards", "virtual host billing", "domain *.billing.example.com"}, "127.0.0.1:20001"},
		{"domain that captures everything", func(s *snapshot) {
			h := s.host("host/billing.example.com", "billing")
			h.Domains = append(h.Domains, "*")
		}, "billing", []string{"listener", "routes host/billing.example.com", "virtual host billing", "domain *"}, "127.0.0.1:20001"},
		{"domain in two virtual hosts", func(s *snapshot) {
			h := s.host("wildcards", "misdirected")
			h.Domains = append(h.Domains, "*.billing.example.com")
		}, "billing", []string{"listener", "routes wildcards", "virtual host misdirected"}, "host *.billing.example.com"},
		{"domain of another service", func(s *snapshot) {
			h := s.host("host/billing.example.com", "billing")
			h.Domains = append(h.Domains, "catalog.example.com")
		}, "catalog", []string{"listener", "routes host/billing.example.com", "virtual host billing", "domain catalog.example.com"}, "127.0.0.1:20001"},
		{"domain of a service that is forbidden here", func(s *snapshot) {
			h := s.host("host/billing.example.com", "billing")
			h.Domains = append(h.Domains, "vault.example.com")
		}, "vault", []string{"listener", "routes host/billing.example.com", "virtual host billing", "domain vault.example.com"}, "127.0.0.1:20001"},
		{"domain that nobody owns", func(s *snapshot) {
			h := s.host("host/billing.example.com", "billing")
			h.Domains = append(h.Domains, "billing.example.*")
		}, "billing", []string{"listener", "routes host/billing.example.com", "virtual host billing", "domain billing.example.*"}, "127.0.0.1:20001"},
		{"host that leads to another's routes", func(s *snapshot) {
			s.routes("host/catalog.example.com").VirtualHosts[0].Domains = []string{"catalog.example.com", "billing.example.com"}
			s.scope("billing.example.com").RouteConfigurationName = "host/catalog.example.com"
		}, "billing", []string{"scope", "routes host/catalog.example.com", "virtual host catalog"}, "catalog.example.com"},
		{"host that is forbidden here, with routes", func(s *snapshot) {
			s.add(&route.ScopedRouteConfiguration{Name: "host/dutch.example.com", RouteConfigurationName: "host/billing.example.com", Key: scopeKey("dutch.example.com")})
		}, "dutch", []string{"scope dutch.example.com"}, "routes host/billing.example.com"},
		{"host of a standby that is not needed", func(s *snapshot) {
			s.add(&route.ScopedRouteConfiguration{Name: "host/standby.example.com", RouteConfigurationName: "host/billing.example.com", Key: scopeKey("standby.example.com")})
		}, "standby", []string{"scope standby.example.com"}, "routes host/billing.example.com"},
		{"host that nobody owns, with routes", func(s *snapshot) { s.scope("billing.example.com").Key = scopeKey("anybody.example.org") },
			"", []string{"scope"}, "anybody.example.org"},
		{"host whose routes are somewhere else", func(s *snapshot) { s.scope("billing.example.com").RouteConfigurationName = "later" },
			"billing", []string{"scope"}, "routes later"},
		{"host whose routes are fetched on demand", func(s *snapshot) { s.scope("billing.example.com").OnDemand = true },
			"billing", []string{"scope", "on_demand"}, ""},
		{"routes chosen by a header of the caller", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(m *hcm.HttpConnectionManager) { m.EarlyHeaderMutationExtensions = nil })
		}, "billing", []string{"listener entrypoint-https", "chain serve", "filter", "field scoped_routes"}, ""},
		{"routes chosen by the host header", func(s *snapshot) {
			s.manager("inward", "serve", func(m *hcm.HttpConnectionManager) {
				m.GetScopedRoutes().ScopeKeyBuilder.Fragments[0].GetHeaderValueExtractor().Name = ":authority"
			})
		}, "", []string{"listener inward", "chain serve", "filter", "field scoped_routes"}, ""},
		{"scope key with a part that the caller chooses", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(m *hcm.HttpConnectionManager) {
				b := m.GetScopedRoutes().ScopeKeyBuilder
				b.Fragments = append(b.Fragments, b.Fragments[0])
			})
		}, "billing", []string{"listener entrypoint-https", "chain serve", "filter", "field scoped_routes"}, ""},
		{"host changed before its routes are chosen", func(s *snapshot) {
			s.manager("entrypoint-https", "serve-wildcard", func(m *hcm.HttpConnectionManager) {
				s.manager("entrypoint-https", "serve", func(other *hcm.HttpConnectionManager) {
					m.EarlyHeaderMutationExtensions = other.EarlyHeaderMutationExtensions
				})
			})
		}, "billing", []string{"listener entrypoint-https", "chain serve-wildcard", "filter", "field early_header_mutation_extensions"}, ""},
	}
}

func scopeKey(host string) *route.ScopedRouteConfiguration_Key {
	return &route.ScopedRouteConfiguration_Key{Fragments: []*route.ScopedRouteConfiguration_Key_Fragment{{
		Type: &route.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: host}}}}
}
