package dump

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
)

// published is everything that one node has, with n instances of a service.
func published(n int) []xds.Resource {
	regions := []polder.Region{{Name: "fr"}, {Name: "nl"}}
	service := func(name string, allow polder.Place) polder.Service {
		return polder.Service{Name: polder.ServiceName(name), Hosts: []polder.Host{polder.Host(name + ".example.com")}, Run: &polder.Run{},
			Residency: polder.Residency{Allow: []polder.Place{allow}, Elsewhere: polder.PassThrough, Failover: polder.Failover{Class: polder.FailoverClosed}}}
	}
	var endpoints []polder.Endpoint
	for i := range n {
		endpoints = append(endpoints, polder.Endpoint{Service: "billing", Region: "fr",
			Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(20000+i))})
	}
	var set []xds.Resource
	var judged []law.Approved
	for _, s := range []polder.Service{service("billing", "fr"), service("reports", "nl")} {
		a := law.Judge(s, law.Circumstances{Here: "fr", Regions: regions, Alive: polder.RegionHealth{"nl": true}, Endpoints: endpoints})
		judged = append(judged, a)
		set = append(set, xds.Service(a, xds.Gateway{Region: "fr", Activator: "/run/activator.sock"})...)
	}
	at := netip.MustParseAddrPort
	return append(set, xds.Node(judged, xds.NodeConfig{Region: "fr", TrustDomain: "polder", HTTPS: at("127.0.0.1:8443"),
		HTTP: at("127.0.0.1:8080"), Peer: at("127.0.0.1:7443"), PeerOf: map[polder.RegionName][]string{"nl": {"127.0.0.1:7444"}}})...)
}

func asJSON(t testing.TB, body *anypb.Any) json.RawMessage {
	t.Helper()
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// sections writes resources down as Envoy does, in sections.
func sections(t testing.TB, set []xds.Resource) map[string]map[string]any {
	all := map[string]map[string]any{}
	add := func(section, list string, entry any) {
		if all[section] == nil {
			all[section] = map[string]any{"@type": urlPrefix + "envoy.admin.v3." + section}
		}
		entries, _ := all[section][list].([]any)
		all[section][list] = append(entries, entry)
	}
	updated := "2026-01-02T03:04:05.678Z"
	for _, r := range set {
		body := asJSON(t, r.Body)
		switch r.Type {
		case xds.TypeListener:
			add("ListenersConfigDump", "dynamic_listeners", map[string]any{"name": r.Name,
				"active_state": map[string]any{"version_info": r.Version, "listener": body, "last_updated": updated}})
		case xds.TypeCluster:
			add("ClustersConfigDump", "dynamic_active_clusters", map[string]any{"version_info": r.Version, "cluster": body, "last_updated": updated})
		case xds.TypeRoute:
			add("RoutesConfigDump", "dynamic_route_configs", map[string]any{"version_info": r.Version, "route_config": body, "last_updated": updated})
		case xds.TypeScope:
			add("ScopedRoutesConfigDump", "dynamic_scoped_route_configs", map[string]any{"name": "hosts", "scoped_route_configs": []any{body}, "last_updated": updated})
		case xds.TypeEndpoint:
			add("EndpointsConfigDump", "dynamic_endpoint_configs", map[string]any{"endpoint_config": retold(t, r.Body)})
		case xds.TypeExtension:
			add("EcdsConfigDump", "ecds_filters", map[string]any{"version_info": r.Version, "ecds_filter": body, "last_updated": updated})
		}
	}
	add("SecretsConfigDump", "dynamic_active_secrets", map[string]any{"name": "billing.example.com", "version_info": "7", "secret": map[string]any{}})
	return all
}

// retold is a load assignment as Envoy tells it from its state.
func retold(t testing.TB, body *anypb.Any) json.RawMessage {
	a := new(endpoint.ClusterLoadAssignment)
	if err := body.UnmarshalTo(a); err != nil {
		t.Fatal(err)
	}
	a.Endpoints = slices.DeleteFunc(a.Endpoints, func(l *endpoint.LocalityLbEndpoints) bool { return len(l.LbEndpoints) == 0 })
	for _, l := range a.Endpoints {
		l.LoadBalancingWeight = wrapperspb.UInt32(0)
		slices.Reverse(l.LbEndpoints)
		for _, e := range l.LbEndpoints {
			e.HealthStatus, e.LoadBalancingWeight, e.Metadata = core.HealthStatus_HEALTHY, wrapperspb.UInt32(1), &core.Metadata{}
			e.GetEndpoint().HealthCheckConfig = &endpoint.Endpoint_HealthCheckConfig{}
		}
	}
	slices.Reverse(a.Endpoints)
	told, err := anypb.New(a)
	if err != nil {
		t.Fatal(err)
	}
	return asJSON(t, told)
}

func written(t testing.TB, all map[string]map[string]any) []byte {
	t.Helper()
	var configs []any
	for _, section := range all {
		configs = append(configs, section)
	}
	text, err := json.Marshal(map[string]any{"configs": configs})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestDigestsMeet: whatever was published is found again in the dump under the
// same digest, and nothing else is.
func TestDigestsMeet(t *testing.T) {
	var reader Reader
	for instances := range 4 {
		set := published(instances)
		d, err := reader.Read(written(t, sections(t, set)))
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Faults)+len(d.Static)+len(d.Warming) > 0 || !slices.Equal(d.Secrets, []Secret{{"billing.example.com", "7"}}) {
			t.Errorf("got faults %v, static %v, warming %v, secrets %v", d.Faults, d.Static, d.Warming, d.Secrets)
		}
		found := map[xds.Key]Resource{}
		for _, r := range d.Resources {
			found[r.Key] = r
		}
		if len(found) != len(set) || len(d.Resources) != len(set) {
			t.Errorf("%d resources of %d", len(d.Resources), len(set))
		}
		for _, r := range set {
			want, err := Digest(r)
			if err != nil {
				t.Fatal(err)
			}
			got := found[r.Key]
			if got.Digest != want || r.Type != xds.TypeEndpoint && string(got.Body.Value) != string(r.Body.Value) {
				t.Errorf("%s %s: digest %s, want %s", r.Type, r.Name, got.Digest, want)
			}
			if told := r.Type != xds.TypeScope && r.Type != xds.TypeEndpoint; told && got.Version != r.Version {
				t.Errorf("%s %s: version %s, want %s", r.Type, r.Name, got.Version, r.Version)
			}
		}
	}
}

// TestDigestOfEndpointsTellsApart: what leads traffic elsewhere, or elsewise,
// changes the digest of a load assignment.
func TestDigestOfEndpointsTellsApart(t *testing.T) {
	set := published(2)
	at := slices.IndexFunc(set, func(r xds.Resource) bool { return r.Type == xds.TypeEndpoint })
	digest := func(change func(*endpoint.ClusterLoadAssignment)) string {
		a := new(endpoint.ClusterLoadAssignment)
		if err := set[at].Body.UnmarshalTo(a); err != nil {
			t.Fatal(err)
		}
		change(a)
		body, err := anypb.New(a)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Digest(xds.Resource{Key: set[at].Key, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := func(a *endpoint.ClusterLoadAssignment) *endpoint.LbEndpoint { return a.Endpoints[0].LbEndpoints[0] }
	seen := map[string]string{digest(func(*endpoint.ClusterLoadAssignment) {}): "nothing"}
	for name, change := range map[string]func(*endpoint.ClusterLoadAssignment){
		"address": func(a *endpoint.ClusterLoadAssignment) {
			first(a).GetEndpoint().Address.GetSocketAddress().Address = "10.0.0.9"
		},
		"port": func(a *endpoint.ClusterLoadAssignment) {
			first(a).GetEndpoint().Address.GetSocketAddress().PortSpecifier = &core.SocketAddress_PortValue{PortValue: 9}
		},
		"one less":         func(a *endpoint.ClusterLoadAssignment) { a.Endpoints[0].LbEndpoints = a.Endpoints[0].LbEndpoints[1:] },
		"weight":           func(a *endpoint.ClusterLoadAssignment) { first(a).LoadBalancingWeight = wrapperspb.UInt32(5) },
		"priority":         func(a *endpoint.ClusterLoadAssignment) { a.Endpoints[0].Priority = 3 },
		"locality":         func(a *endpoint.ClusterLoadAssignment) { a.Endpoints[0].Locality.Region = "nl" },
		"overprovisioning": func(a *endpoint.ClusterLoadAssignment) { a.Policy.OverprovisioningFactor = wrapperspb.UInt32(100) },
		"metadata": func(a *endpoint.ClusterLoadAssignment) {
			first(a).Metadata = &core.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.lb": {}}}
		},
		"another name": func(a *endpoint.ClusterLoadAssignment) { first(a).GetEndpoint().Hostname = "elsewhere" },
	} {
		d := digest(change)
		if other, same := seen[d]; same {
			t.Errorf("%s: same digest as %s", name, other)
		}
		seen[d] = name
	}
	if d := digest(func(a *endpoint.ClusterLoadAssignment) { first(a).HealthStatus = core.HealthStatus_UNHEALTHY }); seen[d] != "nothing" {
		t.Error("what Envoy sees of an instance's health changes the digest")
	}
}

// TestUnknownPartsAreFaults: an auditor may pass over nothing.
func TestUnknownPartsAreFaults(t *testing.T) {
	set := published(1)
	for name, c := range map[string]struct {
		spoil func(all map[string]map[string]any)
		want  string
	}{
		"unknown section": {func(all map[string]map[string]any) {
			all["x"] = map[string]any{"@type": urlPrefix + "envoy.admin.v3.LaterConfigDump"}
		}, "LaterConfigDump: is a section"},
		"unknown key": {func(all map[string]map[string]any) { all["ClustersConfigDump"]["hidden_clusters"] = []any{} }, `unknown field "hidden_clusters"`},
		"unknown type": {func(all map[string]map[string]any) {
			all["ClustersConfigDump"]["dynamic_active_clusters"] = []any{map[string]any{"cluster": map[string]any{"@type": urlPrefix + "no.such.Cluster", "name": "x"}}}
		}, "no.such.Cluster"},
		"unknown field": {func(all map[string]map[string]any) {
			all["ClustersConfigDump"]["dynamic_active_clusters"] = []any{map[string]any{"cluster": map[string]any{"@type": xds.TypeCluster, "name": "x", "leak": true}}}
		}, `unknown field "leak"`},
		"wrong type": {func(all map[string]map[string]any) {
			all["ClustersConfigDump"]["dynamic_active_clusters"] = []any{map[string]any{"cluster": map[string]any{"@type": xds.TypeListener, "name": "x"}}}
		}, "is a type.googleapis.com/envoy.config.listener.v3.Listener"},
	} {
		t.Run(name, func(t *testing.T) {
			all := sections(t, set)
			c.spoil(all)
			d, err := new(Reader).Read(written(t, all))
			if err != nil {
				t.Fatal(err)
			}
			if len(d.Faults) != 1 || !strings.Contains(d.Faults[0].Where+": "+d.Faults[0].Reason, c.want) {
				t.Errorf("got %q, want %q", d.Faults, c.want)
			}
		})
	}
	if _, err := new(Reader).Read([]byte("no dump")); err == nil {
		t.Error("what is no dump is read")
	}
}

// TestStaticAndWarmingAreTold: what did not come from a control plane, and what
// is on its way in, are seen.
func TestStaticAndWarmingAreTold(t *testing.T) {
	set := published(1)
	all := sections(t, set)
	body := func(typeURL string) json.RawMessage {
		return asJSON(t, set[slices.IndexFunc(set, func(r xds.Resource) bool { return r.Type == typeURL })].Body)
	}
	all["ClustersConfigDump"]["static_clusters"] = []any{map[string]any{"cluster": body(xds.TypeCluster)}}
	all["ClustersConfigDump"]["dynamic_warming_clusters"] = []any{map[string]any{"cluster": body(xds.TypeCluster)}}
	all["ListenersConfigDump"]["static_listeners"] = []any{map[string]any{"listener": body(xds.TypeListener)}}
	all["RoutesConfigDump"]["static_route_configs"] = []any{map[string]any{"route_config": body(xds.TypeRoute)}}
	all["ScopedRoutesConfigDump"]["inline_scoped_route_configs"] = []any{map[string]any{"name": "x", "scoped_route_configs": []any{body(xds.TypeScope)}}}
	all["SecretsConfigDump"]["static_secrets"] = []any{map[string]any{"name": "mine"}}
	all["SecretsConfigDump"]["dynamic_warming_secrets"] = []any{map[string]any{"name": "next"}}
	d, err := new(Reader).Read(written(t, all))
	if err != nil || len(d.Faults) > 0 {
		t.Fatal(err, d.Faults)
	}
	types := map[string]int{}
	for _, r := range d.Static {
		types[r.Type]++
	}
	if want := 5; len(d.Static) != want || len(types) != want {
		t.Errorf("static are %v, want one of each type but endpoints", types)
	}
	if len(d.Warming) != 1 || d.Warming[0].Type != xds.TypeCluster {
		t.Errorf("warming are %v, want a cluster", d.Warming)
	}
}

// TestBootstrapIsRecognised: as it was written and as Envoy tells of it, with
// what it adds of itself; and not when another hand was in it.
func TestBootstrapIsRecognised(t *testing.T) {
	text, err := xds.Bootstrap{Node: "fr-1", Region: "fr", ControlPlane: "/run/xds.sock", Admin: "/run/admin.sock"}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	want, err := ExpectBootstrap(text)
	if err != nil {
		t.Fatal(err)
	}
	if want.Static[xds.Key{Type: xds.TypeCluster, Name: xds.ControlPlane}] == "" || !slices.Equal(want.Layers, []string{"polder"}) {
		t.Errorf("got %+v, want the control plane's cluster and the layer of the bootstrap", want)
	}
	dumped := func(change func(b map[string]any)) string {
		var b map[string]any
		if err := json.Unmarshal(text, &b); err != nil {
			t.Fatal(err)
		}
		change(b)
		section, err := json.Marshal(map[string]any{"configs": []any{map[string]any{
			"@type": urlPrefix + "envoy.admin.v3.BootstrapConfigDump", "bootstrap": b, "last_updated": "2026-01-02T03:04:05Z"}}})
		if err != nil {
			t.Fatal(err)
		}
		d, err := new(Reader).Read(section)
		if err != nil {
			t.Fatal(err)
		}
		return d.Bootstrap
	}
	if got := dumped(func(b map[string]any) {
		node := b["node"].(map[string]any)
		node["userAgentName"], node["extensions"] = "envoy", []any{map[string]any{"name": "envoy.filters.http.router"}}
	}); got != want.Bootstrap {
		t.Errorf("digest is %s, want %s", got, want.Bootstrap)
	}
	if got := dumped(func(b map[string]any) { b["flagsPath"] = "/tmp" }); got == want.Bootstrap {
		t.Error("a changed bootstrap has the same digest")
	}
}

// TestOverridesAreFound: a value that another layer sets, and no other.
func TestOverridesAreFound(t *testing.T) {
	list, err := ReadRuntime([]byte(`{"layers":["polder","admin"],"entries":{
		"a.limit":{"final_value":"5","layer_values":["5",""]},
		"upstream.healthy_panic_threshold":{"final_value":"50","layer_values":["","50"]}}}`), []string{"polder"})
	if err != nil || !slices.Equal(list, []Override{{"admin", "upstream.healthy_panic_threshold", "50"}}) {
		t.Errorf("got %v, %v, want the panic threshold", list, err)
	}
}

// TestReaderRemembers: an unchanged dump gives the very same bodies.
func TestReaderRemembers(t *testing.T) {
	text := written(t, sections(t, published(1)))
	var reader Reader
	first, err := reader.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	second, err := reader.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range first.Resources {
		if first.Resources[i].Body != second.Resources[i].Body {
			t.Errorf("%s was taken apart again", first.Resources[i].Name)
		}
	}
}

// FuzzRead: whatever a process on the admin socket answers, it is read without
// a crash, and what has other bytes than were published has another digest.
func FuzzRead(f *testing.F) {
	f.Add(written(f, sections(f, published(2))))
	f.Add([]byte(`{"configs":[{"@type":"x"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := new(Reader).Read(text)
		if err != nil {
			return
		}
		for _, r := range d.Resources {
			if r.Digest == "" || r.Body == nil {
				t.Errorf("%v has no digest", r.Key)
			}
		}
	})
}

// BenchmarkRead is an audit's part of a node with many services, of which none
// changed.
func BenchmarkRead(b *testing.B) {
	var set []xds.Resource
	for i := range 10_000 {
		name := fmt.Sprintf("service/s%d", i)
		body := new(anypb.Any)
		if err := anypb.MarshalFrom(body, &cluster.Cluster{Name: name, AltStatName: strings.Repeat("x", 2000)}, proto.MarshalOptions{}); err != nil {
			b.Fatal(err)
		}
		set = append(set, xds.Resource{Key: xds.Key{Type: xds.TypeCluster, Name: name}, Body: body})
	}
	text := written(b, sections(b, set))
	var reader Reader
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := reader.Read(text); err != nil {
			b.Fatal(err)
		}
	}
}
