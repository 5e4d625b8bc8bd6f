package server

import (
	"context"
	"slices"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"

	"github.com/polder/polder/xds"
)

// The tests of this file and of transports_test.go are named after clauses of the xDS protocol's text (xDS
// REST and gRPC protocol, in Envoy's documentation), and hold the server to them
// over a gRPC connection, whoever the client is.

// TestConformanceDeltaSubscribingToAnUnknownNameIsAnswered: a name that does
// not exist is told in removed_resources, and sent once it exists.
func TestConformanceDeltaSubscribingToAnUnknownNameIsAnswered(t *testing.T) {
	c := newControl(t, Options{})
	e := c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster))
	e.subscribe(xds.TypeRoute, "nowhere")
	e.accept(e.expect(xds.TypeRoute, "-nowhere"))
	c.Apply([]xds.Resource{resource(xds.TypeRoute, "nowhere", "1")}, nil)
	e.accept(e.expect(xds.TypeRoute, "nowhere@1"))
}

// TestConformanceDeltaSubscribingAgainSendsAgain: whoever subscribes to a name
// again is sent it again, even if it has not changed.
func TestConformanceDeltaSubscribingAgainSendsAgain(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeRoute, "r", "1")}, nil)
	e := c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster))
	for range 2 {
		e.subscribe(xds.TypeRoute, "r")
		e.accept(e.expect(xds.TypeRoute, "r@1"))
	}
}

// TestConformanceDeltaUnsubscribe: after it, nothing is said of the resource any more.
func TestConformanceDeltaUnsubscribe(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeRoute, "r", "1"), resource(xds.TypeRoute, "s", "1")}, nil)
	e := c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster))
	e.subscribe(xds.TypeRoute, "r", "s")
	e.accept(e.expect(xds.TypeRoute, "r@1", "s@1"))
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.TypeRoute, ResourceNamesUnsubscribe: []string{"r"}})
	e.barrier(c, "b")
	c.Apply([]xds.Resource{resource(xds.TypeRoute, "r", "2"), resource(xds.TypeRoute, "s", "2")}, nil)
	e.accept(e.expect(xds.TypeRoute, "s@2"))
}

// TestConformanceDeltaWildcard: a first request without names, or the name *,
// subscribes to everything of the type.
func TestConformanceDeltaWildcard(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "1")}, nil)
	e := c.envoy("fr-1") // its first request for clusters has no names
	e.accept(e.expect(xds.TypeCluster, "a@1"))
	e.subscribe(xds.TypeListener, "*")
	e.accept(e.expect(xds.TypeListener))
	c.Apply([]xds.Resource{resource(xds.TypeListener, "l", "1")}, nil)
	e.accept(e.expect(xds.TypeListener, "l@1"))
}

// TestConformanceDeltaRemoval: a resource that goes is told in removed_resources,
// once, to who subscribes to everything as well as to who named it.
func TestConformanceDeltaRemoval(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "1"), resource(xds.TypeRoute, "r", "1")}, nil)
	e := c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster, "a@1"))
	e.subscribe(xds.TypeRoute, "r")
	e.accept(e.expect(xds.TypeRoute, "r@1"))
	c.Apply(nil, []xds.Key{{Type: xds.TypeRoute, Name: "r"}})
	e.accept(e.expect(xds.TypeRoute, "-r"))
	c.Apply(nil, []xds.Key{{Type: xds.TypeCluster, Name: "a"}})
	e.accept(e.expect(xds.TypeCluster, "-a"))
}

// world is a scripted client that speaks the state of the world.
type world struct {
	t      *testing.T
	stream discovery.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	first  bool
}

func (c *control) world() *world {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	c.t.Cleanup(cancel)
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(c.conn).StreamAggregatedResources(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	return &world{t: c.t, stream: stream, first: true}
}

// ask sends a request: an answer to last, unless that is nil, and the names wanted.
func (w *world) ask(typeURL string, last *discovery.DiscoveryResponse, why string, names ...string) {
	w.t.Helper()
	r := &discovery.DiscoveryRequest{TypeUrl: typeURL, ResourceNames: names}
	if w.first {
		r.Node, w.first = &core.Node{Id: "fr-1"}, false
	}
	if last != nil {
		r.ResponseNonce, r.VersionInfo = last.Nonce, last.VersionInfo
	}
	if why != "" {
		r.ErrorDetail = &status.Status{Message: why}
	}
	if err := w.stream.Send(r); err != nil {
		w.t.Fatal(err)
	}
}

// expect receives the next response and holds its bytes, which are versions, against want.
func (w *world) expect(typeURL string, want ...string) *discovery.DiscoveryResponse {
	w.t.Helper()
	r, err := w.stream.Recv()
	if err != nil {
		w.t.Fatalf("waiting for %s %v: %v", typeURL, want, err)
	}
	var got []string
	for _, x := range r.Resources {
		got = append(got, string(x.Value))
	}
	if r.TypeUrl != typeURL || !slices.Equal(got, want) {
		w.t.Fatalf("got %s %v, want %s %v", r.TypeUrl, got, typeURL, want)
	}
	return r
}

// TestConformanceStateOfTheWorldHoldsEverything: each response for clusters and
// listeners has all that is subscribed to, and a removal is an absence.
func TestConformanceStateOfTheWorldHoldsEverything(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeListener, "a", "a1"), resource(xds.TypeListener, "b", "b1")}, nil)
	w := c.world()
	w.ask(xds.TypeListener, nil, "")
	w.ask(xds.TypeListener, w.expect(xds.TypeListener, "a1", "b1"), "")
	c.Apply([]xds.Resource{resource(xds.TypeListener, "b", "b2")}, nil)
	w.ask(xds.TypeListener, w.expect(xds.TypeListener, "a1", "b2"), "")
	c.Apply(nil, []xds.Key{{Type: xds.TypeListener, Name: "a"}})
	w.ask(xds.TypeListener, w.expect(xds.TypeListener, "b2"), "")
}

// TestConformanceStateOfTheWorldNames: each request has the full list of names. A name
// that is added is answered, and one that is left out is of no interest any more.
func TestConformanceStateOfTheWorldNames(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeEndpoint, "a", "a1"), resource(xds.TypeEndpoint, "b", "b1")}, nil)
	w := c.world()
	w.ask(xds.TypeEndpoint, nil, "", "a")
	first := w.expect(xds.TypeEndpoint, "a1")
	w.ask(xds.TypeEndpoint, first, "", "a", "b")
	second := w.expect(xds.TypeEndpoint, "b1")
	w.ask(xds.TypeEndpoint, second, "", "b")
	w.ask(xds.TypeListener, nil, "") // a barrier: everything before it was heard
	w.ask(xds.TypeListener, w.expect(xds.TypeListener), "")
	c.Apply([]xds.Resource{resource(xds.TypeEndpoint, "a", "a2"), resource(xds.TypeEndpoint, "b", "b2")}, nil)
	w.ask(xds.TypeEndpoint, w.expect(xds.TypeEndpoint, "b2"), "", "b")
}

// TestConformanceStateOfTheWorldStaleNonce: a request whose nonce is not that of
// the last response crossed it on the wire, and its names do not count.
func TestConformanceStateOfTheWorldStaleNonce(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeEndpoint, "a", "a1"), resource(xds.TypeEndpoint, "b", "b1")}, nil)
	w := c.world()
	w.ask(xds.TypeEndpoint, nil, "", "a")
	first := w.expect(xds.TypeEndpoint, "a1")
	w.ask(xds.TypeEndpoint, &discovery.DiscoveryResponse{Nonce: "of another time"}, "", "b")
	w.ask(xds.TypeEndpoint, first, "", "a")
	c.Apply([]xds.Resource{resource(xds.TypeEndpoint, "a", "a2")}, nil)
	w.ask(xds.TypeEndpoint, w.expect(xds.TypeEndpoint, "a2"), "", "a")
}

// TestConformanceStateOfTheWorldRejection: after a NACK the same bytes are not
// sent again, and the next version is.
func TestConformanceStateOfTheWorldRejection(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeEndpoint, "a", "a1")}, nil)
	w := c.world()
	w.ask(xds.TypeEndpoint, nil, "", "a")
	w.ask(xds.TypeEndpoint, w.expect(xds.TypeEndpoint, "a1"), "", "a")
	c.Apply([]xds.Resource{resource(xds.TypeEndpoint, "a", "a2")}, nil)
	w.ask(xds.TypeEndpoint, w.expect(xds.TypeEndpoint, "a2"), "it is bad", "a")
	c.Apply([]xds.Resource{resource(xds.TypeEndpoint, "a", "a3")}, nil)
	w.ask(xds.TypeEndpoint, w.expect(xds.TypeEndpoint, "a3"), "", "a")
}
