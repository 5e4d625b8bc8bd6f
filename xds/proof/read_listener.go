package proof

import (
	"strings"

	xdsmatcher "github.com/cncf/xds/go/xds/type/matcher/v3"
	accesslog "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	trace "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	filelog "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	grpclog "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	headers "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	proxyprotocol "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	tlsinspector "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	directresponse "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ratelimit/v3"
	setfilterstate "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpproxy "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	earlyheaders "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	network "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	samplers "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/samplers/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func (r *reader) readListener(l *listener.Listener) *listenerFacts {
	f := &listenerFacts{internal: l.GetInternalListener() != nil, quic: l.GetUdpListenerConfig().GetQuicOptions() != nil}
	datagrams := l.GetAddress().GetSocketAddress().GetProtocol() != core.SocketAddress_TCP
	if f.quic != datagrams || f.quic != (l.UdpListenerConfig != nil) || f.internal && l.UdpListenerConfig != nil {
		r.fault(fault{path: []string{"udp_listener_config"}, address: "datagrams", reason: "listens for datagrams that are not QUIC, or for QUIC where there are none"})
	}
	if l.Address != nil {
		bind := readAddress(l.Address)
		f.bind = bind.address
		if f.internal || bind.internal || bind.pipe {
			r.fault(fault{path: []string{at("field", "address")}, address: bind.address, reason: "listens where the proof does not understand it"})
		}
	}
	if l.ApiListener != nil {
		f.entry = r.readEntry(l)
	}
	named := false
	for _, filter := range l.ListenerFilters {
		if filter.GetConfigDiscovery() != nil {
			r.readFetched(filter, f, named)
			continue
		}
		m := r.unpack(filter.GetTypedConfig())
		_, inspects := m.(*tlsinspector.TlsInspector)
		named = named || inspects
		switch m.(type) {
		case *tlsinspector.TlsInspector, *proxyprotocol.ProxyProtocol:
			// They learn who calls whom, and send nothing anywhere.
		default:
			r.fault(fault{path: []string{at("listener filter", filter.Name)}, address: unknown, reason: "is a filter that the proof does not understand"})
		}
	}
	for _, c := range l.FilterChains {
		if f.chain(c.Name) != nil || c.Name == "" && l.FilterChainMatcher != nil {
			r.fault(fault{path: []string{at("chain", c.Name)}, chain: c.Name, address: unknown, reason: "has no name of its own"})
		}
		f.chains = append(f.chains, r.readChain(c))
	}
	if l.FilterChainMatcher != nil {
		f.byName = map[string]string{}
		r.readMatcher(l.FilterChainMatcher, f)
	}
	return f
}

// readMatcher reads a choice of the filter chain by the name in a ClientHello.
func (r *reader) readMatcher(m *xdsmatcher.Matcher, f *listenerFacts) {
	strange := func(reason string) {
		r.fault(fault{path: []string{at("field", "filter_chain_matcher")}, address: unknown, reason: reason})
	}
	chain := func(on *xdsmatcher.Matcher_OnMatch) string {
		name, ok := r.unpack(on.GetAction().GetTypedConfig()).(*wrapperspb.StringValue)
		if !ok || f.chain(name.Value) == nil {
			strange("chooses a filter chain that does not exist")
			return ""
		}
		return name.Value
	}
	m, understood := r.readMark(m, f, chain)
	if !understood {
		strange("chooses filter chains by rules that the proof does not understand")
		return
	}
	if m.OnNoMatch != nil {
		f.otherwise = chain(m.OnNoMatch)
	}
	tree := m.GetMatcherTree()
	if tree == nil {
		if m.MatcherType != nil {
			strange("chooses filter chains by rules that the proof does not understand")
		}
		return
	}
	_, byName := r.unpack(tree.GetInput().GetTypedConfig()).(*network.ServerNameInput)
	trie, isTrie := r.unpack(tree.GetCustomMatch().GetTypedConfig()).(*xdsmatcher.ServerNameMatcher)
	if !byName || !isTrie {
		strange("chooses filter chains by rules that the proof does not understand")
		return
	}
	for _, row := range trie.DomainMatchers {
		to := chain(row.OnMatch)
		for _, domain := range row.Domains {
			if _, twice := f.byName[domain]; twice || domain != strings.ToLower(domain) {
				strange("names " + domain + " twice, or not in lower case")
			}
			f.byName[domain] = to
		}
	}
}

func (r *reader) readChain(c *listener.FilterChain) chainFacts {
	f := chainFacts{name: c.Name, socket: r.readDownstream(c.TransportSocket, c.Name)}
	for i, filter := range c.Filters {
		path := []string{at("chain", c.Name), at("filter", filter.Name)}
		last := i == len(c.Filters)-1
		switch m := r.unpack(filter.GetTypedConfig()).(type) {
		case *ratelimit.RateLimit:
			for _, d := range m.Descriptors {
				for _, e := range d.Entries {
					if e.Value != "%REQUESTED_SERVER_NAME%" {
						r.fault(fault{path: path, chain: c.Name, address: at("descriptor", e.Key), reason: "tells more of a connection than the name that the caller asked for"})
					}
				}
			}
			f.sinks = append(f.sinks, sink{path: path, cluster: grpcCluster(m.GetRateLimitService().GetGrpcService())})
			if !last {
				continue
			}
		case *setfilterstate.Config:
			f.byName = r.readByName(path, c.Name, m)
			if !last {
				continue
			}
		case *directresponse.Config:
			f.answers = last
		case *tcpproxy.TcpProxy:
			f.proxied = readProxy(path, m)
		case *hcm.HttpConnectionManager:
			f.http = r.readHTTP(path, m, &f)
		default:
			r.fault(fault{path: path, chain: c.Name, address: unknown, reason: "is a filter that the proof does not understand"})
			continue
		}
		if !last {
			r.fault(fault{path: path, chain: c.Name, address: unknown, reason: "is followed by filters, though it ends the chain"})
		}
	}
	if f.byName != "" {
		// What the next filter names is not asked: the name decides.
		if f.answers || f.http != nil || len(f.proxied) != 1 || f.proxied[0].cluster != f.byName {
			r.fault(fault{path: []string{at("chain", c.Name)}, chain: c.Name, address: unknown, reason: "does something else with the name of a cluster than lead connections to it"})
		}
		f.proxied = nil
		return f
	}
	if !f.answers && f.http == nil && len(f.proxied) == 0 {
		r.fault(fault{path: []string{at("chain", c.Name)}, chain: c.Name, address: unknown, reason: "does nothing with a connection that the proof understands"})
	}
	return f
}

// readByName reads the beginning of the names of clusters that a chain leads to, of
// which the name in the ClientHello is the rest.
func (r *reader) readByName(path []string, chain string, m *setfilterstate.Config) string {
	if len(m.OnNewConnection) == 1 {
		value := m.OnNewConnection[0]
		prefix, ok := strings.CutSuffix(value.GetFormatString().GetTextFormatSource().GetInlineString(), serverName)
		if ok && prefix != "" && !strings.Contains(prefix, "%") && value.GetObjectKey() == "envoy.tcp_proxy.cluster" {
			return prefix
		}
	}
	r.fault(fault{path: path, chain: chain, address: anywhere, reason: "says something about connections that the proof does not understand"})
	return ""
}

func readProxy(path []string, m *tcpproxy.TcpProxy) []way {
	if c, ok := m.ClusterSpecifier.(*tcpproxy.TcpProxy_Cluster); ok {
		return []way{{path, c.Cluster}}
	}
	var ways []way
	for _, w := range m.GetWeightedClusters().GetClusters() {
		ways = append(ways, way{append(path[:len(path):len(path)], at("weighted cluster", w.Name)), w.Name})
	}
	return ways
}

func (r *reader) readHTTP(path []string, m *hcm.HttpConnectionManager, chain *chainFacts) *httpFacts {
	f := &httpFacts{}
	strange := func(element, reason string) {
		r.fault(fault{path: append(path[:len(path):len(path)], element), chain: chain.name, address: unknown, reason: reason})
	}
	switch s := m.RouteSpecifier.(type) {
	case *hcm.HttpConnectionManager_Rds:
		f.routes = s.Rds.GetRouteConfigName()
		if s.Rds.GetConfigSource().GetAds() == nil || f.routes == "" {
			strange("field rds", "takes routes from where nobody proved them")
		}
	case *hcm.HttpConnectionManager_ScopedRoutes:
		f.bySNI = true
		if reason := r.scopedBySNI(s.ScopedRoutes, m.EarlyHeaderMutationExtensions); reason != "" {
			strange("field scoped_routes", reason)
		}
	default:
		strange("field route_specifier", "has no routes that the proof understands")
	}
	if !f.bySNI && len(m.EarlyHeaderMutationExtensions) > 0 {
		strange("field early_header_mutation_extensions", "changes requests before their routes are chosen")
	}
	r.readFilters(m.HttpFilters, strange)
	for _, u := range m.UpgradeConfigs {
		if !strings.EqualFold(u.UpgradeType, "websocket") {
			strange(at("upgrade", u.UpgradeType), "opens tunnels")
		}
	}
	if m.Tracing != nil {
		chain.sinks = append(chain.sinks, r.readTracing(append(path[:len(path):len(path)], "tracing"), m.Tracing))
	}
	for _, log := range m.AccessLog {
		chain.sinks = append(chain.sinks, r.readLog(append(path[:len(path):len(path)], at("access log", log.Name)), log))
	}
	return f
}

// readFilters demands that requests go to the router as they came: before it, headers
// of answers may be set, and the vocabulary knows no mutation of requests.
func (r *reader) readFilters(filters []*hcm.HttpFilter, strange func(element, reason string)) {
	routed := false
	for i, filter := range filters {
		switch r.unpack(filter.GetTypedConfig()).(type) {
		case *router.Router:
			routed = i == len(filters)-1
		case *headers.HeaderMutation:
		default:
			strange(at("http filter", filter.Name), "is a filter that the proof does not understand")
		}
	}
	if !routed {
		strange("field http_filters", "does not end with the router, and once")
	}
}

// serverName is the format of the name in the connection's ClientHello.
const serverName = "%REQUESTED_SERVER_NAME%"

// scopedBySNI tells what is wrong unless the key of a request's scope is the
// name in the ClientHello, which the caller cannot change from request to
// request: one header is the key, and Envoy overwrites it with that name.
func (r *reader) scopedBySNI(s *hcm.ScopedRoutes, early []*core.TypedExtensionConfig) string {
	if s.GetRdsConfigSource().GetAds() == nil || s.GetScopedRds().GetScopedRdsConfigSource().GetAds() == nil {
		return "takes routes from where nobody proved them"
	}
	fragments := s.GetScopeKeyBuilder().GetFragments()
	if len(fragments) != 1 {
		return "chooses routes by something else than the name in the ClientHello"
	}
	key := strings.ToLower(fragments[0].GetHeaderValueExtractor().GetName())
	if fragments[0].GetHeaderValueExtractor().GetIndex() != 0 || key == "" {
		return "chooses routes by something else than the name in the ClientHello"
	}
	set := false
	for _, extension := range early {
		change, ok := r.unpack(extension.GetTypedConfig()).(*earlyheaders.HeaderMutation)
		if !ok {
			return "changes requests before their routes are chosen"
		}
		for _, m := range change.GetMutations() {
			for _, o := range readMutations(nil, []*core.HeaderValueOption{m.GetAppend()}, nil) {
				if o != (mutation{name: key, value: serverName, overwrite: true}) {
					return "changes requests before their routes are chosen"
				}
				set = true
			}
		}
	}
	if !set {
		return "chooses routes by a header that the caller can set"
	}
	return ""
}

func (r *reader) readLog(path []string, log *accesslog.AccessLog) sink {
	switch m := r.unpack(log.GetTypedConfig()).(type) {
	case *filelog.FileAccessLog:
		return sink{path: path, file: m.Path}
	case *grpclog.HttpGrpcAccessLogConfig:
		return sink{path: path, cluster: grpcCluster(m.GetCommonConfig().GetGrpcService())}
	}
	return sink{path: path} // names nothing, and is judged so
}

func (r *reader) readTracing(path []string, t *hcm.HttpConnectionManager_Tracing) sink {
	if m, ok := r.unpack(t.GetProvider().GetTypedConfig()).(*trace.OpenTelemetryConfig); ok && r.sampledByCallers(m.GetSampler()) {
		return sink{path: path, cluster: grpcCluster(m.GetGrpcService()), tracer: true}
	}
	return sink{path: path, tracer: true} // names nothing, and is judged so
}

// sampledByCallers tells whether a sampler, if there is one, follows callers, and
// takes a share of all other requests.
func (r *reader) sampledByCallers(s *core.TypedExtensionConfig) bool {
	if s == nil {
		return true
	}
	m, ok := r.unpack(s.GetTypedConfig()).(*samplers.ParentBasedSamplerConfig)
	if !ok {
		return false
	}
	_, ok = r.unpack(m.GetWrappedSampler().GetTypedConfig()).(*samplers.TraceIdRatioBasedSamplerConfig)
	return ok
}

func grpcCluster(s *core.GrpcService) string { return s.GetEnvoyGrpc().GetClusterName() }
