package proof_test

import (
	"slices"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	ratelimitconfig "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	filelog "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	grpclog "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	limits "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	forward "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	dynamicmodules "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_modules/v3"
	authz "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	processor "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	headers "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	lua "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	taphttp "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/tap/v3"
	wasm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	networkauthz "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ext_authz/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	ratelimit "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ratelimit/v3"
	snicluster "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"
	tcpproxy "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// toCluster is a gRPC service behind a cluster.
func toCluster(name string) *core.GrpcService {
	return &core.GrpcService{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{EnvoyGrpc: &core.GrpcService_EnvoyGrpc{ClusterName: name}}}
}

func (s *snapshot) logTo(m proto.Message) []*accesslog.AccessLog {
	return []*accesslog.AccessLog{{Name: "log", ConfigType: &accesslog.AccessLog_TypedConfig{TypedConfig: pack(s.t, m)}}}
}

// sinkMutants tell somebody about traffic.
func sinkMutants() []mutant {
	serving := []string{"listener entrypoint-https", "chain serve", "access log log"}
	inManager := func(elements ...string) []string {
		return append([]string{"listener entrypoint-https", "filter_chains serve", "filters"}, elements...)
	}
	log := func(m func() proto.Message) func(s *snapshot) {
		return func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) { h.AccessLog = s.logTo(m()) })
		}
	}
	early := func(s *snapshot, chain, cluster string, told ...*limits.RateLimitDescriptor_Entry) {
		c := s.chain("entrypoint-https", chain)
		c.Filters = append([]*listener.Filter{s.filter("early", &ratelimit.RateLimit{StatPrefix: "early", Domain: "arrivals",
			Descriptors:      []*limits.RateLimitDescriptor{{Entries: append(told, &limits.RateLimitDescriptor_Entry{Key: "sni", Value: "%REQUESTED_SERVER_NAME%"})}},
			RateLimitService: &ratelimitconfig.RateLimitServiceConfig{TransportApiVersion: core.ApiVersion_V3, GrpcService: toCluster(cluster)}})}, c.Filters...)
	}
	return []mutant{
		{"access log to a service that the book does not know", func(s *snapshot) {
			s.add(staticCluster("logs", socketAt("203.0.113.9", 4317)))
			log(func() proto.Message {
				return &grpclog.HttpGrpcAccessLogConfig{CommonConfig: &grpclog.CommonGrpcAccessLogConfig{LogName: "x", GrpcService: toCluster("logs")}}
			})(s)
		}, "billing", serving, "cluster logs"},
		{"access log past all clusters", log(func() proto.Message {
			return &grpclog.HttpGrpcAccessLogConfig{CommonConfig: &grpclog.CommonGrpcAccessLogConfig{LogName: "x", GrpcService: &core.GrpcService{
				TargetSpecifier: &core.GrpcService_GoogleGrpc_{GoogleGrpc: &core.GrpcService_GoogleGrpc{TargetUri: "logs.example.org:4317", StatPrefix: "x"}}}}}
		}), "billing", inManager("access_log", "google_grpc"), "logs.example.org:4317"},
		{"access log to another file", log(func() proto.Message { return &filelog.FileAccessLog{Path: "/mnt/shared/access.log"} }),
			"billing", serving, "file /mnt/shared/access.log"},
		{"access log with a format that reads files", log(func() proto.Message {
			return &filelog.FileAccessLog{Path: logFile, AccessLogFormat: &filelog.FileAccessLog_LogFormat{LogFormat: &core.SubstitutionFormatString{
				Format: &core.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: map[string]*structpb.Value{
					"x": structpb.NewStringValue("%METHOD% %FILE_CONTENT(/etc/passwd)%")}}}}}}
		}), "billing", inManager("access_log", "log_format", "json_format"), "%FILE_CONTENT%"},
		{"access log of unknown make", log(func() proto.Message { return &lua.Lua{} }), "billing", inManager("access_log log"), ""},
		{"access log of a listener", func(s *snapshot) {
			s.listener("entrypoint-https").AccessLog = s.logTo(&filelog.FileAccessLog{Path: logFile})
		},
			"", []string{"listener entrypoint-https", "access_log"}, logFile},
		{"access log of passed connections", func(s *snapshot) {
			edit(s.t, s.chain("entrypoint-https", "pass/nl").Filters[0].GetTypedConfig(), func(p *tcpproxy.TcpProxy) {
				p.AccessLog = s.logTo(&filelog.FileAccessLog{Path: logFile})
			})
		}, "dutch", []string{"listener entrypoint-https", "filter_chains pass/nl", "filters", "access_log"}, logFile},
		{"access log of plain HTTP", func(s *snapshot) {
			s.manager("entrypoint-http", "http", func(h *hcm.HttpConnectionManager) { h.AccessLog = s.logTo(&filelog.FileAccessLog{Path: logFile}) })
		}, "", []string{"listener entrypoint-http", "chain"}, logFile},
		{"access log of the router", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) {
				edit(s.t, h.HttpFilters[len(h.HttpFilters)-1].GetTypedConfig(), func(r *router.Router) { r.UpstreamLog = s.logTo(&filelog.FileAccessLog{Path: "/tmp/upstream.log"}) })
			})
		}, "billing", inManager("http_filters", "upstream_log"), "/tmp/upstream.log"},
		{"arrivals told to a service that the book does not know", func(s *snapshot) {
			s.add(staticCluster("limits", socketAt("203.0.113.9", 8081)))
			early(s, "serve", "limits")
		}, "billing", []string{"listener entrypoint-https", "chain serve", "filter early"}, "cluster limits"},
		{"the caller's address told with the arrival", func(s *snapshot) {
			early(s, "serve", "polder", &limits.RateLimitDescriptor_Entry{Key: "caller", Value: "%DOWNSTREAM_REMOTE_ADDRESS%"})
		}, "billing", []string{"listener entrypoint-https", "chain serve", "filter early"}, "descriptor caller"},
		{"arrivals of passed connections told to Polder", func(s *snapshot) { early(s, "pass/nl", "polder") },
			"dutch", []string{"listener entrypoint-https", "chain pass/nl"}, "cluster polder"},
	}
}

// filterMutants put filters with code, or with friends, before the router.
func filterMutants() []mutant {
	at := func(name string) []string {
		return []string{"listener entrypoint-https", "filter_chains serve", "filters", "http_filters " + name}
	}
	http := func(name string, m proto.Message) func(s *snapshot) {
		return func(s *snapshot) {
			s.add(staticCluster("helper", socketAt("203.0.113.9", 9000)))
			s.httpFilter(name, m)
		}
	}
	network := func(name string, m proto.Message) func(s *snapshot) {
		return func(s *snapshot) {
			s.add(staticCluster("helper", socketAt("203.0.113.9", 9000)))
			c := s.chain("entrypoint-https", "serve")
			c.Filters = append([]*listener.Filter{s.filter(name, m)}, c.Filters...)
		}
	}
	return []mutant{
		//lint:ignore SA1019 the deprecated field still runs code
		{"Lua", http("lua", &lua.Lua{InlineCode: "function envoy_on_request(h) h:httpCall(\"helper\", {}, \"\", 100) end"}), "billing", at("lua"), "any address"},
		{"Wasm", http("wasm", &wasm.Wasm{}), "billing", at("wasm"), "any address"},
		{"dynamic module", http("module", &dynamicmodules.DynamicModuleFilter{FilterName: "spy"}), "billing", at("module"), "spy"},
		{"external processor", http("processor", &processor.ExternalProcessor{GrpcService: toCluster("helper")}), "billing", at("processor"), "203.0.113.9:9000"},
		{"external authorization", http("authz", &authz.ExtAuthz{Services: &authz.ExtAuthz_GrpcService{GrpcService: toCluster("helper")}}), "billing", at("authz"), "203.0.113.9:9000"},
		{"external authorization of connections", network("authz", &networkauthz.ExtAuthz{StatPrefix: "x", GrpcService: toCluster("helper")}),
			"billing", []string{"listener entrypoint-https", "filter_chains serve", "filters authz"}, "203.0.113.9:9000"},
		{"tap", http("tap", &taphttp.Tap{}), "billing", at("tap"), "whoever taps"},
		{"forwarding to where the request says", http("forward", &forward.FilterConfig{}), "billing", at("forward"), "any address"},
		{"cluster named by the SNI", network("sni", &snicluster.SniCluster{}), "billing", []string{"listener entrypoint-https", "filter_chains serve", "filters sni"}, "any address"},
		{"filter of an unknown type", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) {
				h.HttpFilters = append([]*hcm.HttpFilter{{Name: "new", ConfigType: &hcm.HttpFilter_TypedConfig{
					TypedConfig: &anypb.Any{TypeUrl: "type.googleapis.com/envoy.extensions.filters.http.brand_new.v9.Thing", Value: []byte{1, 2, 3}}}}}, h.HttpFilters...)
			})
		}, "billing", at("new"), "nobody knows"},
		{"filter without a configuration", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) {
				h.HttpFilters = append([]*hcm.HttpFilter{{Name: "envoy.filters.http.lua"}}, h.HttpFilters...)
			})
		}, "billing", []string{"listener entrypoint-https", "chain serve", "filter", "http filter envoy.filters.http.lua"}, ""},
		{"filter fetched from elsewhere", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) {
				h.HttpFilters[0].ConfigType = &hcm.HttpFilter_ConfigDiscovery{ConfigDiscovery: &core.ExtensionConfigSource{ConfigSource: fromADS()}}
			})
		}, "billing", []string{"listener entrypoint-https", "filter_chains serve", "filters", "http_filters", "config_discovery"}, ""},
		{"filter that changes requests", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) {
				edit(s.t, h.HttpFilters[0].GetTypedConfig(), func(m *headers.HeaderMutation) {
					m.Mutations.RequestMutations = m.Mutations.ResponseMutations
				})
			})
		}, "billing", []string{"listener entrypoint-https", "filter_chains serve", "filters", "http_filters", "request_mutations"}, ""},
		{"environment in every answer", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) {
				edit(s.t, h.HttpFilters[0].GetTypedConfig(), func(m *headers.HeaderMutation) {
					m.Mutations.ResponseMutations[0].GetAppend().Header.Value = "%ENVIRONMENT(VAULT_KEY)%"
				})
			})
		}, "billing", []string{"listener entrypoint-https", "filter_chains serve", "filters", "http_filters", "response_mutations"}, "%ENVIRONMENT%"},
		{"router before another filter", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) { slices.Reverse(h.HttpFilters) })
		}, "billing", []string{"listener entrypoint-https", "chain serve", "filter", "field http_filters"}, ""},
		{"tunnels", func(s *snapshot) {
			s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) {
				h.UpgradeConfigs = append(h.UpgradeConfigs, &hcm.HttpConnectionManager_UpgradeConfig{UpgradeType: "CONNECT"})
			})
		}, "billing", []string{"listener entrypoint-https", "chain serve", "filter", "upgrade CONNECT"}, ""},
	}
}
