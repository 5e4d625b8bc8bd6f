package xds

import (
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	sni "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_mappers/sni/v3"
	ondemand "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_selectors/on_demand_secret/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polder/polder"
)

// onDemandTLS ends callers' TLS. The certificate is fetched by SNI when the
// ClientHello arrives, so that a gateway holds a key only once it is needed,
// and adding a host touches no listener. Envoy demands that both kinds of
// session resumption are off for that.
func onDemandTLS() *core.TransportSocket {
	return transportSocket("envoy.transport_sockets.tls", &tls.DownstreamTlsContext{
		RequireSni:                       wrapperspb.Bool(true),
		DisableStatefulSessionResumption: true,
		SessionTicketKeysType:            &tls.DownstreamTlsContext_DisableStatelessSessionResumption{DisableStatelessSessionResumption: true},
		CommonTlsContext: &tls.CommonTlsContext{
			TlsParams:     modernTLS(),
			AlpnProtocols: []string{"h2", "http/1.1"},
			CustomTlsCertificateSelector: &core.TypedExtensionConfig{
				Name: "envoy.tls.certificate_selectors.on_demand_secret",
				TypedConfig: packed(&ondemand.Config{
					ConfigSource: ads(),
					CertificateMapper: &core.TypedExtensionConfig{
						Name:        "envoy.tls.certificate_mappers.sni",
						TypedConfig: packed(&sni.SNI{DefaultValue: "-"}),
					},
				}),
			},
		},
	})
}

// residentTLS ends callers' TLS with the key of one service, which Envoy has
// before anybody calls, and resumes sessions. Tickets are sealed with a key that
// Envoy makes for this chain alone and tells nobody.
func residentTLS(service polder.ServiceName) *core.TransportSocket {
	return transportSocket("envoy.transport_sockets.tls", &tls.DownstreamTlsContext{
		RequireSni: wrapperspb.Bool(true),
		CommonTlsContext: &tls.CommonTlsContext{
			TlsParams:                      modernTLS(),
			AlpnProtocols:                  []string{"h2", "http/1.1"},
			TlsCertificateSdsSecretConfigs: []*tls.SdsSecretConfig{{Name: ResidentSecrets + string(service), SdsConfig: ads()}},
		},
	})
}

// modernTLS is TLS 1.2 with forward secrecy and authenticated ciphers, or 1.3,
// with a post-quantum key agreement preferred.
func modernTLS() *tls.TlsParameters {
	return &tls.TlsParameters{
		TlsMinimumProtocolVersion: tls.TlsParameters_TLSv1_2,
		TlsMaximumProtocolVersion: tls.TlsParameters_TLSv1_3,
		CipherSuites: []string{
			"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
			"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
			"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
		},
		EcdhCurves: []string{"X25519MLKEM768", "X25519", "P-256"},
	}
}

// peerServerTLS accepts other gateways only.
func peerServerTLS(trustDomain string) *core.TransportSocket {
	return transportSocket("envoy.transport_sockets.tls", &tls.DownstreamTlsContext{
		RequireClientCertificate: wrapperspb.Bool(true),
		CommonTlsContext:         peerTLS(regionIdentity(trustDomain, "")),
	})
}

// peerClientTLS speaks to gateways of the given regions only.
func peerClientTLS(trustDomain string, targets []polder.RegionName) *core.TransportSocket {
	var identities []string
	for _, t := range targets {
		identities = append(identities, regionIdentity(trustDomain, t))
	}
	return transportSocket("envoy.transport_sockets.tls", &tls.UpstreamTlsContext{
		CommonTlsContext: peerTLS(identities...),
	})
}

// regionIdentity is the prefix of the SPIFFE IDs of a region's peers, or of
// all regions' for "". The closing slash keeps "fr" from matching "fr2".
func regionIdentity(trustDomain string, region polder.RegionName) string {
	prefix := "spiffe://" + trustDomain + "/region/"
	if region == "" {
		return prefix
	}
	return prefix + string(region) + "/"
}

func peerTLS(identities ...string) *tls.CommonTlsContext {
	var names []*tls.SubjectAltNameMatcher
	for _, prefix := range identities {
		names = append(names, &tls.SubjectAltNameMatcher{
			SanType: tls.SubjectAltNameMatcher_URI,
			Matcher: &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Prefix{Prefix: prefix}},
		})
	}
	return &tls.CommonTlsContext{
		TlsParams: &tls.TlsParameters{
			TlsMinimumProtocolVersion: tls.TlsParameters_TLSv1_3,
			TlsMaximumProtocolVersion: tls.TlsParameters_TLSv1_3,
		},
		TlsCertificateSdsSecretConfigs: []*tls.SdsSecretConfig{{Name: SecretIdentity, SdsConfig: ads()}},
		ValidationContextType: &tls.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tls.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         &tls.CertificateValidationContext{MatchTypedSubjectAltNames: names},
				ValidationContextSdsSecretConfig: &tls.SdsSecretConfig{Name: SecretTrust, SdsConfig: ads()},
			},
		},
	}
}

// Certificate gives the secret of that name: a certificate chain and its key, PEM.
func Certificate(name string, certPEM, keyPEM []byte) Resource {
	return newResource(TypeSecret, name, &tls.Secret{Name: name, Type: &tls.Secret_TlsCertificate{
		TlsCertificate: &tls.TlsCertificate{CertificateChain: inline(certPEM), PrivateKey: inline(keyPEM)}}})
}

// Trust gives the secret of that name: the authorities to trust, PEM.
func Trust(name string, rootsPEM []byte) Resource {
	return newResource(TypeSecret, name, &tls.Secret{Name: name, Type: &tls.Secret_ValidationContext{
		ValidationContext: &tls.CertificateValidationContext{TrustedCa: inline(rootsPEM)}}})
}

func inline(b []byte) *core.DataSource {
	return &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: b}}
}
