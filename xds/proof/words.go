package proof

import (
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	// The packages whose messages may occur, so that Any can be unpacked.
	_ "github.com/cncf/xds/go/xds/type/matcher/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/set_filter_state/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ratelimit/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/samplers/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/quic/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_mappers/sni/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/cert_selectors/on_demand_secret/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

// words lists each message that may occur, and its fields that may be set. A
// field belongs here for one of two reasons: it cannot lead traffic, keys or
// records anywhere, or the readers of this package follow it. Whoever adds one
// says which, in a test that sets it.
//
// A field with "%" holds formats; the commands that they may use are in formats.
// One with "&" is for clients without an Envoy, and may occur in their books only.
const words = `
envoy.config.listener.v3.Listener: name address internal_listener listener_filters filter_chains filter_chain_matcher
  per_connection_buffer_limit_bytes listener_filters_timeout tcp_backlog_size
  max_connections_to_accept_per_socket_event enable_reuse_port traffic_direction stat_prefix metadata udp_listener_config
  api_listener&
envoy.config.listener.v3.ApiListener: api_listener
envoy.config.listener.v3.UdpListenerConfig: quic_options downstream_socket_config
envoy.config.listener.v3.QuicProtocolOptions: quic_protocol_options idle_timeout crypto_handshake_timeout packets_to_read_to_connection_count_ratio
envoy.config.core.v3.UdpSocketConfig: prefer_gro max_rx_datagram_size
envoy.config.core.v3.QuicProtocolOptions: max_concurrent_streams initial_stream_window_size initial_connection_window_size
  num_timeouts_to_trigger_port_migration idle_network_timeout
envoy.config.core.v3.Http3ProtocolOptions: quic_protocol_options override_stream_error_on_invalid_http_message
envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport: downstream_tls_context enable_early_data
google.protobuf.UInt64Value: value
envoy.config.listener.v3.Listener.InternalListenerConfig:
envoy.config.listener.v3.ListenerFilter: name typed_config config_discovery
envoy.config.core.v3.ExtensionConfigSource: config_source type_urls
envoy.extensions.filters.listener.set_filter_state.v3.Config: on_accept
envoy.config.listener.v3.FilterChain: name filters transport_socket transport_socket_connect_timeout
envoy.config.listener.v3.Filter: name typed_config
envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector:
envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol:
xds.core.v3.TypedExtensionConfig: name typed_config
xds.type.matcher.v3.Matcher: matcher_tree on_no_match
xds.type.matcher.v3.Matcher.MatcherTree: input custom_match exact_match_map
xds.type.matcher.v3.Matcher.MatcherTree.MatchMap: map
xds.type.matcher.v3.Matcher.OnMatch: action matcher
xds.type.matcher.v3.ServerNameMatcher: domain_matchers
xds.type.matcher.v3.ServerNameMatcher.DomainMatcher: domains on_match
envoy.extensions.matching.common_inputs.network.v3.ServerNameInput:
envoy.extensions.matching.common_inputs.network.v3.FilterStateInput: key

envoy.extensions.filters.network.direct_response.v3.Config: response
envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy: stat_prefix cluster weighted_clusters idle_timeout max_connect_attempts backoff_options
envoy.config.core.v3.BackoffStrategy: base_interval max_interval
envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster: clusters
envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight: name weight
envoy.extensions.filters.network.set_filter_state.v3.Config: on_new_connection
envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue: object_key format_string factory_key skip_if_empty
envoy.extensions.filters.network.ratelimit.v3.RateLimit: stat_prefix domain descriptors timeout failure_mode_deny rate_limit_service
envoy.extensions.common.ratelimit.v3.RateLimitDescriptor: entries
envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry: key value%
envoy.config.ratelimit.v3.RateLimitServiceConfig: grpc_service transport_api_version

envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager: stat_prefix codec_type rds scoped_routes
  http_filters access_log tracing early_header_mutation_extensions local_reply_config upgrade_configs
  add_proxy_protocol_connection_state always_set_request_id_in_response append_x_forwarded_port common_http_protocol_options
  delayed_close_timeout drain_timeout forward_client_cert_details generate_request_id http2_protocol_options http3_protocol_options
  http_protocol_options internal_address_config max_request_headers_kb merge_slashes normalize_path
  path_with_escaped_slashes_action request_headers_timeout request_timeout server_header_transformation server_name
  stream_flush_timeout stream_idle_timeout strip_any_host_port strip_trailing_host_dot use_remote_address
envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig:
envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig: upgrade_type
envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter: name typed_config
envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig: mappers
envoy.extensions.filters.network.http_connection_manager.v3.ResponseMapper: filter status_code body_format_override headers_to_add
envoy.extensions.filters.network.http_connection_manager.v3.Rds: config_source route_config_name
envoy.extensions.filters.network.http_connection_manager.v3.ScopedRds: scoped_rds_config_source
envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes: name rds_config_source scope_key_builder scoped_rds
envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder: fragments
envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder.FragmentBuilder: header_value_extractor
envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder.FragmentBuilder.HeaderValueExtractor: name index
envoy.extensions.filters.http.router.v3.Router: suppress_envoy_headers
envoy.extensions.filters.http.header_mutation.v3.HeaderMutation: mutations
envoy.extensions.filters.http.header_mutation.v3.Mutations: response_mutations
envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation: mutations
envoy.config.common.mutation_rules.v3.HeaderMutation: append
envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.Tracing: client_sampling random_sampling overall_sampling provider
envoy.config.trace.v3.Tracing.Http: name typed_config
envoy.config.trace.v3.OpenTelemetryConfig: grpc_service service_name sampler
envoy.extensions.tracers.opentelemetry.samplers.v3.ParentBasedSamplerConfig: wrapped_sampler
envoy.extensions.tracers.opentelemetry.samplers.v3.TraceIdRatioBasedSamplerConfig: sampling_percentage
envoy.config.accesslog.v3.AccessLog: name typed_config
envoy.config.accesslog.v3.AccessLogFilter: response_flag_filter
envoy.config.accesslog.v3.ResponseFlagFilter: flags
envoy.extensions.access_loggers.file.v3.FileAccessLog: path log_format
envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig: common_config
envoy.extensions.access_loggers.grpc.v3.CommonGrpcAccessLogConfig: log_name grpc_service transport_api_version buffer_flush_interval buffer_size_bytes

envoy.config.route.v3.ScopedRouteConfiguration: name route_configuration_name key
envoy.config.route.v3.ScopedRouteConfiguration.Key: fragments
envoy.config.route.v3.ScopedRouteConfiguration.Key.Fragment: string_key
envoy.config.route.v3.RouteConfiguration: name virtual_hosts request_headers_to_add request_headers_to_remove response_headers_to_add
envoy.config.route.v3.VirtualHost: name domains routes request_headers_to_add request_headers_to_remove response_headers_to_add
  request_body_buffer_limit
envoy.config.route.v3.Route: name match route redirect direct_response request_headers_to_add request_headers_to_remove response_headers_to_add
envoy.config.route.v3.RouteMatch: prefix path headers
envoy.config.route.v3.HeaderMatcher: name string_match
envoy.config.route.v3.DirectResponseAction: status body
envoy.config.route.v3.RedirectAction: https_redirect port_redirect response_code
envoy.config.route.v3.RouteAction: cluster weighted_clusters request_mirror_policies timeout retry_policy
envoy.config.route.v3.RouteAction.RequestMirrorPolicy: cluster runtime_fraction
envoy.config.route.v3.WeightedCluster: clusters
envoy.config.route.v3.WeightedCluster.ClusterWeight: name weight
envoy.config.route.v3.RetryPolicy: retry_on num_retries retry_back_off retry_priority retriable_headers per_try_timeout
envoy.config.route.v3.RetryPolicy.RetryBackOff: base_interval max_interval
envoy.config.route.v3.RetryPolicy.RetryPriority: name typed_config
envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig: update_frequency

envoy.config.cluster.v3.Cluster: name type cluster_type eds_cluster_config load_assignment transport_socket common_lb_config
  circuit_breakers connect_timeout dns_lookup_family lb_policy outlier_detection per_connection_buffer_limit_bytes
  typed_extension_protocol_options transport_socket_matches lrs_server&
envoy.config.cluster.v3.Cluster.TransportSocketMatch: name match transport_socket
envoy.config.cluster.v3.Cluster.CustomClusterType: name typed_config
envoy.extensions.clusters.aggregate.v3.ClusterConfig: clusters
envoy.config.cluster.v3.Cluster.EdsClusterConfig: eds_config service_name
envoy.config.cluster.v3.Cluster.CommonLbConfig: healthy_panic_threshold
envoy.config.cluster.v3.CircuitBreakers: thresholds
envoy.config.cluster.v3.CircuitBreakers.Thresholds: priority max_connections max_pending_requests max_requests max_retries retry_budget track_remaining
envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget: budget_percent min_retry_concurrency
envoy.config.cluster.v3.OutlierDetection: base_ejection_time consecutive_local_origin_failure enforcing_consecutive_5xx
  enforcing_consecutive_gateway_failure enforcing_consecutive_local_origin_failure enforcing_local_origin_success_rate
  enforcing_success_rate interval max_ejection_percent max_ejection_time split_external_local_origin_errors
envoy.extensions.upstreams.http.v3.HttpProtocolOptions: common_http_protocol_options explicit_http_config
envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig: http_protocol_options http2_protocol_options

envoy.config.endpoint.v3.ClusterLoadAssignment: cluster_name endpoints policy
envoy.config.endpoint.v3.ClusterLoadAssignment.Policy: overprovisioning_factor
envoy.config.endpoint.v3.LocalityLbEndpoints: locality lb_endpoints load_balancing_weight priority
envoy.config.endpoint.v3.LbEndpoint: endpoint health_status load_balancing_weight metadata
envoy.config.core.v3.Metadata: filter_metadata
envoy.config.endpoint.v3.Endpoint: address

envoy.config.core.v3.Address: socket_address pipe envoy_internal_address
envoy.config.core.v3.SocketAddress: address port_value protocol
envoy.config.core.v3.Pipe: path mode
envoy.config.core.v3.EnvoyInternalAddress: server_listener_name
envoy.config.core.v3.Locality: region zone sub_zone
envoy.config.core.v3.ConfigSource: ads resource_api_version self&
envoy.config.core.v3.SelfConfigSource:
envoy.config.core.v3.AggregatedConfigSource:
envoy.config.core.v3.DataSource: inline_bytes inline_string
envoy.config.core.v3.GrpcService: envoy_grpc timeout
envoy.config.core.v3.GrpcService.EnvoyGrpc: cluster_name
envoy.config.core.v3.HeaderValueOption: header append_action
envoy.config.core.v3.HeaderValue: key value%
envoy.config.core.v3.SubstitutionFormatString: json_format% text_format_source%
envoy.config.core.v3.Http1ProtocolOptions: allow_absolute_url enable_trailers override_stream_error_on_invalid_http_message
envoy.config.core.v3.Http2ProtocolOptions: connection_keepalive initial_connection_window_size initial_stream_window_size
  max_concurrent_streams max_consecutive_inbound_frames_with_empty_payload max_inbound_priority_frames_per_stream
  max_inbound_window_update_frames_per_data_frame_sent max_outbound_control_frames max_outbound_frames
  override_stream_error_on_invalid_http_message
envoy.config.core.v3.HttpProtocolOptions: headers_with_underscores_action idle_timeout max_connection_duration
  max_headers_count max_requests_per_connection
envoy.config.core.v3.KeepaliveSettings: interval timeout
envoy.config.core.v3.RuntimeFractionalPercent: default_value
envoy.config.core.v3.ProxyProtocolConfig: version
envoy.config.core.v3.TransportSocket: name typed_config
envoy.config.core.v3.TypedExtensionConfig: name typed_config

envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer:
envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport: transport_socket
envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport: config transport_socket
envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext: common_tls_context require_client_certificate require_sni
  disable_stateful_session_resumption disable_stateless_session_resumption
envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext: common_tls_context
envoy.extensions.transport_sockets.tls.v3.CommonTlsContext: alpn_protocols tls_params custom_tls_certificate_selector
  tls_certificate_sds_secret_configs combined_validation_context tls_certificate_provider_instance& validation_context&
envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext: default_validation_context
  validation_context_sds_secret_config
envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext: match_typed_subject_alt_names match_subject_alt_names&
  ca_certificate_provider_instance&
envoy.extensions.transport_sockets.tls.v3.CertificateProviderPluginInstance: instance_name
envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher: san_type matcher
envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig: name sds_config
envoy.extensions.transport_sockets.tls.v3.TlsParameters: cipher_suites ecdh_curves tls_maximum_protocol_version tls_minimum_protocol_version
envoy.extensions.transport_sockets.tls.cert_selectors.on_demand_secret.v3.Config: certificate_mapper config_source
envoy.extensions.transport_sockets.tls.cert_mappers.sni.v3.SNI: default_value

envoy.type.matcher.v3.StringMatcher: exact prefix safe_regex
envoy.type.matcher.v3.RegexMatcher: regex
envoy.type.v3.Percent: value
envoy.type.v3.FractionalPercent: numerator denominator
google.protobuf.BoolValue: value
google.protobuf.Duration: seconds nanos
google.protobuf.StringValue: value
google.protobuf.UInt32Value: value
google.protobuf.Struct: fields
google.protobuf.Value: string_value number_value bool_value struct_value
`

// formats are the commands that a format may use: they tell of the request,
// the connection and the reply, never of files, environment or keys.
const formats = `BYTES_RECEIVED BYTES_SENT CONNECTION_ID DOWNSTREAM_REMOTE_ADDRESS DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT
COMMON_DURATION DOWNSTREAM_TLS_VERSION DURATION GRPC_STATUS LOCAL_REPLY_BODY METADATA METHOD PATH PROTOCOL REQ REQUESTED_SERVER_NAME
REQUEST_DURATION RESP RESPONSE_CODE RESPONSE_CODE_DETAILS RESPONSE_DURATION RESPONSE_FLAGS RESPONSE_FLAGS_LONG
ROUTE_NAME START_TIME STREAM_ID UPSTREAM_CLUSTER UPSTREAM_HOST UPSTREAM_TRANSPORT_FAILURE_REASON`

// vocabulary is words and formats, looked up.
type vocabulary struct {
	messages map[protoreflect.FullName]map[protoreflect.Name]fieldRule
	formats  map[string]bool
}

type fieldRule struct{ known, format, clients bool }

// known parses the tables once. They are constants, and nobody writes to them.
var known = sync.OnceValue(func() *vocabulary {
	v := &vocabulary{messages: map[protoreflect.FullName]map[protoreflect.Name]fieldRule{}, formats: map[string]bool{}}
	for _, command := range strings.Fields(formats) {
		v.formats[command] = true
	}
	var fields map[protoreflect.Name]fieldRule
	for line := range strings.Lines(words + bootstrapWords) {
		list := line
		if message, rest, found := strings.Cut(line, ":"); found {
			fields = map[protoreflect.Name]fieldRule{}
			v.messages[protoreflect.FullName(message)] = fields
			list = rest
		}
		for _, word := range strings.Fields(list) {
			name, format := strings.CutSuffix(word, "%")
			name, clients := strings.CutSuffix(name, "&")
			fields[protoreflect.Name(name)] = fieldRule{known: true, format: format, clients: clients}
		}
	}
	return v
})
