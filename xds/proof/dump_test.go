package proof_test

import (
	"slices"
	"strings"
	"testing"

	admin "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// dumpOf writes resources as Envoy reports them, with what it adds by itself.
func dumpOf(t testing.TB, resources []proof.Resource) []byte {
	t.Helper()
	b := goodBootstrap(t)
	b.Node.UserAgentName, b.Node.Extensions = "envoy", []*core.Extension{{Name: "envoy.filters.http.lua"}}
	clusters, listeners, routes, scopes, endpoints := &admin.ClustersConfigDump{}, &admin.ListenersConfigDump{},
		&admin.RoutesConfigDump{}, &admin.ScopedRoutesConfigDump{}, &admin.EndpointsConfigDump{}
	for _, r := range resources {
		switch r.Type {
		case xds.TypeCluster:
			clusters.DynamicActiveClusters = append(clusters.DynamicActiveClusters, &admin.ClustersConfigDump_DynamicCluster{Cluster: r.Body})
			c := new(cluster.Cluster)
			if err := r.Body.UnmarshalTo(c); err != nil {
				t.Fatal(err)
			}
			if c.LoadAssignment != nil {
				endpoints.DynamicEndpointConfigs = append(endpoints.DynamicEndpointConfigs, &admin.EndpointsConfigDump_DynamicEndpointConfig{
					EndpointConfig: rewritten(t, c.LoadAssignment)})
			}
		case xds.TypeListener:
			listeners.DynamicListeners = append(listeners.DynamicListeners, &admin.ListenersConfigDump_DynamicListener{
				Name: r.Name, ActiveState: &admin.ListenersConfigDump_DynamicListenerState{Listener: r.Body}})
		case xds.TypeRoute:
			routes.DynamicRouteConfigs = append(routes.DynamicRouteConfigs, &admin.RoutesConfigDump_DynamicRouteConfig{RouteConfig: r.Body})
		case xds.TypeScope:
			scopes.DynamicScopedRouteConfigs = append(scopes.DynamicScopedRouteConfigs, &admin.ScopedRoutesConfigDump_DynamicScopedRouteConfigs{
				Name: "hosts", ScopedRouteConfigs: []*anypb.Any{r.Body}})
		case xds.TypeEndpoint:
			a := new(endpoint.ClusterLoadAssignment)
			if err := r.Body.UnmarshalTo(a); err != nil {
				t.Fatal(err)
			}
			endpoints.DynamicEndpointConfigs = append(endpoints.DynamicEndpointConfigs, &admin.EndpointsConfigDump_DynamicEndpointConfig{EndpointConfig: rewritten(t, a)})
		}
	}
	secrets := &admin.SecretsConfigDump{DynamicActiveSecrets: []*admin.SecretsConfigDump_DynamicSecret{{Name: "peer/identity"}, {Name: "billing.example.com"}}}
	dump := &admin.ConfigDump{}
	for _, m := range []proto.Message{&admin.BootstrapConfigDump{Bootstrap: b}, endpoints, clusters, listeners, scopes, routes, secrets} {
		dump.Configs = append(dump.Configs, pack(t, m))
	}
	data, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(dump)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// rewritten is a load assignment as Envoy writes it down.
func rewritten(t testing.TB, a *endpoint.ClusterLoadAssignment) *anypb.Any {
	a = clone(a)
	for _, l := range a.Endpoints {
		for _, e := range l.LbEndpoints {
			e.HealthStatus = core.HealthStatus_HEALTHY
			if e.Metadata == nil {
				e.Metadata = &core.Metadata{}
			}
			if e.GetEndpoint().HealthCheckConfig == nil {
				e.GetEndpoint().HealthCheckConfig = &endpoint.Endpoint_HealthCheckConfig{}
			}
		}
	}
	return pack(t, a)
}

// TestDump holds that what a running Envoy reports can be proved like what it
// was sent, and that tampering shows.
func TestDump(t *testing.T) {
	w := mutantWorld(t)
	good := w.snapshot()
	read := func(data []byte) proof.Dump {
		d, err := proof.ReadDump(data)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := read(dumpOf(t, good))
	if found := w.check(d.Resources); len(found) > 0 || len(d.Resources) != len(good) || len(d.Warming) > 0 {
		t.Errorf("%d resources, %d warming, of %d:\n%s", len(d.Resources), len(d.Warming), len(good), lines(found))
	}
	if found := proof.CheckBootstrap(w.book(), d.Bootstrap); len(found) > 0 {
		t.Errorf("bootstrap: got\n%s", lines(found))
	}
	if !slices.Equal(d.Secrets, []string{"peer/identity", "billing.example.com"}) {
		t.Errorf("secrets %v", d.Secrets)
	}
	for _, m := range slices.Concat(endpointMutants(), passMutants()) {
		if m.name == "endpoints of a service that is not served here" {
			continue // Envoy holds no endpoints without a cluster
		}
		s := open(t, good)
		m.change(s)
		if found := w.check(read(dumpOf(t, s.resources())).Resources); !slices.ContainsFunc(found, m.named) {
			t.Errorf("%s: got\n%s", m.name, lines(found))
		}
	}
}

// TestDumpOfWhatIsToCome holds that listeners and clusters which are not yet in
// force are told apart.
func TestDumpOfWhatIsToCome(t *testing.T) {
	body := func(m proto.Message) *anypb.Any { return pack(t, m) }
	dump := &admin.ConfigDump{Configs: []*anypb.Any{
		body(&admin.ListenersConfigDump{
			StaticListeners: []*admin.ListenersConfigDump_StaticListener{{Listener: body(&listener.Listener{Name: "static"})}},
			DynamicListeners: []*admin.ListenersConfigDump_DynamicListener{{Name: "new", WarmingState: &admin.ListenersConfigDump_DynamicListenerState{Listener: body(&listener.Listener{Name: "new"})}},
				{Name: "old", DrainingState: &admin.ListenersConfigDump_DynamicListenerState{Listener: body(&listener.Listener{Name: "old"})}}}}),
		body(&admin.ClustersConfigDump{DynamicWarmingClusters: []*admin.ClustersConfigDump_DynamicCluster{{Cluster: body(&cluster.Cluster{Name: "later"})}}}),
	}}
	data, err := protojson.Marshal(dump)
	if err != nil {
		t.Fatal(err)
	}
	d, err := proof.ReadDump(data)
	if err != nil {
		t.Fatal(err)
	}
	names := func(list []proof.Resource) (names []string) {
		for _, r := range list {
			names = append(names, r.Name)
		}
		return names
	}
	if got := names(d.Resources); !slices.Equal(got, []string{"static"}) {
		t.Errorf("in force: %v", got)
	}
	if got := names(d.Warming); !slices.Equal(got, []string{"new", "later"}) {
		t.Errorf("warming: %v", got)
	}
}

func TestDumpThatNobodyCanRead(t *testing.T) {
	for _, text := range []string{
		"", "[]", `{"configs": [{"@type": "type.googleapis.com/envoy.brand.New"}]}`,
		`{"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.EcdsConfigDump"}]}`,
		`{"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "news": 1}]}`,
	} {
		if _, err := proof.ReadDump([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), "config dump:") {
			t.Errorf("%q: got %v", text, err)
		}
	}
}
