package proof_test

import (
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	quic "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/quic/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// quicWorld is the world of the mutants, with HTTP/3.
func quicWorld(t testing.TB) world {
	w := mutantWorld(t)
	w.http3 = true
	return w
}

// TestQUICMutants holds that QUIC is opened only with the resident key of the
// service that is called, and never passed on.
func TestQUICMutants(t *testing.T) {
	const entry = "entrypoint-http3"
	at := func(elements ...string) []string {
		return append([]string{"listener entrypoint-http3", "chain resident/keyed/serve"}, elements...)
	}
	socket := func(change func(*quic.QuicDownstreamTransport)) func(*snapshot) {
		return func(s *snapshot) { edit(s.t, s.chain(entry, keyedChain).TransportSocket.GetTypedConfig(), change) }
	}
	holdMutants(t, quicWorld(t), []mutant{
		{"early data", socket(func(q *quic.QuicDownstreamTransport) { q.EnableEarlyData = wrapperspb.Bool(true) }),
			"keyed", at("enable_early_data"), "requests"},
		{"early data by default", socket(func(q *quic.QuicDownstreamTransport) { q.EnableEarlyData = nil }),
			"keyed", at("enable_early_data"), "requests"},
		{"key on demand in QUIC", func(s *snapshot) {
			s.chain(entry, keyedChain).TransportSocket = s.chain("entrypoint-https", "serve").TransportSocket
		}, "keyed", at(), "datagrams"},
		{"key of another service in QUIC", func(s *snapshot) { s.lead(entry, "catalog.example.com", keyedChain) },
			"catalog", at("host catalog.example.com"), "requests for catalog.example.com"},
		{"key that may not stay in QUIC", socket(func(q *quic.QuicDownstreamTransport) {
			q.DownstreamTlsContext.CommonTlsContext.TlsCertificateSdsSecretConfigs[0].Name = "resident/billing"
		}), "billing", at(), "secret resident/billing"},
		{"name that nobody owns in QUIC", func(s *snapshot) { s.lead(entry, "nobody.example.com", keyedChain) },
			"", at("host nobody.example.com"), "requests"},
		{"name of a service of another region in QUIC", func(s *snapshot) { s.lead(entry, "dutch.example.com", keyedChain) },
			"dutch", at("host dutch.example.com"), "requests for dutch.example.com"},
		{"QUIC passed on", func(s *snapshot) {
			chain := s.chain("entrypoint-https", "pass/nl")
			s.listener(entry).FilterChains = append(s.listener(entry).FilterChains, chain)
			s.lead(entry, "dutch.example.com", chain.Name)
		}, "dutch", []string{"listener entrypoint-http3", "chain pass/nl"}, "datagrams"},
		{"QUIC where connections are", func(s *snapshot) {
			s.chain("entrypoint-https", keyedChain).TransportSocket = s.chain(entry, keyedChain).TransportSocket
		}, "keyed", []string{"listener entrypoint-https", "chain resident/keyed/serve"}, "connections"},
		{"QUIC for peers", func(s *snapshot) {
			s.listener(entry).GetAddress().GetSocketAddress().PortSpecifier = &core.SocketAddress_PortValue{PortValue: 7443}
		},
			"", []string{"listener entrypoint-http3"}, "192.0.2.1:7443"},
		{"datagrams that are not QUIC", func(s *snapshot) { s.listener(entry).UdpListenerConfig = &listener.UdpListenerConfig{} },
			"", []string{"listener entrypoint-http3", "udp_listener_config"}, "datagrams"},
		{"QUIC by TCP", func(s *snapshot) { s.listener(entry).GetAddress().GetSocketAddress().Protocol = core.SocketAddress_TCP },
			"", []string{"listener entrypoint-http3", "udp_listener_config"}, "datagrams"},
	})
}
