package xds

import (
	"net/netip"
	"slices"
	"time"

	xdscore "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcher "github.com/cncf/xds/go/xds/type/matcher/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	proxyprotocol "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	tlsinspector "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	network "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// helloTimeout bounds the wait for a caller's ClientHello or PROXY header.
	helloTimeout = 5 * time.Second
	// backlog is the kernel's queue of connections not yet accepted.
	backlog = 4096
	// acceptsPerEvent keeps one worker from taking a whole burst of connections.
	acceptsPerEvent = 16
)

// Filter chains that every entrypoint has. They never change, so that a change
// of hosts, which changes only the matcher, drains nobody.
const (
	chainServe       = "serve"
	chainWildcard    = "serve-wildcard"
	chainForbidden   = "forbidden"
	chainUnavailable = "unavailable"
	chainUnknown     = "unknown"
	chainByName      = "by-name"
)

// entrypoint is the public HTTPS listener: it reads the SNI of a ClientHello
// and either ends the connection here or passes it on unopened. Its table says
// which; a host that came after the table was made, or is treated otherwise since, is
// found by its name.
func entrypoint(n NodeConfig, t hostTable) *listener.Listener {
	l := tcpListener(listenerHTTPS, n.HTTPS)
	l.ListenerFilters = []*listener.ListenerFilter{inspectTLS(), fetchDiverted()}
	if n.HTTP3 {
		l.Metadata = advertisement(n.HTTPS.Port())
	}
	l.FilterChains = slices.Concat(servingChains("https", t), refusingChains(), []*listener.FilterChain{byNameChain()})
	matched := append([]hostsTo{{chainServe, t.served}, {chainWildcard, t.servedWild}}, t.apart()...)
	for i := range matched {
		matched[i].hosts = without(matched[i].hosts, t.lent)
	}
	matched = append(matched, hostsTo{chainForbidden, t.listed(t.forbidden)}, hostsTo{chainUnavailable, t.listed(t.unavailable)})
	for _, p := range t.passes {
		l.FilterChains = append(l.FilterChains, passChain(p))
		matched = append(matched, hostsTo{p.name, p.hosts})
	}
	l.FilterChainMatcher = unlessDiverted(byServerName(matched, chainByName))
	return l
}

// without gives the names of one sorted list that are not in another.
func without(list, other []string) []string {
	var rest []string
	for _, name := range list {
		if _, found := slices.BinarySearch(other, name); !found {
			rest = append(rest, name)
		}
	}
	return rest
}

// inwardListener ends the connections that peers passed on, and those for hosts
// that the entrypoint's table does not have yet. It needs no table of its own:
// without a key it opens nothing, and Envoy is given the keys of hosts that are
// served here and of no others. Only below wildcards the name decides whose routes
// are meant; what merely lies below a wildcard of ours does not end here: a
// connection is passed on once and never again.
//
// Nothing is traced here: a name that it does not know may be of a service whose
// requests may not be.
func inwardListener(_ NodeConfig, t hostTable) *listener.Listener {
	t.traces = false
	l := internalListener(listenerInward, append(servingChains("inward", t), alertChain(chainUnknown, alertUnrecognizedName))...)
	inspect(l, listenerFilter("envoy.filters.listener.proxy_protocol", &proxyprotocol.ProxyProtocol{}), inspectTLS())
	l.FilterChainMatcher = byServerName(append(t.apart(),
		hostsTo{chainServe, t.inside}, hostsTo{chainWildcard, t.servedWild}, hostsTo{chainUnknown, t.outside}), chainServe)
	return l
}

// refusingListeners refuse what is led to them: connections for single hosts, by their
// names, which the entrypoint's table does not have.
func refusingListeners() []*listener.Listener {
	var list []*listener.Listener
	for _, chain := range refusingChains() {
		l := internalListener(chain.Name, chain)
		// The answer waits for the ClientHello: Envoy 1.40 writes that before it reads the
		// answer, and drops the answer if it finds the connection closed.
		inspect(l, inspectTLS())
		list = append(list, l)
	}
	return list
}

// internalListener takes what clusters of this Envoy lead to it, and nothing else.
func internalListener(name string, chains ...*listener.FilterChain) *listener.Listener {
	return &listener.Listener{
		Name:              name,
		ListenerSpecifier: &listener.Listener_InternalListener{InternalListener: &listener.Listener_InternalListenerConfig{}},
		FilterChains:      chains,
	}
}

// inspect has an internal listener's connections looked at before they take a chain,
// for as long as callers may take to greet.
func inspect(l *listener.Listener, filters ...*listener.ListenerFilter) {
	l.PerConnectionBufferLimitBytes, l.ListenerFiltersTimeout = wrapperspb.UInt32(bufferLimit), durationpb.New(helloTimeout)
	l.ListenerFilters = filters
}

// plainListener sends plain HTTP to HTTPS.
func plainListener(n NodeConfig) *listener.Listener {
	l := tcpListener(listenerHTTP, n.HTTP)
	l.FilterChains = []*listener.FilterChain{{Name: "http", Filters: []*listener.Filter{plainManager()}}}
	return l
}

func tcpListener(name string, bind netip.AddrPort) *listener.Listener {
	return &listener.Listener{
		Name:                                 name,
		Address:                              socketAddress(bind),
		TrafficDirection:                     core.TrafficDirection_INBOUND,
		PerConnectionBufferLimitBytes:        wrapperspb.UInt32(bufferLimit),
		ListenerFiltersTimeout:               durationpb.New(helloTimeout),
		ContinueOnListenerFiltersTimeout:     false,
		TcpBacklogSize:                       wrapperspb.UInt32(backlog),
		MaxConnectionsToAcceptPerSocketEvent: wrapperspb.UInt32(acceptsPerEvent),
		EnableReusePort:                      wrapperspb.Bool(true),
	}
}

// hostsTo names the filter chain for some hosts.
type hostsTo struct {
	chain string
	hosts []string
}

// apart lists the hosts whose connections end here in chains of their own.
func (t hostTable) apart() []hostsTo {
	var list []hostsTo
	for _, c := range t.owned {
		list = append(list, hostsTo{c.name, c.hosts})
	}
	return list
}

// byServerName chooses a filter chain by the SNI through a trie, which costs
// the same for ten hosts and for ten thousand. An SNI that is in no row, or
// none at all, leads to the chain for all others.
func byServerName(table []hostsTo, others string) *xdsmatcher.Matcher {
	var domains []*xdsmatcher.ServerNameMatcher_DomainMatcher
	for _, row := range table {
		if len(row.hosts) > 0 {
			domains = append(domains, &xdsmatcher.ServerNameMatcher_DomainMatcher{Domains: row.hosts, OnMatch: toChain(row.chain)})
		}
	}
	if len(domains) == 0 {
		return &xdsmatcher.Matcher{OnNoMatch: toChain(others)}
	}
	return &xdsmatcher.Matcher{
		MatcherType: &xdsmatcher.Matcher_MatcherTree_{MatcherTree: &xdsmatcher.Matcher_MatcherTree{
			Input: extension("server-name", &network.ServerNameInput{}),
			TreeType: &xdsmatcher.Matcher_MatcherTree_CustomMatch{
				CustomMatch: extension("server-name-trie", &xdsmatcher.ServerNameMatcher{DomainMatchers: domains}),
			},
		}},
		OnNoMatch: toChain(others),
	}
}

func toChain(name string) *xdsmatcher.Matcher_OnMatch {
	return &xdsmatcher.Matcher_OnMatch{OnMatch: &xdsmatcher.Matcher_OnMatch_Action{
		Action: extension("chain", wrapperspb.String(name))}}
}

func extension(name string, config proto.Message) *xdscore.TypedExtensionConfig {
	return &xdscore.TypedExtensionConfig{Name: name, TypedConfig: packed(config)}
}

func inspectTLS() *listener.ListenerFilter {
	return listenerFilter("envoy.filters.listener.tls_inspector", &tlsinspector.TlsInspector{})
}

func listenerFilter(name string, config proto.Message) *listener.ListenerFilter {
	return &listener.ListenerFilter{Name: name, ConfigType: &listener.ListenerFilter_TypedConfig{TypedConfig: packed(config)}}
}
