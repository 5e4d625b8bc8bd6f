package server

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/polder/polder/xds"
)

// separateServices are the services of one type each, as the protocol names them.
var separateServices = []struct{ name, typeURL, delta, state string }{
	{"listeners", xds.TypeListener, "listener.v3.ListenerDiscoveryService/DeltaListeners", "listener.v3.ListenerDiscoveryService/StreamListeners"},
	{"routes", xds.TypeRoute, "route.v3.RouteDiscoveryService/DeltaRoutes", "route.v3.RouteDiscoveryService/StreamRoutes"},
	{"scopes", xds.TypeScope, "route.v3.ScopedRoutesDiscoveryService/DeltaScopedRoutes", "route.v3.ScopedRoutesDiscoveryService/StreamScopedRoutes"},
	{"clusters", xds.TypeCluster, "cluster.v3.ClusterDiscoveryService/DeltaClusters", "cluster.v3.ClusterDiscoveryService/StreamClusters"},
	{"endpoints", xds.TypeEndpoint, "endpoint.v3.EndpointDiscoveryService/DeltaEndpoints", "endpoint.v3.EndpointDiscoveryService/StreamEndpoints"},
	{"secrets", xds.TypeSecret, "secret.v3.SecretDiscoveryService/DeltaSecrets", "secret.v3.SecretDiscoveryService/StreamSecrets"},
}

// overTCP is a server behind a TCP socket.
type overTCP struct {
	*Server
	t       *testing.T
	ctx     context.Context
	conn    *grpc.ClientConn
	secrets map[string]string // versions; changed by set only, read with the server's lock held
}

func newOverTCP(t *testing.T, o Options, more ...grpc.ServerOption) *overTCP {
	t.Helper()
	c := &overTCP{t: t, secrets: map[string]string{}}
	o.Log = slog.New(slog.DiscardHandler)
	o.SecretOf = func(node, name string) (xds.Resource, bool) {
		version, ok := c.secrets[name]
		return resource(xds.TypeSecret, name, version), ok && node != "stranger"
	}
	c.Server = New(o)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(more...)
	c.Register(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	c.conn, err = grpc.NewClient("passthrough:///"+listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	c.ctx = ctx
	t.Cleanup(func() {
		cancel()
		c.conn.Close()
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c
}

// set makes a resource of that version, whatever its type.
func (c *overTCP) set(typeURL, name, version string) {
	if typeURL != xds.TypeSecret {
		c.Apply([]xds.Resource{resource(typeURL, name, version)}, nil)
		return
	}
	c.mu.Lock()
	c.secrets[name] = version
	c.mu.Unlock()
	c.Touch(name)
}

// remove takes it away.
func (c *overTCP) remove(typeURL, name string) {
	if typeURL != xds.TypeSecret {
		c.Apply(nil, []xds.Key{{Type: typeURL, Name: name}})
		return
	}
	c.mu.Lock()
	delete(c.secrets, name)
	c.mu.Unlock()
	c.Touch(name)
}

// wire is a stream of a separate service as any client may have it: the method
// by its name, and the messages.
type wire[Request, Response any] struct {
	t *testing.T
	grpc.ClientStream
}

func open[Request, Response any](c *overTCP, method string) *wire[Request, Response] {
	c.t.Helper()
	s, err := c.conn.NewStream(c.ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/envoy.service."+method)
	if err != nil {
		c.t.Fatal(err)
	}
	return &wire[Request, Response]{c.t, s}
}

func (w *wire[Request, Response]) say(r *Request) {
	w.t.Helper()
	if err := w.SendMsg(r); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire[Request, Response]) hear() *Response {
	w.t.Helper()
	r := new(Response)
	if err := w.RecvMsg(r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// ends waits until the server ends the stream, and holds the reason against want.
func (w *wire[Request, Response]) ends(want codes.Code) {
	w.t.Helper()
	if err := w.RecvMsg(new(Response)); status.Code(err) != want {
		w.t.Errorf("the stream ended with %v, want %s", err, want)
	}
}

type (
	deltaClient = wire[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]
	stateClient = wire[discovery.DiscoveryRequest, discovery.DiscoveryResponse]
)

func (c *overTCP) delta(method string) *deltaClient {
	return open[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse](c, method)
}

func (c *overTCP) state(method string) *stateClient {
	return open[discovery.DiscoveryRequest, discovery.DiscoveryResponse](c, method)
}

// holds checks what a delta response says, in the notation of envoy.expect.
func holds(t *testing.T, r *discovery.DeltaDiscoveryResponse, typeURL string, want ...string) *discovery.DeltaDiscoveryResponse {
	t.Helper()
	var got []string
	for _, x := range r.Resources {
		got = append(got, x.Name+"@"+x.Version)
	}
	for _, name := range r.RemovedResources {
		got = append(got, "-"+name)
	}
	if r.TypeUrl != typeURL || !slices.Equal(got, want) {
		t.Fatalf("got %s %v, want %s %v", r.TypeUrl, got, typeURL, want)
	}
	return r
}

// isState checks what a response of the state of the world says: versions.
func isState(t *testing.T, r *discovery.DiscoveryResponse, typeURL string, want ...string) *discovery.DiscoveryResponse {
	t.Helper()
	var got []string
	for _, x := range r.Resources {
		got = append(got, string(x.Value))
	}
	if r.TypeUrl != typeURL || !slices.Equal(got, want) || r.VersionInfo == "" || r.Nonce == "" {
		t.Fatalf("got %s %v, version %q, nonce %q; want %s %v and both", r.TypeUrl, got, r.VersionInfo, r.Nonce, typeURL, want)
	}
	return r
}

var fr1 = &core.Node{Id: "fr-1", Locality: &core.Locality{Region: "fr"}}

// TestConformanceSeparateDelta: the service of each type has streams of its own,
// which need not repeat the type. Acknowledged, rejected, unsubscribed and removed is
// as in the aggregated one.
func TestConformanceSeparateDelta(t *testing.T) {
	for _, service := range separateServices {
		t.Run(service.name, func(t *testing.T) {
			c := newOverTCP(t, Options{})
			c.set(service.typeURL, "a", "a1")
			w := c.delta(service.delta)
			w.say(&discovery.DeltaDiscoveryRequest{Node: fr1, ResourceNamesSubscribe: []string{"a", "nowhere"}})
			r := holds(t, w.hear(), service.typeURL, "a@a1")
			w.say(&discovery.DeltaDiscoveryRequest{ResponseNonce: r.Nonce})
			r = holds(t, w.hear(), service.typeURL, "-nowhere")
			w.say(&discovery.DeltaDiscoveryRequest{TypeUrl: service.typeURL, ResponseNonce: r.Nonce})
			c.set(service.typeURL, "a", "a2")
			r = holds(t, w.hear(), service.typeURL, "a@a2")
			w.say(&discovery.DeltaDiscoveryRequest{ResponseNonce: r.Nonce, ErrorDetail: &rpcstatus.Status{Message: "it is bad"}})
			c.set(service.typeURL, "nowhere", "n1")
			r = holds(t, w.hear(), service.typeURL, "nowhere@n1") // and a@a2 never again
			w.say(&discovery.DeltaDiscoveryRequest{ResponseNonce: r.Nonce, ResourceNamesUnsubscribe: []string{"nowhere"}})
			c.remove(service.typeURL, "a")
			holds(t, w.hear(), service.typeURL, "-a")
		})
	}
}

// TestConformanceSeparateState: the same in the other variant. A version and a
// nonce are in every response, the names in every request are all that is wanted,
// and after a rejection the next version is sent, not the same again.
func TestConformanceSeparateState(t *testing.T) {
	for _, service := range separateServices {
		t.Run(service.name, func(t *testing.T) {
			c := newOverTCP(t, Options{})
			c.set(service.typeURL, "a", "a1")
			w := c.state(service.state)
			w.say(&discovery.DiscoveryRequest{Node: fr1, ResourceNames: []string{"a"}})
			accepted := isState(t, w.hear(), service.typeURL, "a1")
			answer := func(r *discovery.DiscoveryResponse, why string, names ...string) {
				q := &discovery.DiscoveryRequest{VersionInfo: r.VersionInfo, ResponseNonce: r.Nonce, ResourceNames: names}
				if why != "" {
					q.VersionInfo, q.ErrorDetail = accepted.VersionInfo, &rpcstatus.Status{Message: why}
				}
				w.say(q)
			}
			answer(accepted, "", "a")
			c.set(service.typeURL, "a", "a2")
			answer(isState(t, w.hear(), service.typeURL, "a2"), "it is bad", "a")
			c.set(service.typeURL, "a", "a3")
			answer(isState(t, w.hear(), service.typeURL, "a3"), "", "a")
			c.set(service.typeURL, "b", "b1")
			answer(accepted, "", "a", "b") // a new name is answered, whatever the nonce was of
			want := []string{"b1"}
			if fullState(service.typeURL) {
				want = []string{"a3", "b1"}
			}
			answer(isState(t, w.hear(), service.typeURL, want...), "", "b") // a is of no interest any more
			c.set(service.typeURL, "c", "c1")
			c.set(service.typeURL, "b", "b2")
			isState(t, w.hear(), service.typeURL, "b2")
		})
	}
}

// TestConformanceSeparateWildcard: a first request for listeners or clusters
// without names subscribes to all, and is answered even if there is none.
func TestConformanceSeparateWildcard(t *testing.T) {
	for _, service := range separateServices {
		if service.typeURL != xds.TypeListener && service.typeURL != xds.TypeCluster {
			continue
		}
		t.Run(service.name, func(t *testing.T) {
			c := newOverTCP(t, Options{})
			delta, state := c.delta(service.delta), c.state(service.state)
			delta.say(&discovery.DeltaDiscoveryRequest{Node: fr1})
			d := holds(t, delta.hear(), service.typeURL)
			delta.say(&discovery.DeltaDiscoveryRequest{ResponseNonce: d.Nonce})
			state.say(&discovery.DiscoveryRequest{Node: fr1})
			r := isState(t, state.hear(), service.typeURL)
			state.say(&discovery.DiscoveryRequest{ResponseNonce: r.Nonce, VersionInfo: r.VersionInfo})
			c.set(service.typeURL, "a", "a1")
			d = holds(t, delta.hear(), service.typeURL, "a@a1")
			delta.say(&discovery.DeltaDiscoveryRequest{ResponseNonce: d.Nonce})
			r = isState(t, state.hear(), service.typeURL, "a1")
			state.say(&discovery.DiscoveryRequest{ResponseNonce: r.Nonce, VersionInfo: r.VersionInfo})
			c.remove(service.typeURL, "a")
			holds(t, delta.hear(), service.typeURL, "-a")
			isState(t, state.hear(), service.typeURL)
		})
	}
}

// TestConformanceSeparateOtherType: a stream of one type gives nothing of another.
func TestConformanceSeparateOtherType(t *testing.T) {
	c := newOverTCP(t, Options{})
	c.set(xds.TypeSecret, "a", "a1")
	c.set(xds.TypeListener, "a", "a1")
	for _, service := range separateServices {
		other := xds.TypeSecret
		if service.typeURL == other {
			other = xds.TypeListener
		}
		delta, state := c.delta(service.delta), c.state(service.state)
		delta.say(&discovery.DeltaDiscoveryRequest{Node: fr1, TypeUrl: other, ResourceNamesSubscribe: []string{"a"}})
		delta.ends(codes.InvalidArgument)
		state.say(&discovery.DiscoveryRequest{Node: fr1, TypeUrl: other, ResourceNames: []string{"a"}})
		state.ends(codes.InvalidArgument)
	}
}

// TestSeparateStreamsKnowTheirNode: what a node may not see does not exist for
// it here either, and a client that is not who it says gets nothing from any service.
func TestSeparateStreamsKnowTheirNode(t *testing.T) {
	sees := func(node string, key xds.Key) bool { return node != "stranger" }
	guard := Guard(func(context.Context) (Identity, error) { return Identity{Region: "fr", Node: "stranger"}, nil },
		func(context.Context, Identity, error) {})
	open, guarded := newOverTCP(t, Options{Sees: sees}), newOverTCP(t, Options{Sees: sees}, grpc.StreamInterceptor(guard))
	stranger := &core.Node{Id: "stranger", Locality: &core.Locality{Region: "fr"}}
	for _, service := range separateServices {
		for _, c := range []*overTCP{open, guarded} {
			c.set(service.typeURL, "a", "a1")
			delta, state := c.delta(service.delta), c.state(service.state)
			delta.say(&discovery.DeltaDiscoveryRequest{Node: stranger, ResourceNamesSubscribe: []string{"a"}})
			holds(t, delta.hear(), service.typeURL, "-a")
			state.say(&discovery.DiscoveryRequest{Node: stranger, ResourceNames: []string{"a"}})
			isState(t, state.hear(), service.typeURL)
		}
		forged := guarded.delta(service.delta)
		forged.say(&discovery.DeltaDiscoveryRequest{Node: fr1, ResourceNamesSubscribe: []string{"a"}})
		forged.ends(codes.PermissionDenied)
		nameless := guarded.state(service.state)
		nameless.say(&discovery.DiscoveryRequest{ResourceNames: []string{"a"}})
		nameless.ends(codes.InvalidArgument)
		known := open.state(service.state)
		known.say(&discovery.DiscoveryRequest{Node: fr1, ResourceNames: []string{"a"}})
		isState(t, known.hear(), service.typeURL, "a1")
	}
}

// TestSeparateStreamsAreOneNode: whoever waits for an Envoy waits for each of its
// streams, its status is one, and a cluster that it is sent again brings its
// endpoints again on their stream.
func TestSeparateStreamsAreOneNode(t *testing.T) {
	c := newOverTCP(t, Options{})
	key := xds.Key{Type: xds.TypeEndpoint, Name: "a"}
	c.set(xds.TypeCluster, "a", "a1")
	c.set(xds.TypeEndpoint, "a", "a1")
	clusters, endpoints := c.delta("cluster.v3.ClusterDiscoveryService/DeltaClusters"), c.delta("endpoint.v3.EndpointDiscoveryService/DeltaEndpoints")
	clusters.say(&discovery.DeltaDiscoveryRequest{Node: fr1})
	r := holds(t, clusters.hear(), xds.TypeCluster, "a@a1")
	clusters.say(&discovery.DeltaDiscoveryRequest{ResponseNonce: r.Nonce})
	endpoints.say(&discovery.DeltaDiscoveryRequest{Node: fr1, ResourceNamesSubscribe: []string{"a"}})
	r = holds(t, endpoints.hear(), xds.TypeEndpoint, "a@a1")

	soon, cancel := context.WithCancel(c.ctx)
	cancel()
	if err := c.Wait(soon, key); err == nil {
		t.Error("nobody waits for the stream of endpoints")
	}
	endpoints.say(&discovery.DeltaDiscoveryRequest{ResponseNonce: r.Nonce})
	if err := c.Wait(c.ctx, key, xds.Key{Type: xds.TypeCluster, Name: "a"}); err != nil {
		t.Error(err)
	}
	nodes := c.Nodes()
	want := []TypeStatus{{Type: xds.TypeCluster, Accepted: 1}, {Type: xds.TypeEndpoint, Accepted: 1}}
	if len(nodes) != 1 || nodes[0].Node != "fr-1" || !slices.Equal(nodes[0].Types, want) {
		t.Errorf("the status is %+v, want one of fr-1 with %v", nodes, want)
	}

	c.set(xds.TypeCluster, "a", "a2")
	holds(t, clusters.hear(), xds.TypeCluster, "a@a2")
	holds(t, endpoints.hear(), xds.TypeEndpoint, "a@a1")
}
