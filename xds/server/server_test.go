package server

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// control is a server behind a real gRPC connection in memory.
type control struct {
	*Server
	t    *testing.T
	conn *grpc.ClientConn
}

func newControl(t *testing.T, o Options) *control {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	c := &control{Server: New(o), t: t}
	wire := bufconn.Listen(1 << 20)
	g := grpc.NewServer()
	c.Register(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(wire) }()
	conn, err := grpc.NewClient("passthrough:///control", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return wire.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	c.conn = conn
	t.Cleanup(func() {
		conn.Close()
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c
}

// resource makes a resource whose bytes are nothing but its version.
func resource(typeURL, name, version string) xds.Resource {
	return xds.Resource{Key: xds.Key{Type: typeURL, Name: name}, Version: version,
		Body: &anypb.Any{TypeUrl: typeURL, Value: []byte(version)}}
}

// envoy is a scripted Envoy that speaks delta.
type envoy struct {
	t      *testing.T
	stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	cancel context.CancelFunc
}

func (c *control) envoy(node string) *envoy {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(c.conn).DeltaAggregatedResources(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	e := &envoy{t: c.t, stream: stream, cancel: cancel}
	c.t.Cleanup(cancel)
	e.send(&discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: node}, TypeUrl: xds.TypeCluster})
	return e
}

func (e *envoy) send(r *discovery.DeltaDiscoveryRequest) {
	e.t.Helper()
	if err := e.stream.Send(r); err != nil {
		e.t.Fatal(err)
	}
}

func (e *envoy) subscribe(typeURL string, names ...string) {
	e.t.Helper()
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names})
}

func (e *envoy) accept(r *discovery.DeltaDiscoveryResponse) {
	e.t.Helper()
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce})
}

func (e *envoy) reject(r *discovery.DeltaDiscoveryResponse, why string) {
	e.t.Helper()
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce, ErrorDetail: &status.Status{Message: why}})
}

// expect receives the next response and holds it against what it should be:
// names with versions, and a minus before what is removed.
func (e *envoy) expect(typeURL string, want ...string) *discovery.DeltaDiscoveryResponse {
	e.t.Helper()
	r, err := e.stream.Recv()
	if err != nil {
		e.t.Fatalf("waiting for %s %v: %v", typeURL, want, err)
	}
	var got []string
	for _, x := range r.Resources {
		got = append(got, x.Name+"@"+x.Version)
	}
	for _, name := range r.RemovedResources {
		got = append(got, "-"+name)
	}
	if r.TypeUrl != typeURL || !slices.Equal(got, want) {
		e.t.Fatalf("got %s %v, want %s %v", r.TypeUrl, got, typeURL, want)
	}
	return r
}

// barrier returns once the server has taken in everything sent before.
func (e *envoy) barrier(c *control, name string) {
	e.t.Helper()
	e.subscribe(xds.TypeSecret, name)
	e.accept(e.expect(xds.TypeSecret, "-"+name))
}

// TestListens: a node that is connected listens only once it has accepted a listener.
func TestListens(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeListener, "l", "1")}, nil)
	if c.Listens("fr-1") {
		t.Error("a node listens that is not there")
	}
	e := c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster))
	e.subscribe(xds.TypeListener)
	offered := e.expect(xds.TypeListener, "l@1")
	if c.Listens("fr-1") {
		t.Error("a node listens that was offered a listener and has said nothing")
	}
	e.accept(offered)
	e.barrier(c, "s") // so that the server has read it
	if !c.Listens("fr-1") || c.Listens("fr-2") {
		t.Error("a node does not listen that accepted a listener, or another one does")
	}
}

func TestRejectionIsolatesOneResource(t *testing.T) {
	rejections := make(chan Rejection, 10)
	c := newControl(t, Options{Rejected: func(r Rejection) { rejections <- r }})
	all := func(version string) []xds.Resource {
		return []xds.Resource{resource(xds.TypeCluster, "a", version), resource(xds.TypeCluster, "b", version), resource(xds.TypeCluster, "c", version)}
	}
	c.Apply(all("1"), nil)
	e := c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster, "a@1", "b@1", "c@1"))
	c.Apply(all("2"), nil)
	e.reject(e.expect(xds.TypeCluster, "a@2", "b@2", "c@2"), "something is wrong with one of them")
	for accepted := 0; accepted < 2; { // by halves
		r, err := e.stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(r.Resources, func(x *discovery.Resource) bool { return x.Name == "b" }) {
			e.reject(r, "something is wrong with it")
		} else {
			e.accept(r)
			accepted += len(r.Resources)
		}
	}
	rejection := <-rejections
	if rejection.Node != "fr-1" || rejection.Name != "b" || rejection.Version != "2" || rejection.Reason != "something is wrong with it" {
		t.Errorf("reported %+v, want b at 2 by fr-1", rejection)
	}
	// The same Envoy, started anew, gets the version of b that it accepted.
	e.barrier(c, "heard")
	e.cancel()
	c.until("the stream has ended", func() bool { return len(c.streams) == 0 }) // it would be sent what comes, and counted
	e = c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster, "a@2", "b@1", "c@2"))
	// Another one answers for itself.
	later := c.envoy("fr-2")
	later.accept(later.expect(xds.TypeCluster, "a@2", "b@2", "c@2"))
	// The same bytes are not sent again; better ones are, and heal it.
	c.Apply(all("2"), nil)
	e.barrier(c, "quiet")
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "b", "3")}, nil)
	e.accept(e.expect(xds.TypeCluster, "b@3"))
	later.accept(later.expect(xds.TypeCluster, "b@3"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Wait(ctx, xds.Key{Type: xds.TypeCluster, Name: "b"}); err != nil {
		t.Fatal(err)
	}
	for _, node := range c.Nodes() {
		if len(node.Rejections) > 0 {
			t.Errorf("node %s still has rejections %v", node.Node, node.Rejections)
		}
	}
	want := TypeCounters{Type: xds.TypeCluster, Pushed: 10, Accepted: 7, Rejected: 3}
	if got := c.Counters(); len(got) == 0 || got[0] != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

func TestReconnectingEnvoyGetsOnlyWhatChanged(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "1"), resource(xds.TypeCluster, "b", "1")}, nil)
	e := c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster, "a@1", "b@1"))
	e.cancel()
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "b", "2")}, []xds.Key{{Type: xds.TypeCluster, Name: "a"}})

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(c.conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	again := &envoy{t: t, stream: stream}
	again.send(&discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: "fr-1"}, TypeUrl: xds.TypeCluster,
		InitialResourceVersions: map[string]string{"a": "1", "b": "2"}})
	again.accept(again.expect(xds.TypeCluster, "-a"))
}

func TestSecretsComeOnDemandAndGo(t *testing.T) {
	secrets := map[string]xds.Resource{"billing.example.com": resource(xds.TypeSecret, "billing.example.com", "1")}
	c := newControl(t, Options{Secret: func(name string) (xds.Resource, bool) { r, ok := secrets[name]; return r, ok }})
	e := c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster))
	e.subscribe(xds.TypeSecret, "billing.example.com")
	e.accept(e.expect(xds.TypeSecret, "billing.example.com@1"))
	e.subscribe(xds.TypeSecret, "unknown.example.com")
	e.accept(e.expect(xds.TypeSecret, "-unknown.example.com"))
	if got := slices.Sorted(slices.Values(c.SecretNames())); !slices.Equal(got, []string{"billing.example.com", "unknown.example.com"}) {
		t.Errorf("names asked for: %v", got)
	}
	c.mu.Lock()
	delete(secrets, "billing.example.com")
	c.mu.Unlock()
	c.Touch("billing.example.com")
	e.accept(e.expect(xds.TypeSecret, "-billing.example.com"))
}

func TestWithdrawnSecretComesBackWhenAskedFor(t *testing.T) {
	asked := make(chan string, 10)
	c := newControl(t, Options{
		Secret: func(name string) (xds.Resource, bool) { return resource(xds.TypeSecret, name, "1"), true },
		Asked:  func(name string) { asked <- name },
	})
	e := c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster))
	e.subscribe(xds.TypeSecret, "identity") // the first request is Envoy's own need, no caller's
	e.accept(e.expect(xds.TypeSecret, "identity@1"))
	for range 2 {
		e.subscribe(xds.TypeSecret, "billing.example.com")
		e.accept(e.expect(xds.TypeSecret, "billing.example.com@1"))
		if name := <-asked; name != "billing.example.com" {
			t.Errorf("asked for %q", name)
		}
		c.Withdraw("billing.example.com", "unknown.example.com")
		e.accept(e.expect(xds.TypeSecret, "-billing.example.com"))
		c.Touch("billing.example.com") // a renewal is no reason to hand it out
	}
	if len(asked) > 0 {
		t.Errorf("asked for %q as well", <-asked)
	}
}

func TestWaitNamesWhoIsLate(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "1")}, nil)
	e := c.envoy("fr-1")
	r := e.expect(xds.TypeCluster, "a@1")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	key := xds.Key{Type: xds.TypeCluster, Name: "a"}
	if err := c.Wait(ctx, key); err == nil {
		t.Error("Wait returned before the acknowledgement")
	}
	e.accept(r)
	patient, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	if err := c.Wait(patient, key); err != nil {
		t.Error(err)
	}
}

func TestForeignNodeIsRefused(t *testing.T) {
	c := newControl(t, Options{Accept: func(string) error { return context.DeadlineExceeded }})
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "1")}, nil)
	e := c.envoy("intruder")
	if r, err := e.stream.Recv(); err == nil {
		t.Errorf("an intruder got %v", r)
	}
}

func TestStateOfTheWorld(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{
		resource(xds.TypeCluster, "a", "1"), resource(xds.TypeCluster, "b", "1"),
		resource(xds.TypeEndpoint, "a", "1"), resource(xds.TypeEndpoint, "b", "1"), resource(xds.TypeListener, "l", "1"),
	}, nil)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(c.conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send := func(r *discovery.DiscoveryRequest) {
		t.Helper()
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(typeURL string, want ...string) *discovery.DiscoveryResponse {
		t.Helper()
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, x := range r.Resources {
			got[string(x.Value)]++
		}
		if r.TypeUrl != typeURL || len(r.Resources) != len(want) {
			t.Fatalf("got %s with %v, want %s with %v", r.TypeUrl, slices.Sorted(maps.Keys(got)), typeURL, want)
		}
		for _, version := range want {
			if got[version]--; got[version] < 0 {
				t.Fatalf("got %s with versions %v, want %v", r.TypeUrl, got, want)
			}
		}
		return r
	}
	accept := func(r *discovery.DiscoveryResponse, names ...string) {
		t.Helper()
		send(&discovery.DiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce, VersionInfo: r.VersionInfo, ResourceNames: names})
	}
	send(&discovery.DiscoveryRequest{Node: &core.Node{Id: "fr-1"}, TypeUrl: xds.TypeCluster})
	accept(expect(xds.TypeCluster, "1", "1"))
	send(&discovery.DiscoveryRequest{TypeUrl: xds.TypeEndpoint, ResourceNames: []string{"a", "b"}})
	accept(expect(xds.TypeEndpoint, "1", "1"), "a", "b")
	send(&discovery.DiscoveryRequest{TypeUrl: xds.TypeListener})
	accept(expect(xds.TypeListener, "1"))
	// One endpoint changes: only it is sent.
	c.Apply([]xds.Resource{resource(xds.TypeEndpoint, "a", "2")}, nil)
	accept(expect(xds.TypeEndpoint, "2"), "a", "b")
	// One cluster goes and the listener changes: the cluster stays until the listener is acknowledged.
	c.Apply([]xds.Resource{resource(xds.TypeListener, "l", "2")}, []xds.Key{{Type: xds.TypeCluster, Name: "a"}})
	accept(expect(xds.TypeListener, "2"))
	accept(expect(xds.TypeCluster, "1"))
}

// TestScopesUnderOtherNames has an Envoy connect with scopes that an older Polder
// named otherwise: they go in the response that brings the new ones, because Envoy
// takes no two with one key. Whatever goes later goes last, as ever.
func TestScopesUnderOtherNames(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeScope, "new", "1"), resource(xds.TypeScope, "same", "1")}, nil)
	e := c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster))
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.TypeScope, InitialResourceVersions: map[string]string{"old": "1", "same": "1"}})
	first := e.expect(xds.TypeScope, "new@1", "-old")
	e.reject(first, "something else is wrong with it")
	e.accept(e.expect(xds.TypeScope, "-new", "-old")) // what was rejected is not sent again
	c.Apply([]xds.Resource{resource(xds.TypeScope, "next", "1")}, []xds.Key{{Type: xds.TypeScope, Name: "same"}})
	e.accept(e.expect(xds.TypeScope, "next@1"))
	e.accept(e.expect(xds.TypeScope, "-same"))
}

// TestRejectionIsTheNodesOwn has one of two Envoys reject what the other accepts: the
// other has it, also after a restart of both and of the server, and the status of
// one says nothing of the other. Only the next version brings them together.
func TestRejectionIsTheNodesOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "accepted")
	first, second := kept(xds.TypeCluster, "service/a", "first"), kept(xds.TypeCluster, "service/a", "second")
	archive := openArchive(t, file)
	c := newControl(t, Options{Archive: archive})
	c.Apply([]xds.Resource{first}, nil)
	odd, even := c.envoy("fr-1"), c.envoy("fr-2")
	for _, e := range []*envoy{odd, even} {
		e.accept(e.expect(xds.TypeCluster, "service/a@"+first.Version))
		e.barrier(c, "quiet")
	}
	c.Apply([]xds.Resource{second}, nil)
	odd.reject(odd.expect(xds.TypeCluster, "service/a@"+second.Version), "not by me")
	odd.barrier(c, "heard")
	even.accept(even.expect(xds.TypeCluster, "service/a@"+second.Version))
	even.barrier(c, "heard")
	for _, n := range c.Nodes() {
		if got, want := len(n.Rejections), map[string]int{"fr-1": 1, "fr-2": 0}[n.Node]; got != want {
			t.Errorf("node %s has %d rejections, want %d: %+v", n.Node, got, want, n.Rejections)
		}
	}
	if err := archive.flush(false); err != nil {
		t.Fatal(err)
	}
	c = newControl(t, Options{Archive: openArchive(t, file)})
	c.Apply([]xds.Resource{second}, nil)
	odd, even = c.envoy("fr-1"), c.envoy("fr-2")
	odd.accept(odd.expect(xds.TypeCluster, "service/a@"+first.Version))
	odd.barrier(c, "quiet")
	even.accept(even.expect(xds.TypeCluster, "service/a@"+second.Version))
	third := kept(xds.TypeCluster, "service/a", "third")
	c.Apply([]xds.Resource{third}, nil)
	for _, e := range []*envoy{odd, even} {
		e.accept(e.expect(xds.TypeCluster, "service/a@"+third.Version))
		e.barrier(c, "quiet")
	}
	// What one Envoy accepts in place of a rejected version is not what all accepted last.
	if good := c.good[third.Key]; good.Version != third.Version || len(c.refused) > 0 {
		t.Errorf("accepted last: %s, refused %v; want %s and nothing", good.Version, c.refused, third.Version)
	}
}
