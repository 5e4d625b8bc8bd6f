package xds_test

import (
	"slices"
	"testing"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"pgregory.net/rapid"

	"github.com/polder/polder/xds"
)

// tester is what testing.T and rapid.T have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
}

// eachMessage visits every message in a resource, those packed in Any as well.
func eachMessage(t tester, m protoreflect.Message, visit func(protoreflect.Message)) {
	t.Helper()
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err != nil {
			t.Errorf("%s: %v", packed.TypeUrl, err)
			return
		}
		eachMessage(t, inner.ProtoReflect(), visit)
		return
	}
	visit(m)
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				eachMessage(t, v.Message(), visit)
				return true
			})
		case field.IsList() && field.Message() != nil:
			for i := range v.List().Len() {
				eachMessage(t, v.List().Get(i).Message(), visit)
			}
		case !field.IsMap() && field.Message() != nil:
			eachMessage(t, v.Message(), visit)
		}
		return true
	})
}

// checkMessages validates every message by its own rules.
func checkMessages(t tester, set []xds.Resource) {
	t.Helper()
	for _, r := range set {
		eachMessage(t, r.Body.ProtoReflect(), func(m protoreflect.Message) {
			if v, ok := m.Interface().(interface{ ValidateAll() error }); ok {
				if err := v.ValidateAll(); err != nil {
					t.Errorf("%s %s: %v", r.Type, r.Name, err)
				}
			}
		})
	}
}

// mentions are the fields that name another resource.
var mentions = map[protoreflect.FullName]string{
	"envoy.config.route.v3.RouteAction.cluster":                                         xds.TypeCluster,
	"envoy.config.route.v3.ScopedRouteConfiguration.route_configuration_name":           xds.TypeRoute,
	"envoy.extensions.filters.network.http_connection_manager.v3.Rds.route_config_name": xds.TypeRoute,
	"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.cluster":                    xds.TypeCluster,
	"envoy.extensions.clusters.aggregate.v3.ClusterConfig.clusters":                     xds.TypeCluster,
	"envoy.config.core.v3.EnvoyInternalAddress.server_listener_name":                    xds.TypeListener,
}

// forLater are the clusters that those of hosts which come later are made of.
var forLater = []string{"wrap/inward", "wrap/forbidden", "wrap/unavailable"}

// checkReferences holds that each name which a resource mentions exists, that
// each EDS cluster has its load assignment, and no load assignment is left over.
func checkReferences(t tester, set []xds.Resource) {
	t.Helper()
	exists := map[xds.Key]bool{}
	for _, r := range set {
		if exists[r.Key] {
			t.Errorf("%s %s is there twice", r.Type, r.Name)
		}
		exists[r.Key] = true
	}
	mentioned := map[xds.Key]bool{}
	for _, r := range set {
		if r.Type == xds.TypeListener {
			checkChains(t, r)
		}
		eachMessage(t, r.Body.ProtoReflect(), func(m protoreflect.Message) {
			if filter, ok := m.Interface().(*listener.ListenerFilter); ok && filter.GetConfigDiscovery() != nil {
				mentioned[xds.Key{Type: xds.TypeExtension, Name: filter.Name}] = true
			}
			m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
				if kind, ok := mentions[field.FullName()]; ok {
					for _, name := range texts(field, v) {
						mentioned[xds.Key{Type: kind, Name: name}] = true
					}
				}
				if field.FullName() == "envoy.config.cluster.v3.Cluster.eds_cluster_config" {
					mentioned[xds.Key{Type: xds.TypeEndpoint, Name: r.Name}] = true
				}
				return true
			})
		})
	}
	for key := range mentioned {
		if !exists[key] && key.Name != xds.ByNamePrefix { // the name in the ClientHello is the rest
			t.Errorf("%s %s is mentioned and does not exist", key.Type, key.Name)
		}
	}
	for key := range exists {
		if byName := key.Type == xds.TypeCluster && (xds.IsByName(key.Name) || slices.Contains(forLater, key.Name)); !mentioned[key] && !byName && key.Type != xds.TypeListener && key.Type != xds.TypeScope {
			t.Errorf("%s %s exists and nothing leads to it", key.Type, key.Name)
		}
	}
}

// texts are those of a field that is text, or a list of them.
func texts(field protoreflect.FieldDescriptor, v protoreflect.Value) []string {
	if !field.IsList() {
		return []string{v.String()}
	}
	list := make([]string, v.List().Len())
	for i := range list {
		list[i] = v.List().Get(i).String()
	}
	return list
}

// checkChains holds that the matcher of a listener chooses among its chains.
func checkChains(t tester, r xds.Resource) {
	t.Helper()
	l := new(listener.Listener)
	if err := r.Body.UnmarshalTo(l); err != nil {
		t.Errorf("%s: %v", r.Name, err)
		return
	}
	var chains []string
	for _, c := range l.FilterChains {
		chains = append(chains, c.Name)
	}
	chosen := map[string]bool{}
	if l.FilterChainMatcher != nil {
		eachMessage(t, l.FilterChainMatcher.ProtoReflect(), func(m protoreflect.Message) {
			if name, ok := m.Interface().(*wrapperspb.StringValue); ok {
				chosen[name.Value] = true
			}
		})
	}
	for name := range chosen {
		if !slices.Contains(chains, name) {
			t.Errorf("listener %s: the matcher chooses the chain %s, which does not exist", r.Name, name)
		}
	}
	if slices.Sort(chains); len(slices.Compact(chains)) != len(l.FilterChains) {
		t.Errorf("listener %s: two chains have one name", r.Name)
	}
}

// TestOrderChangesNothing shuffles what the translation is given.
func TestOrderChangesNothing(t *testing.T) {
	w := readWorld(t, "testdata/everything/in.yaml")
	want := map[xds.Key]xds.Resource{}
	for _, r := range w.snapshot() {
		want[r.Key] = r
	}
	endpoints := w.endpoints()
	rapid.Check(t, func(t *rapid.T) {
		judged := w.judge(rapid.Permutation(w.model.Services).Draw(t, "services"), rapid.Permutation(endpoints).Draw(t, "endpoints"))
		got := w.translate(rapid.Permutation(judged).Draw(t, "judged"))
		if len(got) != len(want) {
			t.Errorf("got %d resources, want %d", len(got), len(want))
		}
		for _, r := range got {
			if before := want[r.Key]; before.Version != r.Version || !proto.Equal(before.Body, r.Body) {
				t.Errorf("%s %s depends on the order of the input", r.Type, r.Name)
			}
		}
	})
}
