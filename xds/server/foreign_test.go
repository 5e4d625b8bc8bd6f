package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	router "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	grpcxds "google.golang.org/grpc/xds"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polder/polder/xds"
)

// The tests of this file have a client that nobody here wrote: the xDS client of
// grpc-go, which resolves xds:///HOST over the aggregated stream in the
// state-of-the-world variant and calls what it is told of, without an Envoy.

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	body, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func published(t *testing.T, typeURL, name string, m proto.Message) xds.Resource {
	t.Helper()
	return xds.Restore(xds.Key{Type: typeURL, Name: name}, packed(t, m).Value)
}

// foreignService is what a client without an Envoy follows to an address: a
// listener by the host's name, its routes, their cluster, its endpoints.
func foreignService(t *testing.T, host, address string) []xds.Resource {
	t.Helper()
	ads := &core.ConfigSource{ResourceApiVersion: core.ApiVersion_V3, ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}}}
	manager := &hcm.HttpConnectionManager{
		RouteSpecifier: &hcm.HttpConnectionManager_Rds{Rds: &hcm.Rds{ConfigSource: ads, RouteConfigName: host}},
		HttpFilters:    []*hcm.HttpFilter{{Name: "router", ConfigType: &hcm.HttpFilter_TypedConfig{TypedConfig: packed(t, &router.Router{})}}},
	}
	return []xds.Resource{
		published(t, xds.TypeListener, host, &listener.Listener{Name: host, ApiListener: &listener.ApiListener{ApiListener: packed(t, manager)}}),
		published(t, xds.TypeRoute, host, &route.RouteConfiguration{Name: host, VirtualHosts: []*route.VirtualHost{{
			Name: host, Domains: []string{host}, Routes: []*route.Route{{
				Match:  &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{}},
				Action: &route.Route_Route{Route: &route.RouteAction{ClusterSpecifier: &route.RouteAction_Cluster{Cluster: host}}}}}}}}),
		foreignCluster(t, host, cluster.Cluster_ROUND_ROBIN),
		foreignEndpoints(t, host, address),
	}
}

func foreignCluster(t *testing.T, name string, policy cluster.Cluster_LbPolicy) xds.Resource {
	t.Helper()
	ads := &core.ConfigSource{ResourceApiVersion: core.ApiVersion_V3, ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}}}
	return published(t, xds.TypeCluster, name, &cluster.Cluster{Name: name, LbPolicy: policy,
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: ads}})
}

func foreignEndpoints(t *testing.T, name, address string) xds.Resource {
	t.Helper()
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	to := &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: at.IP.String(), PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(at.Port)}}}}
	return published(t, xds.TypeEndpoint, name, &endpoint.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpoint.LocalityLbEndpoints{{
		Locality: &core.Locality{Region: "fr"}, LoadBalancingWeight: wrapperspb.UInt32(1), // without it, the client leaves the locality out
		LbEndpoints: []*endpoint.LbEndpoint{{HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: to}}}}}}})
}

// listens serves on a loopback socket until the test ends, and gives its address.
func listens(t *testing.T, g *grpc.Server) string {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(socket) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return socket.Addr().String()
}

// instance is a gRPC program at an address of its own.
func instance(t *testing.T) string {
	t.Helper()
	g := grpc.NewServer()
	healthgrpc.RegisterHealthServer(g, health.NewServer())
	return listens(t, g)
}

// foreign is a control plane and a deadline that only a failed test meets.
type foreign struct {
	*Server
	t   *testing.T
	ctx context.Context
	at  string
}

func newForeign(t *testing.T, o Options) *foreign {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	f := &foreign{Server: New(o), t: t, ctx: ctx}
	g := grpc.NewServer()
	f.Register(g)
	f.at = listens(t, g)
	return f
}

// client resolves a host as a node of that name.
func (f *foreign) client(node, host string) healthgrpc.HealthClient {
	f.t.Helper()
	bootstrap := fmt.Sprintf(`{"node": {"id": %q, "locality": {"region": "fr"}},
		"xds_servers": [{"server_uri": "passthrough:///%s", "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3", "fail_on_data_errors"]}]}`, node, f.at)
	resolver, err := grpcxds.NewXDSResolverWithConfigForTesting([]byte(bootstrap))
	if err != nil {
		f.t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///"+host, grpc.WithResolvers(resolver), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	return healthgrpc.NewHealthClient(conn)
}

// call makes one call and tells who answered it.
func (f *foreign) call(c healthgrpc.HealthClient, options ...grpc.CallOption) (string, error) {
	from := new(peer.Peer)
	_, err := c.Check(f.ctx, &healthgrpc.HealthCheckRequest{}, append(options, grpc.Peer(from))...)
	if err != nil {
		return "", err
	}
	return from.Addr.String(), nil
}

// until calls until an answer comes from that address. No call may fail.
func (f *foreign) until(c healthgrpc.HealthClient, address string) {
	f.t.Helper()
	for {
		from, err := f.call(c, grpc.WaitForReady(true))
		if err != nil {
			f.t.Fatalf("waiting for an answer from %s: %v", address, err)
		}
		if from == address {
			return
		}
	}
}

// available makes a call that may find nobody, and tells whether it was answered.
func (f *foreign) available(c healthgrpc.HealthClient) bool {
	f.t.Helper()
	_, err := f.call(c)
	if err != nil && status.Code(err) != codes.Unavailable {
		f.t.Fatal(err)
	}
	return err == nil
}

// TestForeignClientFollows: grpc-go's own xDS client calls the instance that the
// server tells it of, moves to another without a failed call, keeps to the last good
// version after a rejection, of which the server knows its words, and calls nothing
// once the host is gone.
func TestForeignClientFollows(t *testing.T) {
	const host = "billing.example.com"
	rejected := make(chan Rejection, 10)
	f := newForeign(t, Options{Rejected: func(r Rejection) { rejected <- r }})
	one, two := instance(t), instance(t)
	f.Apply(foreignService(t, host, one), nil)
	c := f.client("fr-client", host)
	f.until(c, one)

	f.Apply([]xds.Resource{foreignEndpoints(t, host, two)}, nil)
	if err := f.Wait(f.ctx, xds.Key{Type: xds.TypeEndpoint, Name: host}); err != nil {
		t.Fatal(err)
	}
	f.until(c, two)

	f.Apply([]xds.Resource{foreignCluster(t, host, cluster.Cluster_MAGLEV)}, nil)
	select {
	case r := <-rejected:
		if r.Node != "fr-client" || r.Type != xds.TypeCluster || r.Name != host || !strings.Contains(r.Reason, "MAGLEV") {
			t.Errorf("the rejection is %+v", r)
		}
	case <-f.ctx.Done():
		t.Fatal("the client rejected nothing")
	}
	f.Apply([]xds.Resource{foreignEndpoints(t, host, one)}, nil)
	f.until(c, one) // nothing else was held up

	f.Apply(nil, []xds.Key{{Type: xds.TypeListener, Name: host}})
	for answered := true; answered; {
		answered = f.available(c)
	}
	f.Apply(foreignService(t, host, two)[:1], nil)
	for !f.available(c) {
	}
	f.until(c, one)
}

// TestForeignClientIsNotToldOfWhatItMayNotSee: a host that is not for a node does not
// exist for it, though another is; not one of its resources is sent.
func TestForeignClientIsNotToldOfWhatItMayNotSee(t *testing.T) {
	const free, closed = "open.example.com", "closed.example.com"
	f := newForeign(t, Options{Sees: func(node string, key xds.Key) bool { return node == "fr-client" || key.Name != closed }})
	at := instance(t)
	f.Apply(append(foreignService(t, free, at), foreignService(t, closed, at)...), nil)
	f.until(f.client("fr-client", closed), at)

	inner, leave := context.WithCancel(f.ctx)
	ended := make(chan error, 1)
	stranger := f.client("stranger", closed)
	go func() {
		_, err := stranger.Check(inner, &healthgrpc.HealthCheckRequest{}, grpc.WaitForReady(true))
		ended <- err
	}()
	for asked := false; !asked; { // that the stranger asks at all is the premise
		if err := f.ctx.Err(); err != nil {
			t.Fatal("the stranger asks for nothing: ", err)
		}
		f.mu.Lock()
		for st := range f.streams {
			asked = asked || st.node == "stranger" && st.subscription(xds.TypeListener).names[closed]
		}
		f.mu.Unlock()
	}
	f.until(f.client("stranger", free), at)
	if err := f.Wait(f.ctx, xds.Key{Type: xds.TypeListener, Name: closed}); err != nil {
		t.Fatal(err)
	}
	for key := range f.Held("stranger").Versions {
		if key.Name == closed {
			t.Errorf("the stranger was sent %s %s", key.Type, key.Name)
		}
	}
	leave()
	if err := <-ended; status.Code(err) != codes.Canceled && status.Code(err) != codes.Unavailable {
		t.Errorf("the stranger's call ended with %v", err)
	}
}

// TestForeignClientLosesSight: a client that may see nothing any more is told so on the
// stream that it has, while another goes on.
func TestForeignClientLosesSight(t *testing.T) {
	const host = "open.example.com"
	var closed atomic.Bool
	f := newForeign(t, Options{Sees: func(node string, _ xds.Key) bool { return node != "fr-client" || !closed.Load() }})
	at := instance(t)
	f.Apply(foreignService(t, host, at), nil)
	one, other := f.client("fr-client", host), f.client("fr-other", host)
	f.until(one, at)
	f.until(other, at)
	closed.Store(true)
	f.Review("fr-client")
	for answered := true; answered; {
		answered = f.available(one)
	}
	f.until(other, at)
	closed.Store(false)
	f.Review("fr-client")
	for !f.available(one) {
	}
}
