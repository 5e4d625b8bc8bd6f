package proof_test

import (
	xdsmatcher "github.com/cncf/xds/go/xds/type/matcher/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	ratelimitconfig "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	aggregate "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	originaldst "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ratelimit/v3"
	tcpproxy "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	ondemand "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_selectors/on_demand_secret/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// table changes the hosts of a listener's matcher.
func (s *snapshot) table(of string, change func(*xdsmatcher.ServerNameMatcher)) {
	s.t.Helper()
	edit(s.t, s.matcher(of).GetMatcherTree().GetCustomMatch().TypedConfig, change)
}

// matcher is what a listener chooses by the name in the ClientHello with, after it looked
// whether the connection is marked.
func (s *snapshot) matcher(of string) *xdsmatcher.Matcher {
	m := s.listener(of).FilterChainMatcher
	if others := m.GetOnNoMatch().GetMatcher(); others != nil {
		return others
	}
	return m
}

// peersTo leads the connections of peers to a cluster.
func (s *snapshot) peersTo(name string) {
	s.t.Helper()
	edit(s.t, s.chain("peers", "peers").Filters[0].GetTypedConfig(), func(p *tcpproxy.TcpProxy) {
		p.ClusterSpecifier = &tcpproxy.TcpProxy_Cluster{Cluster: name}
	})
}

// to is the part of a matcher that leads to a chain.
func (s *snapshot) to(chain string) *xdsmatcher.Matcher_OnMatch {
	m := s.matcher("entrypoint-https").OnNoMatch
	action := &xdsmatcher.Matcher_OnMatch{}
	action.OnMatch = &xdsmatcher.Matcher_OnMatch_Action{Action: clone(m.GetAction())}
	action.GetAction().TypedConfig = pack(s.t, wrapperspb.String(chain))
	return action
}

// lead leads hosts of a listener's matcher to another chain.
func (s *snapshot) lead(of, host, chain string) {
	s.table(of, func(m *xdsmatcher.ServerNameMatcher) {
		s.forget(m, host)
		m.DomainMatchers = append(m.DomainMatchers, &xdsmatcher.ServerNameMatcher_DomainMatcher{Domains: []string{host}, OnMatch: s.to(chain)})
	})
}

func (s *snapshot) forget(m *xdsmatcher.ServerNameMatcher, host string) {
	for _, row := range m.DomainMatchers {
		for i, d := range row.Domains {
			if d == host {
				row.Domains = append(row.Domains[:i:i], row.Domains[i+1:]...)
				break
			}
		}
	}
}

// openingMutants open what may not be opened, or hold keys that they may not hold.
func openingMutants() []mutant {
	at := func(elements ...string) []string {
		return append([]string{"listener entrypoint-https", "chain serve"}, elements...)
	}
	inTLS := func(elements ...string) []string {
		return append([]string{"listener entrypoint-https", "filter_chains serve", "transport_socket", "common_tls_context"}, elements...)
	}
	common := func(s *snapshot, change func(*tls.CommonTlsContext)) {
		s.opening("entrypoint-https", "serve", func(c *tls.DownstreamTlsContext) { change(c.CommonTlsContext) })
	}
	return []mutant{
		{"host of another region opened", func(s *snapshot) { s.lead("entrypoint-https", "dutch.example.com", "serve") },
			"dutch", at("host dutch.example.com"), "requests for dutch.example.com"},
		{"refused host opened", func(s *snapshot) { s.lead("entrypoint-https", "vault.example.com", "serve") },
			"vault", at("host vault.example.com"), "requests for vault.example.com"},
		{"standby opened while an allowed region lives", func(s *snapshot) { s.lead("entrypoint-https", "standby.example.com", "serve") },
			"standby", at("host standby.example.com"), "requests for standby.example.com"},
		{"host of another region missing below a wildcard", func(s *snapshot) {
			s.table("entrypoint-https", func(m *xdsmatcher.ServerNameMatcher) { s.forget(m, "inner.billing.example.com") })
		}, "inner", []string{"listener entrypoint-https", "chain serve-wildcard", "host inner.billing.example.com"}, "requests for inner.billing.example.com"},
		{"host of another region missing below a wildcard, as peers reach it", func(s *snapshot) {
			s.table("inward", func(m *xdsmatcher.ServerNameMatcher) { s.forget(m, "inner.billing.example.com") })
		}, "inner", []string{"listener peers", "chain peers", "cluster inward", "listener inward", "chain serve-wildcard", "host inner.billing.example.com"}, "requests for inner.billing.example.com"},
		{"host of another region opened for peers", func(s *snapshot) { s.lead("inward", "dutch.example.com", "serve") },
			"dutch", []string{"listener peers", "listener inward", "chain serve", "host dutch.example.com"}, "requests for dutch.example.com"},
		{"names that nobody owns are opened", func(s *snapshot) { s.matcher("entrypoint-https").OnNoMatch = s.to("serve") },
			"", at(), "requests"},
		{"a name that nobody owns is opened", func(s *snapshot) { s.lead("entrypoint-https", "*.example.com", "serve") },
			"", at("host *.example.com"), "requests"},
		{"all names are opened", func(s *snapshot) { s.lead("entrypoint-https", "*", "serve") },
			"", at("host *"), "requests"},
		{"key that is there before anybody calls", func(s *snapshot) {
			common(s, func(c *tls.CommonTlsContext) {
				c.TlsCertificateSdsSecretConfigs = []*tls.SdsSecretConfig{{Name: "vault.example.com", SdsConfig: fromADS()}}
			})
		}, "billing", at(), "secret vault.example.com"},
		{"key in the open", func(s *snapshot) {
			common(s, func(c *tls.CommonTlsContext) { c.TlsCertificates = []*tls.TlsCertificate{{PrivateKey: inline("key")}} })
		}, "billing", inTLS("tls_certificates"), "a private key"},
		{"key in a file", func(s *snapshot) {
			common(s, func(c *tls.CommonTlsContext) {
				c.TlsCertificates = []*tls.TlsCertificate{{PrivateKey: &core.DataSource{Specifier: &core.DataSource_Filename{Filename: "/tmp/key.pem"}}}}
			})
		}, "billing", inTLS("tls_certificates"), "/tmp/key.pem"},
		{"keys of connections written down", func(s *snapshot) {
			common(s, func(c *tls.CommonTlsContext) { c.KeyLog = &tls.TlsKeyLog{Path: "/tmp/keys.log"} })
		}, "billing", inTLS("key_log"), "/tmp/keys.log"},
		{"keys fetched before anybody calls", func(s *snapshot) {
			common(s, func(c *tls.CommonTlsContext) {
				edit(s.t, c.GetCustomTlsCertificateSelector().TypedConfig, func(o *ondemand.Config) { o.PrefetchSecretNames = []string{"vault.example.com"} })
			})
		}, "billing", inTLS("custom_tls_certificate_selector", "prefetch_secret_names"), "vault.example.com"},
		{"key chosen by code", func(s *snapshot) {
			common(s, func(c *tls.CommonTlsContext) { c.CustomHandshaker = &core.TypedExtensionConfig{Name: "handshaker"} })
		}, "billing", inTLS("custom_handshaker"), "handshaker"},
		{"key not chosen at all", func(s *snapshot) {
			common(s, func(c *tls.CommonTlsContext) { c.CustomTlsCertificateSelector = nil })
		}, "billing", at(), "a key"},
		{"keys of sessions shared", func(s *snapshot) {
			s.opening("entrypoint-https", "serve", func(c *tls.DownstreamTlsContext) {
				c.SessionTicketKeysType = &tls.DownstreamTlsContext_SessionTicketKeys{SessionTicketKeys: &tls.TlsSessionTicketKeys{Keys: []*core.DataSource{inline("ticket")}}}
			})
		}, "billing", []string{"listener entrypoint-https", "filter_chains serve", "transport_socket", "session_ticket_keys"}, "keys of sessions"},
		{"opened bytes passed on as they are", func(s *snapshot) {
			c := s.chain("entrypoint-https", "serve")
			c.Filters = []*listener.Filter{s.filter("envoy.filters.network.tcp_proxy", &tcpproxy.TcpProxy{StatPrefix: "x", ClusterSpecifier: &tcpproxy.TcpProxy_Cluster{Cluster: "service/catalog"}})}
		}, "billing", at(), "127.0.0.1:20004"},
		{"callers asked for certificates", func(s *snapshot) {
			s.opening("entrypoint-https", "serve", func(c *tls.DownstreamTlsContext) { c.RequireClientCertificate = wrapperspb.Bool(true) })
		}, "billing", at(), "secret"},
		{"routes of a chain that are gone", func(s *snapshot) {
			s.manager("entrypoint-https", "serve-wildcard", func(m *hcm.HttpConnectionManager) { m.GetRds().RouteConfigName = "later" })
		}, "billing", []string{"listener entrypoint-https", "chain serve-wildcard"}, "routes later"},
		{"requests read without TLS", func(s *snapshot) { s.chain("entrypoint-https", "serve").TransportSocket = nil },
			"billing", at(), "requests"},
	}
}

// listenerMutants change where and how the node listens.
func listenerMutants() []mutant {
	return []mutant{
		{"listener that the book does not know", func(s *snapshot) {
			l := clone(s.listener("entrypoint-https"))
			l.Name, l.Address = "admin", socketAt("0.0.0.0", 9901)
			s.add(l)
		}, "", []string{"listener admin"}, "0.0.0.0:9901"},
		{"listener on more addresses", func(s *snapshot) {
			s.listener("entrypoint-https").AdditionalAddresses = []*listener.AdditionalAddress{{Address: socketAt("0.0.0.0", 8443)}}
		}, "", []string{"listener entrypoint-https", "additional_addresses"}, "0.0.0.0:8443"},
		{"listener on a socket", func(s *snapshot) {
			s.listener("entrypoint-http").Address = &core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: "/tmp/in.sock"}}}
		}, "", []string{"listener entrypoint-http"}, "/tmp/in.sock"},
		{"listener for datagrams", func(s *snapshot) { s.listener("entrypoint-https").UdpListenerConfig = &listener.UdpListenerConfig{} },
			"", []string{"listener entrypoint-https", "udp_listener_config"}, "datagrams"},
		{"connections go where they were meant to", func(s *snapshot) { s.listener("entrypoint-https").UseOriginalDst = wrapperspb.Bool(true) },
			"", []string{"listener entrypoint-https", "use_original_dst"}, "any address"},
		{"caller chooses the destination", func(s *snapshot) {
			l := s.listener("entrypoint-https")
			l.ListenerFilters = append(l.ListenerFilters, &listener.ListenerFilter{Name: "original", ConfigType: &listener.ListenerFilter_TypedConfig{TypedConfig: pack(s.t, &originaldst.OriginalDst{})}})
		}, "", []string{"listener entrypoint-https", "listener_filters original"}, "any address"},
		{"chain for what no rule is about", func(s *snapshot) {
			l := s.listener("entrypoint-https")
			l.DefaultFilterChain = s.chain("entrypoint-https", "serve")
		}, "", []string{"listener entrypoint-https", "default_filter_chain"}, ""},
		{"chain chosen by other rules", func(s *snapshot) {
			s.chain("entrypoint-https", "serve").FilterChainMatch = &listener.FilterChainMatch{ServerNames: []string{"vault.example.com"}}
		}, "billing", []string{"listener entrypoint-https", "filter_chains serve", "filter_chain_match"}, "vault.example.com"},
		{"two chains of one name", func(s *snapshot) {
			l := s.listener("entrypoint-https")
			l.FilterChains = append(l.FilterChains, clone(s.chain("entrypoint-https", "serve")))
		}, "billing", []string{"listener entrypoint-https", "chain serve"}, ""},
		{"chains and nothing that chooses", func(s *snapshot) { s.listener("entrypoint-https").FilterChainMatcher = nil },
			"dutch", []string{"listener entrypoint-https", "chain serve", "host dutch.example.com"}, "requests for dutch.example.com"},
		{"chains for one purpose, and nothing that chooses", func(s *snapshot) {
			l := s.listener("entrypoint-https")
			l.FilterChainMatcher, l.FilterChains = nil, []*listener.FilterChain{s.chain("entrypoint-https", "unavailable"), s.chain("entrypoint-https", "forbidden")}
		}, "", []string{"listener entrypoint-https"}, "requests"},
		{"chain that does not exist", func(s *snapshot) { s.listener("entrypoint-https").FilterChainMatcher.OnNoMatch = s.to("nowhere") },
			"", []string{"listener entrypoint-https", "field filter_chain_matcher"}, ""},
		{"chain chosen by a list of rules", func(s *snapshot) {
			m := s.listener("entrypoint-https").FilterChainMatcher
			m.MatcherType = &xdsmatcher.Matcher_MatcherList_{MatcherList: &xdsmatcher.Matcher_MatcherList{}}
		}, "", []string{"listener entrypoint-https", "filter_chain_matcher", "matcher_list"}, ""},
		{"chain chosen by something else than the name", func(s *snapshot) {
			s.listener("entrypoint-https").FilterChainMatcher.GetMatcherTree().Input.TypedConfig = pack(s.t, wrapperspb.String("x"))
		}, "", []string{"listener entrypoint-https", "field filter_chain_matcher"}, ""},
		{"host named twice", func(s *snapshot) {
			s.table("entrypoint-https", func(m *xdsmatcher.ServerNameMatcher) {
				m.DomainMatchers = append(m.DomainMatchers, &xdsmatcher.ServerNameMatcher_DomainMatcher{Domains: []string{"billing.example.com"}, OnMatch: s.to("forbidden")})
			})
		}, "", []string{"listener entrypoint-https", "field filter_chain_matcher"}, ""},
		{"filter of connections in the place of one of listeners", func(s *snapshot) {
			l := s.listener("entrypoint-https")
			l.ListenerFilters = append(l.ListenerFilters, &listener.ListenerFilter{Name: "odd", ConfigType: &listener.ListenerFilter_TypedConfig{TypedConfig: pack(s.t, &tcpproxy.TcpProxy{})}})
		}, "", []string{"listener entrypoint-https", "listener filter odd"}, ""},
		{"filter of requests in the place of one of connections", func(s *snapshot) {
			c := s.chain("entrypoint-https", "serve")
			c.Filters = append([]*listener.Filter{s.filter("odd", &router.Router{})}, c.Filters...)
		}, "billing", []string{"listener entrypoint-https", "chain serve", "filter odd"}, ""},
		{"plain HTTP led to routes that are gone", func(s *snapshot) {
			s.manager("entrypoint-http", "http", func(m *hcm.HttpConnectionManager) { m.GetRds().RouteConfigName = "later" })
		}, "", []string{"listener entrypoint-http", "chain http", "routes later"}, "routes later"},
		{"plain HTTP led to a service", func(s *snapshot) {
			s.manager("entrypoint-http", "http", func(m *hcm.HttpConnectionManager) { m.GetRds().RouteConfigName = "host/billing.example.com" })
		}, "billing", []string{"listener entrypoint-http", "chain", "routes host/billing.example.com", "virtual host billing"}, "127.0.0.1:20001"},
		{"plain HTTP led to services by scopes", func(s *snapshot) {
			s.manager("entrypoint-http", "http", func(m *hcm.HttpConnectionManager) {
				s.manager("entrypoint-https", "serve", func(other *hcm.HttpConnectionManager) {
					m.RouteSpecifier, m.EarlyHeaderMutationExtensions = other.RouteSpecifier, other.EarlyHeaderMutationExtensions
				})
			})
		}, "", []string{"listener entrypoint-http", "chain"}, "requests"},
		{"plain HTTP passed on", func(s *snapshot) {
			s.chain("entrypoint-http", "http").Filters = []*listener.Filter{s.filter("envoy.filters.network.tcp_proxy", &tcpproxy.TcpProxy{StatPrefix: "x", ClusterSpecifier: &tcpproxy.TcpProxy_Cluster{Cluster: "pass/nl"}})}
		}, "", []string{"listener entrypoint-http", "chain"}, "nl.example.net:7443"},
		{"a route for plain HTTP that leads to a service", func(s *snapshot) {
			h := s.host("entrypoint-http", "to-https")
			h.Routes = append([]*route.Route{clone(s.host("host/billing.example.com", "billing").Routes[1])}, h.Routes...)
		}, "", []string{"listener entrypoint-http", "chain", "routes entrypoint-http", "virtual host to-https"}, "127.0.0.1:20001"},
		{"peers without certificates", func(s *snapshot) {
			s.opening("peers", "peers", func(c *tls.DownstreamTlsContext) { c.RequireClientCertificate = nil })
		}, "", []string{"listener peers", "chain peers"}, "192.0.2.1:7443"},
		{"peers with any certificate", func(s *snapshot) {
			s.opening("peers", "peers", func(c *tls.DownstreamTlsContext) {
				c.CommonTlsContext.GetCombinedValidationContext().DefaultValidationContext.MatchTypedSubjectAltNames = nil
			})
		}, "", []string{"listener peers", "chain peers"}, "192.0.2.1:7443"},
		{"peers of another installation", func(s *snapshot) {
			s.opening("peers", "peers", func(c *tls.DownstreamTlsContext) { c.CommonTlsContext = names(c.CommonTlsContext, "spiffe://") })
		}, "", []string{"listener peers", "chain peers"}, "192.0.2.1:7443"},
		{"peers with expired certificates", func(s *snapshot) {
			s.opening("peers", "peers", func(c *tls.DownstreamTlsContext) {
				c.CommonTlsContext.GetCombinedValidationContext().DefaultValidationContext.AllowExpiredCertificate = true
			})
		}, "", []string{"listener peers", "filter_chains peers", "allow_expired_certificate"}, "anybody"},
		{"peers led to an instance", func(s *snapshot) {
			s.peersTo("service/billing")
		}, "", []string{"listener peers", "chain peers", "cluster service/billing", "endpoint 127.0.0.1:20001"}, "127.0.0.1:20001"},
		{"peers led to a cluster that is gone", func(s *snapshot) { s.peersTo("later") },
			"", []string{"listener peers", "chain peers", "cluster later"}, "cluster later"},
		{"peers led to a cluster made of others", func(s *snapshot) {
			s.add(&cluster.Cluster{Name: "all", CommonLbConfig: calm(), ClusterDiscoveryType: &cluster.Cluster_ClusterType{ClusterType: &cluster.Cluster_CustomClusterType{
				Name: "aggregate", TypedConfig: pack(s.t, &aggregate.ClusterConfig{Clusters: []string{"service/billing"}})}}})
			s.peersTo("all")
		}, "", []string{"listener peers", "chain peers", "cluster all"}, "cluster service/billing"},
		{"peers' requests read", func(s *snapshot) {
			s.chain("peers", "peers").Filters = clone(s.chain("entrypoint-https", "serve")).Filters
		}, "", []string{"listener peers", "chain peers"}, "requests"},
		{"peers' connections told to Polder", func(s *snapshot) {
			c := s.chain("peers", "peers")
			c.Filters = append([]*listener.Filter{s.filter("early", &ratelimit.RateLimit{StatPrefix: "early", Domain: "arrivals",
				RateLimitService: &ratelimitconfig.RateLimitServiceConfig{GrpcService: toCluster("polder")}})}, c.Filters...)
		}, "", []string{"listener peers", "chain peers"}, "cluster polder"},
		{"peers led out again", func(s *snapshot) {
			s.peersTo("pass/pl")
		}, "", []string{"listener peers", "chain peers", "cluster pass/pl", "endpoint"}, "192.0.2.30:7443"},
		{"connections passed on twice", func(s *snapshot) {
			l := s.listener("inward")
			l.FilterChains = append(l.FilterChains, clone(s.chain("entrypoint-https", "pass/nl")))
			s.lead("inward", "dutch.example.com", "pass/nl")
		}, "dutch", []string{"listener peers", "listener inward", "chain pass/nl"}, "nl.example.net:7443"},
	}
}

func fromADS() *core.ConfigSource {
	return &core.ConfigSource{ResourceApiVersion: core.ApiVersion_V3, ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}}}
}
