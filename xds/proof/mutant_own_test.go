package proof_test

import (
	filelog "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	tcpproxy "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
)

const (
	// keyedChain opens keyed's connections, with a key that stays.
	keyedChain = "resident/keyed/serve"
	// fireChain opens fire's, and floodChain passes flood's on, until 20 o'clock.
	fireChain  = "until/1777665600/serve"
	floodChain = "until/1777665600/pass/nl"
)

// residentMutants hold keys that they may not hold, or for longer than they may.
func residentMutants() []mutant {
	at := func(elements ...string) []string {
		return append([]string{"listener entrypoint-https", "chain resident/keyed/serve"}, elements...)
	}
	key := func(name string) func(*snapshot) {
		return func(s *snapshot) {
			s.opening("entrypoint-https", keyedChain, func(c *tls.DownstreamTlsContext) { c.CommonTlsContext.TlsCertificateSdsSecretConfigs[0].Name = name })
		}
	}
	return []mutant{
		{"resident key of a service that has it on demand", key("resident/billing"), "billing", at(), "secret resident/billing"},
		{"resident key of a service of another region", key("resident/dutch"), "dutch", at(), "secret resident/dutch"},
		{"resident key of nobody", key("resident/nobody"), "keyed", at(), "secret resident/nobody"},
		{"resident key by a host", key("keyed.example.com"), "keyed", at(), "secret keyed.example.com"},
		{"resident key by another name", key("residents/keyed"), "keyed", at(), "secret residents/keyed"},
		{"resident key opens another service's connections", func(s *snapshot) { s.lead("entrypoint-https", "catalog.example.com", keyedChain) },
			"catalog", at("host catalog.example.com"), "requests for catalog.example.com"},
		{"resident key opens another service's connections, as peers reach it", func(s *snapshot) { s.lead("inward", "catalog.example.com", keyedChain) },
			"catalog", []string{"listener peers", "listener inward", "chain resident/keyed/serve", "host catalog.example.com"}, "requests for catalog.example.com"},
		{"resident key beside one on demand", func(s *snapshot) {
			on := s.chain("entrypoint-https", "serve").TransportSocket
			s.opening("entrypoint-https", keyedChain, func(c *tls.DownstreamTlsContext) {
				edit(s.t, on.GetTypedConfig(), func(d *tls.DownstreamTlsContext) {
					c.CommonTlsContext.CustomTlsCertificateSelector = d.CommonTlsContext.CustomTlsCertificateSelector
				})
			})
		}, "keyed", at(), "secret resident/keyed"},
		{"sessions taken up without the key", func(s *snapshot) {
			s.opening("entrypoint-https", "serve", func(c *tls.DownstreamTlsContext) { c.DisableStatefulSessionResumption = false })
		}, "billing", []string{"listener entrypoint-https", "chain serve"}, "sessions"},
		{"tickets taken up without the key", func(s *snapshot) {
			s.opening("entrypoint-https", "serve", func(c *tls.DownstreamTlsContext) { c.SessionTicketKeysType = nil })
		}, "billing", []string{"listener entrypoint-https", "chain serve"}, "sessions"},
	}
}

// loggedMutants note requests that may not be noted.
func loggedMutants() []mutant {
	return []mutant{
		{"requests noted against the policy", func(s *snapshot) { s.lead("entrypoint-https", "catalog.example.com", "logged/serve") },
			"catalog", []string{"listener entrypoint-https", "chain logged/serve", "host catalog.example.com"}, logFile},
		{"requests noted against the policy, as peers bring them", func(s *snapshot) { s.lead("inward", "catalog.example.com", "logged/serve") },
			"catalog", []string{"listener peers", "listener inward", "chain logged/serve", "host catalog.example.com"}, logFile},
		{"requests of all noted", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) { h.AccessLog = s.logTo(&filelog.FileAccessLog{Path: logFile}) })
		}, "billing", []string{"listener entrypoint-https", "chain serve"}, logFile},
	}
}

// glassMutants keep connections for longer than a broken glass permits.
func glassMutants() []mutant {
	rename := func(of, from, to string) func(*snapshot) {
		return func(s *snapshot) {
			hosts := map[string]string{fireChain: "fire.example.com", floodChain: "flood.example.com"}
			s.chain(of, from).Name = to
			s.lead(of, hosts[from], to)
		}
	}
	public := func(elements ...string) []string { return append([]string{"listener entrypoint-https"}, elements...) }
	return []mutant{
		{"opened by a broken glass in the chain that stays", func(s *snapshot) { s.lead("entrypoint-https", "fire.example.com", "serve") },
			"fire", public("chain serve", "host fire.example.com"), "requests for fire.example.com"},
		{"opened by a broken glass in the chain that stays, as peers reach it", func(s *snapshot) { s.lead("inward", "fire.example.com", "serve") },
			"fire", []string{"listener peers", "listener inward", "chain serve", "host fire.example.com"}, "requests for fire.example.com"},
		{"opened by a broken glass until later", rename("entrypoint-https", fireChain, "until/1777665601/serve"),
			"fire", public("chain until/1777665601/serve"), "requests"},
		{"opened by a broken glass until about then", rename("entrypoint-https", fireChain, "until/01777665600/serve"),
			"fire", public("chain until/01777665600/serve", "host fire.example.com"), "requests for fire.example.com"},
		{"passed on by a broken glass in a chain that stays", rename("entrypoint-https", floodChain, "spare"),
			"flood", public("chain spare", "host flood.example.com"), "nl.example.net:7443"},
		{"passed on by a broken glass among others'", func(s *snapshot) { s.lead("entrypoint-https", "flood.example.com", "pass/nl") },
			"flood", public("chain pass/nl", "host flood.example.com"), "nl.example.net:7443"},
		{"passed on to a region behind no glass of its own", func(s *snapshot) {
			edit(s.t, s.chain("entrypoint-https", floodChain).Filters[0].GetTypedConfig(), func(p *tcpproxy.TcpProxy) {
				p.ClusterSpecifier = &tcpproxy.TcpProxy_Cluster{Cluster: "wrap/pass/pl"}
			})
		}, "flood", public("chain until/1777665600/pass/nl", "host flood.example.com"), "192.0.2.30:7443"},
		{"connections of a broken glass that nobody broke", func(s *snapshot) {
			l := s.listener("entrypoint-https")
			c := clone(s.chain("entrypoint-https", fireChain))
			c.Name = "until/1777600000/serve"
			l.FilterChains = append(l.FilterChains, c)
		}, "", public("chain until/1777600000/serve"), "requests"},
	}
}
