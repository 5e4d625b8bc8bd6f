package proof_test

import (
	"slices"
	"strings"
	"testing"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	metrics "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

func goodBootstrap(t testing.TB) *bootstrap.Bootstrap {
	t.Helper()
	data, err := xds.Bootstrap{Node: "fr-1", Region: "fr", ControlPlane: "/run/polder/xds.sock", Admin: "/run/polder/admin.sock", Ejections: ejectionsFile}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	b := new(bootstrap.Bootstrap)
	if err := protojson.Unmarshal(data, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBootstrap(t *testing.T) {
	book := mutantWorld(t).book()
	check := func(b *bootstrap.Bootstrap) []proof.Violation {
		data, err := protojson.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return proof.CheckBootstrap(book, data)
	}
	if found := check(goodBootstrap(t)); len(found) > 0 {
		t.Fatalf("the good one: got\n%s", lines(found))
	}
	for _, c := range []struct {
		name    string
		change  func(b *bootstrap.Bootstrap)
		path    string
		address string
	}{
		{"admin on the network", func(b *bootstrap.Bootstrap) { b.Admin.Address = socketAt("127.0.0.1", 9901) }, "admin", "127.0.0.1:9901"},
		{"admin for everybody on the machine", func(b *bootstrap.Bootstrap) { b.Admin.Address.GetPipe().Mode = 0o666 }, "admin", "/run/polder/admin.sock"},
		{"admin with the mode that the umask leaves", func(b *bootstrap.Bootstrap) { b.Admin.Address.GetPipe().Mode = 0 }, "admin", "/run/polder/admin.sock"},
		{"another control plane", func(b *bootstrap.Bootstrap) {
			b.StaticResources.Clusters = append(b.StaticResources.Clusters, staticCluster("other", socketAt("203.0.113.9", 18000)))
			b.DynamicResources.AdsConfig.GrpcServices = []*core.GrpcService{toCluster("other")}
		}, "ads_config", "cluster other"},
		{"a static cluster to another place", func(b *bootstrap.Bootstrap) {
			b.StaticResources.Clusters = append(b.StaticResources.Clusters, staticCluster("other", socketAt("203.0.113.9", 18000)))
		}, "cluster other", "203.0.113.9:18000"},
		{"the control plane's cluster, elsewhere", func(b *bootstrap.Bootstrap) {
			b.StaticResources.Clusters[0].LoadAssignment.Endpoints[0].LbEndpoints[0] = endpointAt(socketAt("203.0.113.9", 18000))
		}, "cluster polder", "203.0.113.9:18000"},
		{"no control plane", func(b *bootstrap.Bootstrap) { b.DynamicResources.AdsConfig.GrpcServices = nil }, "ads_config", ""},
		{"listeners from a file", func(b *bootstrap.Bootstrap) {
			b.DynamicResources.LdsConfig = &core.ConfigSource{ConfigSourceSpecifier: &core.ConfigSource_PathConfigSource{PathConfigSource: &core.PathConfigSource{Path: "/tmp/lds.yaml"}}}
		}, "path_config_source", "/tmp/lds.yaml"},
		{"load reported elsewhere", func(b *bootstrap.Bootstrap) {
			b.ClusterManager.LoadStatsConfig.GrpcServices = []*core.GrpcService{toCluster("other")}
		}, "load_stats_config", "cluster other"},
		{"addresses noted in a file of somebody's", func(b *bootstrap.Bootstrap) {
			b.ClusterManager.OutlierDetection.EventLogPath = "/mnt/elsewhere/ejections.log"
		}, "cluster_manager", "/mnt/elsewhere/ejections.log"},
		{"addresses told to a service", func(b *bootstrap.Bootstrap) {
			b.ClusterManager.OutlierDetection.EventService = &core.EventServiceConfig{ConfigSourceSpecifier: &core.EventServiceConfig_GrpcService{GrpcService: toCluster("other")}}
		}, "event_service", ""},
		{"metrics sent elsewhere", func(b *bootstrap.Bootstrap) { b.StatsSinks = []*metrics.StatsSink{{Name: "statsd"}} }, "stats_sinks", "statsd"},
		{"a static listener", func(b *bootstrap.Bootstrap) { b.StaticResources.Listeners = []*listener.Listener{{Name: "side"}} }, "listeners", "side"},
		{"a static secret", func(b *bootstrap.Bootstrap) { b.StaticResources.Secrets = []*tls.Secret{{Name: "vault.example.com"}} }, "secrets", "vault.example.com"},
		{"panic routing by runtime", func(b *bootstrap.Bootstrap) {
			b.LayeredRuntime.Layers[0].GetStaticLayer().Fields["upstream.healthy_panic_threshold"] = structpb.NewNumberValue(50)
		}, "layered_runtime", "upstream.healthy_panic_threshold"},
		{"resets within Envoy switched on by hand", func(b *bootstrap.Bootstrap) {
			b.LayeredRuntime.Layers[0].GetStaticLayer().Fields["envoy.reloadable_features.enable_send_rst_on_user_space_socket"] = structpb.NewBoolValue(true)
		}, "layered_runtime", "enable_send_rst_on_user_space_socket"},
		{"runtime from a file", func(b *bootstrap.Bootstrap) {
			b.LayeredRuntime.Layers[0].LayerSpecifier = &bootstrap.RuntimeLayer_DiskLayer_{DiskLayer: &bootstrap.RuntimeLayer_DiskLayer{SymlinkRoot: "/tmp/runtime"}}
		}, "disk_layer", "/tmp/runtime"},
		{"another region", func(b *bootstrap.Bootstrap) { b.Node.Locality.Region = "nl" }, "node", "nl"},
	} {
		b := goodBootstrap(t)
		c.change(b)
		found := check(b)
		if !slices.ContainsFunc(found, func(v proof.Violation) bool {
			return strings.Contains(strings.Join(v.Path, " > "), c.path) && strings.Contains(v.Address, c.address)
		}) {
			t.Errorf("%s: got\n%s", c.name, lines(found))
		}
	}
	for _, text := range []string{"", "{", `{"nothing_like_it": 1}`} {
		if found := proof.CheckBootstrap(book, []byte(text)); len(found) == 0 {
			t.Errorf("%q is a lawful bootstrap", text)
		}
	}
}
