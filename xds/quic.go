package xds

import (
	"fmt"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	quic "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/quic/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// HTTP/3 is for services whose key is resident: Envoy cannot fetch a key while a
// QUIC handshake waits, so each has a chain that holds its key. Nothing is
// passed on in QUIC, and a name without a chain is refused by QUIC itself; so
// only callers whose connection ended here, and not one that a peer passed on,
// are told that HTTP/3 is there.

const (
	quicIdle      = 60 * time.Second // ends a connection on which nothing moves
	quicPackets   = 32               // read per event and connection
	quicDatagram  = 1500             // bytes, the largest that is received
	advertisedFor = 24 * time.Hour   // callers remember that HTTP/3 is there

	// metadataPolder and metadataAltSvc are where a listener says what to advertise.
	metadataPolder = "polder"
	metadataAltSvc = "alt-svc"
)

// quic are the chains of services that HTTP/3 is for.
func (t hostTable) quic() []ownChain {
	var chains []ownChain
	for _, c := range t.owned {
		c.hosts = without(c.hosts, t.lent)
		if c.resident != "" && len(c.hosts) > 0 {
			chains = append(chains, c)
		}
	}
	return chains
}

// quicEntrypoint is the public listener for HTTP/3, on the port of the HTTPS one.
func quicEntrypoint(n NodeConfig, t hostTable) *listener.Listener {
	address := socketAddress(n.HTTPS)
	address.GetSocketAddress().Protocol = core.SocketAddress_UDP
	l := &listener.Listener{
		Name:             listenerHTTP3,
		Address:          address,
		TrafficDirection: core.TrafficDirection_INBOUND,
		EnableReusePort:  wrapperspb.Bool(true),
		UdpListenerConfig: &listener.UdpListenerConfig{
			QuicOptions: &listener.QuicProtocolOptions{
				QuicProtocolOptions:                 quicLimits(),
				IdleTimeout:                         durationpb.New(quicIdle),
				CryptoHandshakeTimeout:              durationpb.New(handshakeTimeout),
				PacketsToReadToConnectionCountRatio: wrapperspb.UInt32(quicPackets),
			},
			DownstreamSocketConfig: &core.UdpSocketConfig{
				PreferGro: wrapperspb.Bool(true), MaxRxDatagramSize: wrapperspb.UInt64(quicDatagram)},
		},
	}
	var matched []hostsTo
	for _, c := range t.quic() {
		l.FilterChains = append(l.FilterChains, t.quicChain(c))
		matched = append(matched, hostsTo{c.name, c.hosts})
	}
	l.FilterChainMatcher = byServerName(matched, "")
	l.FilterChainMatcher.OnNoMatch = nil // QUIC refuses by itself
	return l
}

func (t hostTable) quicChain(c ownChain) *listener.FilterChain {
	const stat = "http3"
	m := scoped(stat, t.observed(c), t.here)
	if c.wild {
		m = wild(stat, t.observed(c), t.here)
	}
	m.CodecType = hcm.HttpConnectionManager_HTTP3
	m.HttpProtocolOptions, m.Http2ProtocolOptions, m.UpgradeConfigs = nil, nil, nil
	m.Http3ProtocolOptions = &core.Http3ProtocolOptions{
		QuicProtocolOptions: quicLimits(), OverrideStreamErrorOnInvalidHttpMessage: wrapperspb.Bool(false)}
	// No filter may wait before the connection manager, as the one does that tells of
	// ClientHellos over TCP: QUIC's handshake goes on, and Envoy 1.40 forgets a stream that
	// comes before the manager is there, so that its caller hears nothing (it logs a "bug
	// failure": "attempts to create stream 0 before HCM filter is initialized").
	return t.servingFilterChain(c.name, quicSocket(c), networkFilter(managerName, m))
}

// quicSocket ends QUIC with the key of one service. Early data is off: it can be
// sent again by anybody who saw it.
func quicSocket(c ownChain) *core.TransportSocket {
	return transportSocket("envoy.transport_sockets.quic", &quic.QuicDownstreamTransport{
		EnableEarlyData: wrapperspb.Bool(false),
		DownstreamTlsContext: &tls.DownstreamTlsContext{
			RequireSni: wrapperspb.Bool(true),
			CommonTlsContext: &tls.CommonTlsContext{
				AlpnProtocols:                  []string{"h3"},
				TlsCertificateSdsSecretConfigs: []*tls.SdsSecretConfig{{Name: ResidentSecrets + string(c.resident), SdsConfig: ads()}},
			},
		},
	})
}

func quicLimits() *core.QuicProtocolOptions {
	return &core.QuicProtocolOptions{
		MaxConcurrentStreams:              wrapperspb.UInt32(maxStreams),
		InitialStreamWindowSize:           wrapperspb.UInt32(streamWindow),
		InitialConnectionWindowSize:       wrapperspb.UInt32(connectionWindow),
		NumTimeoutsToTriggerPortMigration: wrapperspb.UInt32(0),
		IdleNetworkTimeout:                durationpb.New(quicIdle),
	}
}

// advertisement is the metadata of a listener whose callers may use HTTP/3.
func advertisement(port uint16) *core.Metadata {
	value := fmt.Sprintf("h3=\":%d\"; ma=%d", port, int(advertisedFor.Seconds()))
	return &core.Metadata{FilterMetadata: map[string]*structpb.Struct{
		metadataPolder: {Fields: map[string]*structpb.Value{metadataAltSvc: structpb.NewStringValue(value)}}}}
}

// advertised repeats what the listener says; of one that says nothing, as the one for
// what peers passed on, it adds no header.
func advertised() *core.HeaderValueOption {
	return overwrite("alt-svc", fmt.Sprintf("%%METADATA(LISTENER:%s:%s)%%", metadataPolder, metadataAltSvc))
}
