package xds

import (
	"fmt"
	"time"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	overload "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	internallistener "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	connections "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heap "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	upstreamhttp "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polder/polder"
)

// Bootstrap describes how an Envoy finds its control plane.
type Bootstrap struct {
	Node         string            // unique among the region's Envoys
	Region       polder.RegionName // also the locality's region
	ControlPlane string            // path of Polder's xDS Unix socket
	Admin        string            // path of the admin Unix socket to be made, mode 0600
	Ejections    string            // file to note the addresses in that Envoy gives up for a while; "" for none
	HeapLimit    polder.Bytes      // memory at which Envoy sheds load; 0 means 2 GiB
	StateOfWorld bool              // speak the older variant of the protocol
	Remote       *RemoteControl    // where Polder is when it runs on another machine, instead of ControlPlane
}

// adminMode lets only the owner use the admin socket, which can read and change everything.
const adminMode = 0o600

// JSON gives the bootstrap file of Envoy.
func (b Bootstrap) JSON() ([]byte, error) {
	api := core.ApiConfigSource_DELTA_GRPC
	if b.StateOfWorld {
		api = core.ApiConfigSource_GRPC
	}
	control := controlPlaneCluster(b.ControlPlane)
	if b.Remote != nil {
		control = b.Remote.cluster()
	}
	message := &bootstrap.Bootstrap{
		Node: &core.Node{Id: b.Node, Cluster: string(b.Region), Locality: &core.Locality{Region: string(b.Region)}},
		Admin: &bootstrap.Admin{Address: &core.Address{Address: &core.Address_Pipe{
			Pipe: &core.Pipe{Path: b.Admin, Mode: adminMode}}}},
		DynamicResources: &bootstrap.Bootstrap_DynamicResources{
			LdsConfig: ads(), CdsConfig: ads(),
			AdsConfig: &core.ApiConfigSource{
				ApiType:                   api,
				TransportApiVersion:       core.ApiVersion_V3,
				SetNodeOnFirstMessageOnly: true,
				GrpcServices:              []*core.GrpcService{b.Remote.patient(controlPlane())},
			},
		},
		// Most services are idle most of the time: their statistics and each worker's
		// share of their clusters are made when the first request comes.
		// Nobody needs them every five seconds, which at ten thousand services would
		// stop the main thread for a tenth of a second: who asks makes them fresh.
		StatsFlush:          &bootstrap.Bootstrap_StatsFlushOnAdmin{StatsFlushOnAdmin: true},
		DeferredStatOptions: &bootstrap.Bootstrap_DeferredStatOptions{EnableDeferredCreationStats: true},
		ClusterManager: &bootstrap.ClusterManager{EnableDeferredClusterCreation: true, LoadStatsConfig: &core.ApiConfigSource{
			ApiType: core.ApiConfigSource_GRPC, TransportApiVersion: core.ApiVersion_V3,
			GrpcServices: []*core.GrpcService{b.Remote.patient(controlPlane())},
		}},
		StaticResources:     &bootstrap.Bootstrap_StaticResources{Clusters: []*cluster.Cluster{control}},
		BootstrapExtensions: []*core.TypedExtensionConfig{{Name: "envoy.bootstrap.internal_listener", TypedConfig: packed(&internallistener.InternalListener{})}},
		OverloadManager:     overloadManager(b.HeapLimit),
		LayeredRuntime:      runtimeLimits(b.entrypoint()),
	}
	if b.Ejections != "" {
		message.ClusterManager.OutlierDetection = &bootstrap.ClusterManager_OutlierDetection{EventLogPath: b.Ejections}
	}
	if err := message.ValidateAll(); err != nil {
		return nil, fmt.Errorf("bootstrap of node %q: %w", b.Node, err)
	}
	return protojson.Marshal(message)
}

func controlPlane() *core.GrpcService {
	return &core.GrpcService{TargetSpecifier: &core.GrpcService_EnvoyGrpc_{EnvoyGrpc: &core.GrpcService_EnvoyGrpc{
		ClusterName: ControlPlane}}}
}

func controlPlaneCluster(path string) *cluster.Cluster {
	http2 := &upstreamhttp.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstreamhttp.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &upstreamhttp.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &upstreamhttp.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &core.Http2ProtocolOptions{ConnectionKeepalive: &core.KeepaliveSettings{
						Interval: durationpb.New(http2PingInterval), Timeout: durationpb.New(http2PingTimeout)}},
				}}}}
	return &cluster.Cluster{
		Name:                 ControlPlane,
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(time.Second),
		CommonLbConfig:       noPanic(),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(http2)},
		LoadAssignment: &endpoint.ClusterLoadAssignment{ClusterName: ControlPlane, Endpoints: []*endpoint.LocalityLbEndpoints{{
			LbEndpoints: []*endpoint.LbEndpoint{lbEndpoint(pipeAddress(path))}}}},
	}
}

// overloadManager makes Envoy shed load before it runs out of memory, in the
// order of Envoy's guide for edge proxies: first shorter timeouts, then the
// most expensive streams, then new requests, last new connections.
func overloadManager(limit polder.Bytes) *overload.OverloadManager {
	const (
		monitorHeap        = "envoy.resource_monitors.fixed_heap"
		monitorConnections = "envoy.resource_monitors.global_downstream_max_connections"
	)
	if limit == 0 {
		limit = 2 << 30
	}
	at := func(value float64) []*overload.Trigger {
		return []*overload.Trigger{{Name: monitorHeap, TriggerOneof: &overload.Trigger_Threshold{
			Threshold: &overload.ThresholdTrigger{Value: value}}}}
	}
	between := func(from, to float64) []*overload.Trigger {
		return []*overload.Trigger{{Name: monitorHeap, TriggerOneof: &overload.Trigger_Scaled{
			Scaled: &overload.ScaledTrigger{ScalingThreshold: from, SaturationThreshold: to}}}}
	}
	shorten := func(timer overload.ScaleTimersOverloadActionConfig_TimerType, least time.Duration) *overload.ScaleTimersOverloadActionConfig_ScaleTimer {
		return &overload.ScaleTimersOverloadActionConfig_ScaleTimer{Timer: timer,
			OverloadAdjust: &overload.ScaleTimersOverloadActionConfig_ScaleTimer_MinTimeout{MinTimeout: durationpb.New(least)}}
	}
	timers := packed(&overload.ScaleTimersOverloadActionConfig{TimerScaleFactors: []*overload.ScaleTimersOverloadActionConfig_ScaleTimer{
		shorten(overload.ScaleTimersOverloadActionConfig_HTTP_DOWNSTREAM_CONNECTION_IDLE, 2*time.Second),
		shorten(overload.ScaleTimersOverloadActionConfig_HTTP_DOWNSTREAM_STREAM_IDLE, 5*time.Second),
		shorten(overload.ScaleTimersOverloadActionConfig_TRANSPORT_SOCKET_CONNECT, time.Second),
		shorten(overload.ScaleTimersOverloadActionConfig_HTTP_DOWNSTREAM_CONNECTION_MAX, time.Minute),
	}})
	return &overload.OverloadManager{
		RefreshInterval: durationpb.New(250 * time.Millisecond),
		ResourceMonitors: []*overload.ResourceMonitor{
			monitor(monitorHeap, &heap.FixedHeapConfig{MaxHeapSizeBytes: uint64(limit)}),
			monitor(monitorConnections, &connections.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: maxConnections}),
		},
		Actions: []*overload.OverloadAction{
			{Name: "envoy.overload_actions.shrink_heap", Triggers: at(0.90)},
			{Name: "envoy.overload_actions.reduce_timeouts", Triggers: between(0.85, 0.95), TypedConfig: timers},
			{Name: "envoy.overload_actions.reset_high_memory_stream", Triggers: between(0.90, 0.98)},
			{Name: "envoy.overload_actions.disable_http_keepalive", Triggers: at(0.95)},
			{Name: "envoy.overload_actions.stop_accepting_requests", Triggers: at(0.95)},
			{Name: "envoy.overload_actions.stop_accepting_connections", Triggers: at(0.98)},
			{Name: "envoy.overload_actions.reject_incoming_connections", Triggers: at(0.99)},
		},
		LoadshedPoints: []*overload.LoadShedPoint{
			{Name: "envoy.load_shed_points.tcp_listener_accept", Triggers: at(0.97)},
			{Name: "envoy.load_shed_points.http_connection_manager_decode_headers", Triggers: at(0.96)},
			{Name: "envoy.load_shed_points.http1_server_abort_dispatch", Triggers: at(0.97)},
			{Name: "envoy.load_shed_points.http2_server_go_away_on_dispatch", Triggers: at(0.97)},
			{Name: "envoy.load_shed_points.hcm_ondata_creating_codec", Triggers: at(0.97)},
		},
		BufferFactoryConfig: &overload.BufferFactoryConfig{MinimumAccountToTrackPowerOfTwo: 20},
	}
}

func monitor(name string, config proto.Message) *overload.ResourceMonitor {
	return &overload.ResourceMonitor{Name: name, ConfigType: &overload.ResourceMonitor_TypedConfig{TypedConfig: packed(config)}}
}

// runtimeLimits guard against HTTP/2 rapid resets (CVE-2023-44487), keep one
// connection from starving the others on its worker, and let answers arrive
// whose connection is closed right behind them: otherwise Envoy 1.40 makes a
// reset of every close between its own listeners and hands it on, ahead of what
// was sent before. That is how callers are passed on.
func runtimeLimits(entrypoint string) *bootstrap.LayeredRuntime {
	layer := &structpb.Struct{Fields: map[string]*structpb.Value{
		"envoy.reloadable_features.enable_send_rst_on_user_space_socket":     structpb.NewBoolValue(false),
		"overload.premature_reset_total_stream_count":                        structpb.NewNumberValue(500),
		"overload.premature_reset_min_stream_lifetime_seconds":               structpb.NewNumberValue(1),
		"http.max_requests_per_io_cycle":                                     structpb.NewNumberValue(1),
		"envoy.resource_limits.listener." + entrypoint + ".connection_limit": structpb.NewNumberValue(maxConnections),
	}}
	return &bootstrap.LayeredRuntime{Layers: []*bootstrap.RuntimeLayer{
		{Name: "polder", LayerSpecifier: &bootstrap.RuntimeLayer_StaticLayer{StaticLayer: layer}},
		{Name: "admin", LayerSpecifier: &bootstrap.RuntimeLayer_AdminLayer_{AdminLayer: &bootstrap.RuntimeLayer_AdminLayer{}}},
	}}
}
