package proof

import (
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	internalupstream "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	proxyprotocol "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	quic "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/quic/v3"
	rawbuffer "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	sni "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_mappers/sni/v3"
	ondemand "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_selectors/on_demand_secret/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// readUpstream follows the nesting of transport sockets towards an endpoint.
// Without one, bytes go as they are.
func (r *reader) readUpstream(s *core.TransportSocket) socket {
	if s == nil {
		return socket{kind: clear}
	}
	switch m := r.unpack(s.GetTypedConfig()).(type) {
	case *rawbuffer.RawBuffer:
		return socket{kind: clear}
	case *internalupstream.InternalUpstreamTransport:
		inner := r.readUpstream(m.TransportSocket)
		return socket{kind: internal, inner: &inner}
	case *proxyprotocol.ProxyProtocolUpstreamTransport:
		inner := r.readUpstream(m.TransportSocket)
		return socket{kind: header, inner: &inner}
	case *tls.UpstreamTlsContext:
		return socket{kind: tlsKind, tls: r.readTLS(m.CommonTlsContext)}
	}
	r.fault(fault{path: []string{at("transport socket", s.Name)}, address: unknown, reason: "wraps bytes in a way that the proof does not understand"})
	return socket{kind: unclear}
}

// readDownstream reads how a filter chain opens connections, if it does.
func (r *reader) readDownstream(s *core.TransportSocket, chain string) socket {
	if s == nil {
		return socket{kind: clear}
	}
	switch m := r.unpack(s.GetTypedConfig()).(type) {
	case *rawbuffer.RawBuffer:
		return socket{kind: clear}
	case *tls.DownstreamTlsContext:
		return socket{kind: tlsKind, tls: r.readDownstreamTLS(m)}
	case *quic.QuicDownstreamTransport:
		s := r.readDownstreamTLS(m.GetDownstreamTlsContext())
		s.quic = true
		if early := m.GetEnableEarlyData(); early == nil || early.Value {
			r.fault(fault{path: []string{at("chain", chain), "enable_early_data"}, chain: chain, address: "requests", reason: "takes requests that anybody who saw them can send again"})
		}
		return socket{kind: tlsKind, tls: s}
	}
	r.fault(fault{path: []string{at("chain", chain), at("transport socket", s.Name)}, chain: chain, address: unknown,
		reason: "opens connections in a way that the proof does not understand"})
	return socket{kind: unclear}
}

func (r *reader) readDownstreamTLS(m *tls.DownstreamTlsContext) *tlsFacts {
	t := r.readTLS(m.GetCommonTlsContext())
	t.wantsPeer, t.requireSNI = m.GetRequireClientCertificate().GetValue(), m.GetRequireSni().GetValue()
	t.resumes = !m.GetDisableStatefulSessionResumption() || !m.GetDisableStatelessSessionResumption()
	return t
}

// readTLS reads the part that both sides share. What it does not find, a
// certificate or a name that the peer must have, is missing in its result, and
// whoever judges it says so.
func (r *reader) readTLS(c *tls.CommonTlsContext) *tlsFacts {
	t := &tlsFacts{}
	if selector := c.GetCustomTlsCertificateSelector(); selector != nil {
		config, ok := r.unpack(selector.TypedConfig).(*ondemand.Config)
		if ok {
			_, bySNI := r.unpack(config.GetCertificateMapper().GetTypedConfig()).(*sni.SNI)
			t.onDemand = bySNI && config.GetConfigSource().GetAds() != nil
		}
	}
	for _, s := range c.GetTlsCertificateSdsSecretConfigs() {
		if t.identity != "" || s.GetSdsConfig().GetAds() == nil || s.Name == "" {
			r.fault(fault{path: []string{at("secret", s.Name)}, address: at("secret", s.Name), reason: "is one certificate too many, or comes from where nobody proved it"})
			continue
		}
		t.identity = s.Name
	}
	combined := c.GetCombinedValidationContext()
	if trust := combined.GetValidationContextSdsSecretConfig(); trust.GetSdsConfig().GetAds() != nil {
		t.trust = trust.Name
	}
	for _, san := range combined.GetDefaultValidationContext().GetMatchTypedSubjectAltNames() {
		name := readName(san.GetMatcher())
		if san.SanType != tls.SubjectAltNameMatcher_URI {
			name = peerName{} // matches no identity, so it is judged as too broad
		}
		t.peerNames = append(t.peerNames, name)
	}
	r.readProvided(c, t)
	return t
}

// readName reads what name the other side must have. What is neither one name nor
// a prefix of names matches no identity, so it is judged as too broad.
func readName(m *matcher.StringMatcher) peerName {
	switch pattern := m.GetMatchPattern().(type) {
	case *matcher.StringMatcher_Exact:
		return peerName{pattern.Exact, true}
	case *matcher.StringMatcher_Prefix:
		return peerName{pattern.Prefix, false}
	}
	return peerName{}
}
