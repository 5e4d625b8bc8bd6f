package proof

import (
	"fmt"
	"slices"
	"strings"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

// bootstrapWords are the words that only a bootstrap says.
const bootstrapWords = `
envoy.config.bootstrap.v3.Bootstrap: node admin static_resources dynamic_resources cluster_manager bootstrap_extensions
  overload_manager layered_runtime stats_flush_on_admin deferred_stat_options
envoy.config.bootstrap.v3.Bootstrap.StaticResources: clusters
envoy.config.bootstrap.v3.Bootstrap.DynamicResources: lds_config cds_config ads_config
envoy.config.bootstrap.v3.Bootstrap.DeferredStatOptions: enable_deferred_creation_stats
envoy.config.bootstrap.v3.Admin: address
envoy.config.bootstrap.v3.ClusterManager: load_stats_config enable_deferred_cluster_creation outlier_detection
envoy.config.bootstrap.v3.ClusterManager.OutlierDetection: event_log_path
envoy.config.bootstrap.v3.LayeredRuntime: layers
envoy.config.bootstrap.v3.RuntimeLayer: name static_layer admin_layer
envoy.config.bootstrap.v3.RuntimeLayer.AdminLayer:
envoy.config.core.v3.Node: id cluster locality
envoy.config.core.v3.ApiConfigSource: api_type transport_api_version grpc_services set_node_on_first_message_only
envoy.extensions.bootstrap.internal_listener.v3.InternalListener:
envoy.config.overload.v3.OverloadManager: refresh_interval resource_monitors actions loadshed_points buffer_factory_config
envoy.config.overload.v3.ResourceMonitor: name typed_config
envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig: max_heap_size_bytes
envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig: max_active_downstream_connections
envoy.config.overload.v3.OverloadAction: name triggers typed_config
envoy.config.overload.v3.Trigger: name threshold scaled
envoy.config.overload.v3.ThresholdTrigger: value
envoy.config.overload.v3.ScaledTrigger: scaling_threshold saturation_threshold
envoy.config.overload.v3.LoadShedPoint: name triggers
envoy.config.overload.v3.ScaleTimersOverloadActionConfig: timer_scale_factors
envoy.config.overload.v3.ScaleTimersOverloadActionConfig.ScaleTimer: timer min_timeout
envoy.config.overload.v3.BufferFactoryConfig: minimum_account_to_track_power_of_two
`

// runtimeKeys are the beginnings of the runtime's keys that a bootstrap may
// set: limits. Other keys can switch on what the resources switch off.
var runtimeKeys = [...]string{"overload.", "envoy.resource_limits.", "http.max_requests_per_io_cycle"}

// switchedOff may be set to false: connections within this Envoy then end like
// any others, and not with a reset.
const switchedOff = "envoy.reloadable_features.enable_send_rst_on_user_space_socket"

// CheckBootstrap proves the file that an Envoy is started with, in JSON: that
// Envoy takes its resources from this node's own Polder and from nobody else,
// reports to nobody else, and lets only its owner administrate it.
func CheckBootstrap(book *Book, data []byte) []Violation {
	b := new(bootstrap.Bootstrap)
	path := []string{"bootstrap"}
	if err := protojson.Unmarshal(data, b); err != nil {
		return []Violation{{Path: path, Address: unknown, Reason: fmt.Sprintf("cannot be read: %v", err)}}
	}
	r := &reader{facts: &facts{}}
	r.walk(b.ProtoReflect())
	r.readBootstrap(b, &book.site)
	var found []Violation
	for _, x := range r.facts.faults {
		address := strings.Join(append([]string{x.address}, x.strings...), ", ")
		found = append(found, Violation{Path: extend(path, x.path...), Address: strings.TrimPrefix(address, ", "), Reason: x.reason})
	}
	return tidy(found)
}

func (r *reader) readBootstrap(b *bootstrap.Bootstrap, site *Site) {
	fault := func(address, reason string, path ...string) {
		r.fault(fault{path: path, address: address, reason: reason})
	}
	if b.Admin != nil {
		pipe := b.Admin.GetAddress().GetPipe()
		switch a := readAddress(b.Admin.Address); {
		case pipe == nil:
			fault(a.address, "lets everybody who can connect read and change everything; use a Unix socket", "admin")
		case pipe.Mode == 0 || pipe.Mode&0o077 != 0:
			fault(a.address, "lets others than the owner read and change everything; use mode 0600", "admin")
		}
	}
	if region := b.GetNode().GetLocality().GetRegion(); region != string(site.Region) {
		fault(region, "is in another region than the book", "node")
	}
	dynamic := b.GetDynamicResources()
	if dynamic.GetLdsConfig().GetAds() == nil || dynamic.GetCdsConfig().GetAds() == nil {
		fault(unknown, "takes listeners or clusters from where nobody proved them", "dynamic_resources")
	}
	r.readControl("ads_config", dynamic.GetAdsConfig(), site)
	if reports := b.GetClusterManager().GetLoadStatsConfig(); reports != nil {
		r.readControl("load_stats_config", reports, site)
	}
	if file := b.GetClusterManager().GetOutlierDetection().GetEventLogPath(); file != "" && file != site.Ejections {
		fault(file, "is no file for the addresses of instances and peers that the book knows", "cluster_manager")
	}
	for _, c := range b.GetStaticResources().GetClusters() {
		f := r.readCluster(c)
		lawful := slices.Contains(site.Local, c.Name) && f.eds == "" && len(f.members) == 0 && f.socket.kind == clear && len(f.places) > 0
		for _, p := range f.places {
			if !p.pipe || !lawful {
				fault(p.address, "is not this node's own Polder", at("cluster", c.Name), p.path)
				lawful = true // said once
			}
		}
		if !lawful {
			fault(at("cluster", c.Name), "is not this node's own Polder", at("cluster", c.Name))
		}
	}
	for _, layer := range b.GetLayeredRuntime().GetLayers() {
		for key, value := range layer.GetStaticLayer().GetFields() {
			if off, ok := value.GetKind().(*structpb.Value_BoolValue); ok && key == switchedOff && !off.BoolValue {
				continue
			}
			if !slices.ContainsFunc(runtimeKeys[:], func(prefix string) bool { return strings.HasPrefix(key, prefix) }) {
				fault(key, "changes what Envoy does apart from the resources", "layered_runtime", at("layer", layer.Name), at("key", key))
			}
		}
	}
}

// readControl finds out whom Envoy asks for resources, or reports to.
func (r *reader) readControl(element string, c *core.ApiConfigSource, site *Site) {
	if len(c.GetGrpcServices()) == 0 {
		r.fault(fault{path: []string{element}, address: unknown, reason: "names no control plane"})
	}
	for _, s := range c.GetGrpcServices() {
		if name := grpcCluster(s); !slices.Contains(site.Local, name) {
			r.fault(fault{path: []string{element}, address: at("cluster", name), reason: "is not this node's own Polder"})
		}
	}
}
