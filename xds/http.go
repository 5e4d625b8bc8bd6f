package xds

import (
	"time"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutation "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	headers "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyheaders "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polder/polder"
)

// Limits on what a caller may send, after Envoy's guide for edge proxies.
const (
	maxConnections      = 50_000
	maxHeaders          = 100
	maxHeadersKiB       = 60
	maxStreams          = 100
	streamWindow        = 64 << 10 // bytes, HTTP/2 initial window of a stream
	connectionWindow    = 1 << 20  // bytes, HTTP/2 initial window of a connection
	headersTimeout      = 10 * time.Second
	connectionIdle      = time.Hour
	connectionLifetime  = 24 * time.Hour
	streamFlush         = 30 * time.Second
	drainTimeout        = 10 * time.Second
	requestsPerCaller   = 100_000 // requests on one connection
	http2PingInterval   = 30 * time.Second
	http2PingTimeout    = 10 * time.Second
	http2OutboundFrames = 10_000
	http2ControlFrames  = 1_000
)

// scopedManager speaks HTTP with callers of exact hosts. The routes are chosen
// by the SNI, so upper case, ports and trailing dots in Host change nothing.
func scopedManager(stat string, of observed, here polder.RegionName) *listener.Filter {
	return networkFilter(managerName, scoped(stat, of, here))
}

// scoped is that manager.
func scoped(stat string, of observed, here polder.RegionName) *hcm.HttpConnectionManager {
	m := serving(stat, of, here)
	m.LocalReplyConfig.Mappers = append([]*hcm.ResponseMapper{misdirectedReply()}, m.LocalReplyConfig.Mappers...)
	m.EarlyHeaderMutationExtensions = []*core.TypedExtensionConfig{{
		Name: "envoy.http.early_header_mutation.header_mutation",
		TypedConfig: packed(&earlyheaders.HeaderMutation{Mutations: []*mutation.HeaderMutation{{
			Action: &mutation.HeaderMutation_Append{Append: overwrite(headerHost, "%REQUESTED_SERVER_NAME%")}}}}),
	}}
	m.RouteSpecifier = &hcm.HttpConnectionManager_ScopedRoutes{ScopedRoutes: &hcm.ScopedRoutes{
		Name: scopesName,
		ScopeKeyBuilder: &hcm.ScopedRoutes_ScopeKeyBuilder{Fragments: []*hcm.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder{{
			Type: &hcm.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_{
				HeaderValueExtractor: &hcm.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor{
					Name: headerHost,
					ExtractType: &hcm.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Index{
						Index: 0,
					},
				}},
		}}},
		RdsConfigSource: ads(),
		ConfigSpecifier: &hcm.ScopedRoutes_ScopedRds{ScopedRds: &hcm.ScopedRds{ScopedRdsConfigSource: ads()}},
	}}
	return m
}

// wildcardManager speaks HTTP with callers of wildcard hosts.
func wildcardManager(stat string, of observed, here polder.RegionName) *listener.Filter {
	return networkFilter(managerName, wild(stat, of, here))
}

// wild is that manager.
func wild(stat string, of observed, here polder.RegionName) *hcm.HttpConnectionManager {
	m := serving(stat, of, here)
	m.RouteSpecifier = routes(routesWildcard)
	return m
}

// serving is a manager whose answers come from services, without its routes. What
// every answer has is said here, and not with the routes of each host.
func serving(stat string, of observed, here polder.RegionName) *hcm.HttpConnectionManager {
	m := manager(stat)
	m.AccessLog = accessLog(of.log)
	if of.traced {
		m.Tracing = tracing()
	}
	m.HttpFilters = append([]*hcm.HttpFilter{{
		Name: "answers",
		ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: packed(&headers.HeaderMutation{Mutations: &headers.Mutations{
			ResponseMutations: []*mutation.HeaderMutation{
				{Action: &mutation.HeaderMutation_Append{Append: overwrite("strict-transport-security", strictTransport)}},
				{Action: &mutation.HeaderMutation_Append{Append: overwrite(HeaderRegion, string(here))}},
			}}})},
	}}, m.HttpFilters...)
	return m
}

// plainManager speaks HTTP on the plain port, only to send callers elsewhere.
func plainManager() *listener.Filter {
	m := manager("http")
	m.RouteSpecifier = routes(routesHTTP)
	m.UpgradeConfigs = nil
	return networkFilter(managerName, m)
}

const managerName = "envoy.filters.network.http_connection_manager"

func routes(name string) *hcm.HttpConnectionManager_Rds {
	return &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{RouteConfigName: name, ConfigSource: ads()}}
}

// manager is the hardened HTTP connection manager without its routes.
func manager(stat string) *hcm.HttpConnectionManager {
	return &hcm.HttpConnectionManager{
		StatPrefix:                      stat,
		CodecType:                       hcm.HttpConnectionManager_AUTO,
		UseRemoteAddress:                wrapperspb.Bool(true),
		InternalAddressConfig:           &hcm.HttpConnectionManager_InternalAddressConfig{},
		StripPortMode:                   &hcm.HttpConnectionManager_StripAnyHostPort{StripAnyHostPort: true},
		StripTrailingHostDot:            true,
		NormalizePath:                   wrapperspb.Bool(true),
		MergeSlashes:                    true,
		PathWithEscapedSlashesAction:    hcm.HttpConnectionManager_UNESCAPE_AND_REDIRECT,
		ServerName:                      "polder",
		ServerHeaderTransformation:      hcm.HttpConnectionManager_OVERWRITE,
		GenerateRequestId:               wrapperspb.Bool(true),
		AlwaysSetRequestIdInResponse:    true,
		ForwardClientCertDetails:        hcm.HttpConnectionManager_SANITIZE,
		AppendXForwardedPort:            true,
		AddProxyProtocolConnectionState: wrapperspb.Bool(false),
		MaxRequestHeadersKb:             wrapperspb.UInt32(maxHeadersKiB),
		RequestHeadersTimeout:           durationpb.New(headersTimeout),
		StreamIdleTimeout:               durationpb.New(streamIdle),
		StreamFlushTimeout:              durationpb.New(streamFlush),
		DrainTimeout:                    durationpb.New(drainTimeout),
		DelayedCloseTimeout:             durationpb.New(time.Second),
		CommonHttpProtocolOptions: &core.HttpProtocolOptions{
			IdleTimeout:                  durationpb.New(connectionIdle),
			MaxConnectionDuration:        durationpb.New(connectionLifetime),
			MaxHeadersCount:              wrapperspb.UInt32(maxHeaders),
			MaxRequestsPerConnection:     wrapperspb.UInt32(requestsPerCaller),
			HeadersWithUnderscoresAction: core.HttpProtocolOptions_REJECT_REQUEST,
		},
		HttpProtocolOptions: &core.Http1ProtocolOptions{
			AllowAbsoluteUrl:                        wrapperspb.Bool(true),
			OverrideStreamErrorOnInvalidHttpMessage: wrapperspb.Bool(false),
			EnableTrailers:                          true,
		},
		Http2ProtocolOptions: &core.Http2ProtocolOptions{
			MaxConcurrentStreams:                         wrapperspb.UInt32(maxStreams),
			InitialStreamWindowSize:                      wrapperspb.UInt32(streamWindow),
			InitialConnectionWindowSize:                  wrapperspb.UInt32(connectionWindow),
			MaxOutboundFrames:                            wrapperspb.UInt32(http2OutboundFrames),
			MaxOutboundControlFrames:                     wrapperspb.UInt32(http2ControlFrames),
			MaxConsecutiveInboundFramesWithEmptyPayload:  wrapperspb.UInt32(1),
			MaxInboundPriorityFramesPerStream:            wrapperspb.UInt32(100),
			MaxInboundWindowUpdateFramesPerDataFrameSent: wrapperspb.UInt32(10),
			OverrideStreamErrorOnInvalidHttpMessage:      wrapperspb.Bool(false),
			ConnectionKeepalive: &core.KeepaliveSettings{
				Interval: durationpb.New(http2PingInterval), Timeout: durationpb.New(http2PingTimeout)},
		},
		UpgradeConfigs:   []*hcm.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		LocalReplyConfig: labelledErrors(),
		HttpFilters: []*hcm.HttpFilter{{
			Name: "envoy.filters.http.router",
			ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: packed(&router.Router{
				SuppressEnvoyHeaders: true})},
		}},
	}
}

// labelledErrors makes Envoy's own error replies say what happened, in a header
// and a JSON body. What the activator or an instance answers is left alone.
func labelledErrors() *hcm.LocalReplyConfig {
	// Response flags as in Envoy's access log documentation.
	return &hcm.LocalReplyConfig{Mappers: []*hcm.ResponseMapper{
		labelled("instance-unreachable", "UH", "UF", "UO", "URX", "NC"),
		labelled("instance-failed", "UC", "UR", "LR", "UPE"),
		labelled("timeout", "UT", "SI", "DT"),
		labelled("no-route", "NR"),
		labelled("overloaded", "OM", "RL"),
	}}
}

func labelled(reason string, flags ...string) *hcm.ResponseMapper {
	return explained(reason, "%LOCAL_REPLY_BODY%", flags...)
}

// misdirectedReply answers, where the SNI chooses the routes, whoever asks for a host
// that they do not have.
func misdirectedReply() *hcm.ResponseMapper {
	m := explained(reasonMisdirected, textMisdirected, "NR")
	m.StatusCode = wrapperspb.UInt32(statusMisdirected)
	return m
}

func explained(reason, text string, flags ...string) *hcm.ResponseMapper {
	body, err := structpb.NewStruct(map[string]any{
		"error": text, "reason": reason, "details": "%RESPONSE_CODE_DETAILS%",
		"request-id": "%REQ(X-REQUEST-ID)%",
	})
	if err != nil {
		panic("xds: constant error body: " + err.Error())
	}
	return &hcm.ResponseMapper{
		Filter: &accesslog.AccessLogFilter{FilterSpecifier: &accesslog.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslog.ResponseFlagFilter{Flags: flags}}},
		BodyFormatOverride: &core.SubstitutionFormatString{
			Format: &core.SubstitutionFormatString_JsonFormat{JsonFormat: body}},
		HeadersToAdd: []*core.HeaderValueOption{overwrite(HeaderReason, reason)},
	}
}
