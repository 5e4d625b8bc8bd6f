package xds

import (
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filterstate "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	directresponse "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	setfilterstate "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// handshakeTimeout bounds a caller's TLS handshake, the fetch of its
// certificate included.
const handshakeTimeout = 10 * time.Second

// Alerts of RFC 8446 section 6.2 with which a connection ends unopened. They
// need no key: until the server answered, records are plain.
const (
	alertAccessDenied     = 49  // the owner refuses callers here
	alertInternalError    = 80  // no permitted region is alive
	alertUnrecognizedName = 112 // nobody owns this name
)

// servingChains end TLS here. They differ in where the routes are found, and how
// the key is held.
func servingChains(stat string, t hostTable) []*listener.FilterChain {
	chains := []*listener.FilterChain{
		t.servingFilterChain(chainServe, onDemandTLS(), scopedManager(stat, observed{traced: t.traces}, t.here)),
		t.servingFilterChain(chainWildcard, onDemandTLS(), wildcardManager(stat, observed{traced: t.traces}, t.here)),
	}
	for _, c := range t.owned {
		manager, socket := scopedManager(stat, t.observed(c), t.here), onDemandTLS()
		if c.wild {
			manager = wildcardManager(stat, t.observed(c), t.here)
		}
		if c.resident != "" {
			socket = residentTLS(c.resident)
		}
		chain := t.servingFilterChain(c.name, socket, manager)
		if c.early {
			chain.Filters = append([]*listener.Filter{helloFilter(stat)}, chain.Filters...)
		}
		chains = append(chains, chain)
	}
	return chains
}

// servingFilterChain is one of them. A chain that changes ends its connections,
// each after its present request, and which change that is does not matter: while
// the gateway drains, handshakes may take a second longer.
func (t hostTable) servingFilterChain(name string, socket *core.TransportSocket, manager *listener.Filter) *listener.FilterChain {
	timeout := handshakeTimeout
	if t.draining {
		timeout += time.Second
	}
	return &listener.FilterChain{
		Name:                          name,
		TransportSocket:               socket,
		TransportSocketConnectTimeout: durationpb.New(timeout),
		Filters:                       []*listener.Filter{manager},
	}
}

// refusingChains end a connection with a TLS alert that tells why.
func refusingChains() []*listener.FilterChain {
	return []*listener.FilterChain{
		alertChain(chainForbidden, alertAccessDenied),
		alertChain(chainUnavailable, alertInternalError),
	}
}

// byNameChain takes the connections for names that the table does not have: those
// of hosts which came after it was made are led on by a cluster of their own. There
// is none for a name that nobody owns, and Envoy closes the connection. The prefix
// keeps a caller from naming any other cluster.
func byNameChain() *listener.FilterChain {
	return &listener.FilterChain{Name: chainByName, Filters: []*listener.Filter{
		networkFilter("envoy.filters.network.set_filter_state", &setfilterstate.Config{
			OnNewConnection: []*filterstate.FilterStateValue{{
				Key: &filterstate.FilterStateValue_ObjectKey{ObjectKey: "envoy.tcp_proxy.cluster"},
				Value: &filterstate.FilterStateValue_FormatString{FormatString: &core.SubstitutionFormatString{
					Format: &core.SubstitutionFormatString_TextFormatSource{TextFormatSource: &core.DataSource{
						Specifier: &core.DataSource_InlineString{InlineString: byName("%REQUESTED_SERVER_NAME%")}}}}},
			}},
		}),
		tcpProxy(chainByName, ByNamePrefix), // a cluster that never exists: the name decides
	}}
}

// alertChain answers any ClientHello with one fatal alert record and closes.
// The bytes of the caller stay unopened.
func alertChain(name string, description byte) *listener.FilterChain {
	const (
		recordAlert = 21
		levelFatal  = 2
	)
	record := []byte{recordAlert, 3, 3, 0, 2, levelFatal, description}
	return &listener.FilterChain{Name: name, Filters: []*listener.Filter{
		networkFilter("envoy.filters.network.direct_response", &directresponse.Config{
			Response: &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: record}}}),
	}}
}

func networkFilter(name string, config proto.Message) *listener.Filter {
	return &listener.Filter{Name: name, ConfigType: &listener.Filter_TypedConfig{TypedConfig: packed(config)}}
}
