package proof_test

import (
	"slices"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// snapshot is a set of resources that can be changed. Only this file knows the
// names that the translation gives.
type snapshot struct {
	t        testing.TB
	messages map[proof.Key]proto.Message
	garbage  proof.Key // the resource whose bytes nobody can read, if any
}

func open(t testing.TB, resources []proof.Resource) *snapshot {
	t.Helper()
	s := &snapshot{t: t, messages: map[proof.Key]proto.Message{}}
	for _, r := range resources {
		m, err := r.Body.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		s.messages[r.Key] = m
	}
	return s
}

func (s *snapshot) resources() []proof.Resource {
	s.t.Helper()
	var list []proof.Resource
	for k, m := range s.messages {
		body := pack(s.t, m)
		if k == s.garbage {
			body.Value = []byte{0xff, 0xff, 0xff}
		}
		list = append(list, proof.Resource{Key: k, Body: body})
	}
	return list
}

func pack(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	packed := new(anypb.Any)
	if err := anypb.MarshalFrom(packed, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		t.Fatal(err)
	}
	return packed
}

// get finds a message; the test ends if there is none, for then it tests nothing.
func get[M proto.Message](s *snapshot, kind, name string) M {
	s.t.Helper()
	m, ok := s.messages[proof.Key{Type: kind, Name: name}].(M)
	if !ok {
		s.t.Fatalf("there is no %s %s", kind, name)
	}
	return m
}

func (s *snapshot) listener(name string) *listener.Listener {
	return get[*listener.Listener](s, xds.TypeListener, name)
}

func (s *snapshot) routes(name string) *route.RouteConfiguration {
	return get[*route.RouteConfiguration](s, xds.TypeRoute, name)
}

func (s *snapshot) scope(host string) *route.ScopedRouteConfiguration {
	s.t.Helper()
	for key, m := range s.messages {
		if xds.IsAboutHost(xds.Key(key), host) && key.Type == xds.TypeScope {
			return m.(*route.ScopedRouteConfiguration)
		}
	}
	s.t.Fatalf("%s has no scope", host)
	return nil
}

func (s *snapshot) cluster(name string) *cluster.Cluster {
	return get[*cluster.Cluster](s, xds.TypeCluster, name)
}

func (s *snapshot) assignment(name string) *endpoint.ClusterLoadAssignment {
	return get[*endpoint.ClusterLoadAssignment](s, xds.TypeEndpoint, name)
}

// add puts a message into the snapshot under its own name.
func (s *snapshot) add(m proto.Message) {
	key := proof.Key{Type: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName())}
	switch m := m.(type) {
	case interface{ GetName() string }:
		key.Name = m.GetName()
	case *endpoint.ClusterLoadAssignment:
		key.Name = m.ClusterName
	default:
		s.t.Fatalf("%T has no name", m)
	}
	s.messages[key] = m
}

// host finds a virtual host by its name.
func (s *snapshot) host(routes, name string) *route.VirtualHost {
	s.t.Helper()
	hosts := s.routes(routes).VirtualHosts
	i := slices.IndexFunc(hosts, func(h *route.VirtualHost) bool { return h.Name == name })
	if i < 0 {
		s.t.Fatalf("%s has no virtual host %s", routes, name)
	}
	return hosts[i]
}

// action is the last route of a service's virtual host.
func (s *snapshot) action(service string) *route.RouteAction {
	h := s.host("host/"+service+".example.com", service)
	return h.Routes[len(h.Routes)-1].GetRoute()
}

func (s *snapshot) chain(of, name string) *listener.FilterChain {
	s.t.Helper()
	chains := s.listener(of).FilterChains
	i := slices.IndexFunc(chains, func(c *listener.FilterChain) bool { return c.Name == name })
	if i < 0 {
		s.t.Fatalf("%s has no chain %s", of, name)
	}
	return chains[i]
}

// edit changes a message inside an Any.
func edit[M proto.Message](t testing.TB, packed *anypb.Any, change func(M)) {
	t.Helper()
	inner, err := packed.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	m, ok := inner.(M)
	if !ok {
		t.Fatalf("found %T", inner)
	}
	change(m)
	if err := packed.MarshalFrom(m); err != nil {
		t.Fatal(err)
	}
}

// manager changes the HTTP connection manager of a chain.
func (s *snapshot) manager(of, chain string, change func(*hcm.HttpConnectionManager)) {
	s.t.Helper()
	filters := s.chain(of, chain).Filters
	edit(s.t, filters[len(filters)-1].GetTypedConfig(), change)
}

// opening changes the TLS of a chain.
func (s *snapshot) opening(of, chain string, change func(*tls.DownstreamTlsContext)) {
	s.t.Helper()
	edit(s.t, s.chain(of, chain).TransportSocket.GetTypedConfig(), change)
}

// toPeers changes the TLS of a cluster.
func (s *snapshot) toPeers(name string, change func(*tls.UpstreamTlsContext)) {
	s.t.Helper()
	edit(s.t, s.cluster(name).TransportSocket.GetTypedConfig(), change)
}

// filter makes a network filter.
func (s *snapshot) filter(name string, m proto.Message) *listener.Filter {
	return &listener.Filter{Name: name, ConfigType: &listener.Filter_TypedConfig{TypedConfig: pack(s.t, m)}}
}

// httpFilter puts an HTTP filter before the router of the serving chain.
func (s *snapshot) httpFilter(name string, m proto.Message) {
	s.t.Helper()
	s.manager("entrypoint-https", "serve", func(h *hcm.HttpConnectionManager) {
		h.HttpFilters = append([]*hcm.HttpFilter{{Name: name, ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: pack(s.t, m)}}}, h.HttpFilters...)
	})
}

// socketAt is an address host:port.
func socketAt(host string, port uint32) *core.Address {
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: host, PortSpecifier: &core.SocketAddress_PortValue{PortValue: port}}}}
}

func endpointAt(a *core.Address) *endpoint.LbEndpoint {
	return &endpoint.LbEndpoint{HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: a}}}
}

// instance adds an endpoint to the instances of a service.
func (s *snapshot) instance(service string, a *core.Address) *endpoint.LbEndpoint {
	first := s.assignment("service/" + service).Endpoints[0]
	e := endpointAt(a)
	first.LbEndpoints = append(first.LbEndpoints, e)
	return e
}

// staticCluster is a cluster of one address, with panic routing off.
func staticCluster(name string, a *core.Address) *cluster.Cluster {
	return &cluster.Cluster{
		Name: name, ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_STATIC}, CommonLbConfig: calm(),
		LoadAssignment: &endpoint.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpoint.LocalityLbEndpoints{{
			LbEndpoints: []*endpoint.LbEndpoint{endpointAt(a)}}}},
	}
}
