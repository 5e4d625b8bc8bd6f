package server

import (
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/polder/polder/xds"
)

func TestMakeBeforeBreak(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{
		resource(xds.TypeCluster, "a", "1"), resource(xds.TypeEndpoint, "a", "1"),
		resource(xds.TypeRoute, "a", "1"), resource(xds.TypeListener, "l", "1"),
	}, nil)
	e := c.envoy("fr-1")
	clusters := e.expect(xds.TypeCluster, "a@1")
	e.subscribe(xds.TypeListener)
	e.subscribe(xds.TypeRoute, "a")
	e.barrier(c, "quiet") // routes and listeners wait for the clusters
	e.accept(clusters)
	e.barrier(c, "still quiet") // and for the endpoints that Envoy has not asked for yet
	e.subscribe(xds.TypeEndpoint, "a")
	endpoints := e.expect(xds.TypeEndpoint, "a@1")
	e.accept(endpoints)
	e.accept(e.expect(xds.TypeRoute, "a@1"))
	e.accept(e.expect(xds.TypeListener, "l@1"))

	// Swap a for b: everything of b is there before anything of a goes.
	c.Apply([]xds.Resource{
		resource(xds.TypeCluster, "b", "1"), resource(xds.TypeEndpoint, "b", "1"), resource(xds.TypeListener, "l", "2"),
	}, []xds.Key{{Type: xds.TypeCluster, Name: "a"}})
	e.accept(e.expect(xds.TypeCluster, "b@1"))
	e.subscribe(xds.TypeEndpoint, "b")
	e.accept(e.expect(xds.TypeEndpoint, "b@1"))
	listeners := e.expect(xds.TypeListener, "l@2")
	e.barrier(c, "not yet") // the removal waits for the listener's acknowledgement
	e.accept(listeners)
	e.accept(e.expect(xds.TypeCluster, "-a"))
}

// TestOrderOfWhatLeadsByName has a host diverted to a way that nobody took before: what is
// inside of Envoy comes before the cluster that leads there, that before the public
// listener, and the filter that diverts last; all goes in reverse. Only an Envoy that has
// no listener yet gets all of them at once, for with the first it begins to work.
func TestOrderOfWhatLeadsByName(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{
		resource(xds.TypeCluster, "pass/nl", "1"), resource(xds.TypeCluster, "to/a", "1"),
		resource(xds.TypeListener, "pass/nl", "1"), resource(xds.TypeListener, "public", "1"), resource(xds.TypeExtension, "filter", "1"),
	}, nil)
	e := c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster, "pass/nl@1"))
	e.subscribe(xds.TypeListener)
	listeners := e.expect(xds.TypeListener, "pass/nl@1", "public@1")
	e.subscribe(xds.TypeExtension, "filter")
	e.barrier(c, "the filter waits")
	e.accept(listeners)
	e.accept(e.expect(xds.TypeCluster, "to/a@1"))
	filter := e.expect(xds.TypeExtension, "filter@1")
	if c.Listens("fr-1") {
		t.Error("it listens without the filter that its listener waits for")
	}
	e.accept(filter)
	e.barrier(c, "nothing is left")
	if !c.Listens("fr-1") {
		t.Error("it does not listen, though it has all that its listener waits for")
	}

	c.Apply([]xds.Resource{
		resource(xds.TypeCluster, "pass/pl", "1"), resource(xds.TypeCluster, "to/b", "1"), resource(xds.TypeListener, "pass/pl", "1"),
		resource(xds.TypeListener, "public", "2"), resource(xds.TypeExtension, "filter", "2"),
	}, []xds.Key{{Type: xds.TypeCluster, Name: "pass/nl"}, {Type: xds.TypeCluster, Name: "to/a"}, {Type: xds.TypeListener, Name: "pass/nl"}})
	for _, next := range []struct{ typeURL, what string }{
		{xds.TypeCluster, "pass/pl@1"}, {xds.TypeListener, "pass/pl@1"}, {xds.TypeCluster, "to/b@1"},
		{xds.TypeListener, "public@2"}, {xds.TypeExtension, "filter@2"},
		{xds.TypeCluster, "-to/a"}, {xds.TypeListener, "-pass/nl"}, {xds.TypeCluster, "-pass/nl"},
	} {
		r := e.expect(next.typeURL, next.what)
		e.barrier(c, "nothing comes before "+next.what+" is acknowledged")
		e.accept(r)
	}
}

func TestRoutesGoOnWithoutEndpoints(t *testing.T) {
	c := newControl(t, Options{WarmWait: time.Millisecond})
	c.Apply([]xds.Resource{
		resource(xds.TypeCluster, "a", "1"), resource(xds.TypeEndpoint, "a", "1"), resource(xds.TypeListener, "l", "1"),
	}, nil)
	e := c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster, "a@1"))
	e.subscribe(xds.TypeListener)
	e.accept(e.expect(xds.TypeListener, "l@1"))
}

func TestEndpointsFollowTheirCluster(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "1"), resource(xds.TypeEndpoint, "a", "1")}, nil)
	e := c.envoy("fr-1")
	e.accept(e.expect(xds.TypeCluster, "a@1"))
	e.subscribe(xds.TypeEndpoint, "a")
	e.accept(e.expect(xds.TypeEndpoint, "a@1"))
	c.Apply([]xds.Resource{resource(xds.TypeEndpoint, "a", "2")}, nil)
	e.accept(e.expect(xds.TypeEndpoint, "a@2"))
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "2")}, nil)
	// Unchanged, but Envoy forgot them with the cluster. Envoy acknowledges a
	// cluster only when it is warm, which takes its endpoints.
	cluster := e.expect(xds.TypeCluster, "a@2")
	e.accept(e.expect(xds.TypeEndpoint, "a@2"))
	e.accept(cluster)
}

// TestClusterGoesBeforeItIsWarm withdraws a service that Envoy was told of a moment
// ago: Envoy, which answers only once the cluster is warm, is told that no
// endpoints will come.
func TestClusterGoesBeforeItIsWarm(t *testing.T) {
	c := newControl(t, Options{})
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "1"), resource(xds.TypeEndpoint, "a", "1")}, nil)
	e := c.envoy("fr-1")
	cluster := e.expect(xds.TypeCluster, "a@1")
	c.Apply(nil, []xds.Key{{Type: xds.TypeCluster, Name: "a"}, {Type: xds.TypeEndpoint, Name: "a"}})
	e.subscribe(xds.TypeEndpoint, "a")
	e.accept(e.expect(xds.TypeEndpoint, "-a"))
	e.accept(cluster)
	e.accept(e.expect(xds.TypeCluster, "-a"))
}

// TestWaitForWhatIsNeverSent withdraws a resource before the Envoy was told of it: whoever
// waits for the answer learns that there is none to wait for.
func TestWaitForWhatIsNeverSent(t *testing.T) {
	s, b := New(Options{}), xds.Key{Type: xds.TypeCluster, Name: "b"}
	st := newStream(s, true, "")
	st.node = "fr-1"
	s.join(st)
	s.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "1")}, nil)
	st.hearDelta(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster})
	_, first := st.next(time.Now())
	s.Apply([]xds.Resource{resource(b.Type, b.Name, "1")}, nil)
	s.Apply(nil, []xds.Key{b})
	st.hearDelta(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster, ResponseNonce: first.nonce})
	if node, _ := s.late([]xds.Key{b}); node == "" {
		t.Fatal("nobody has to wait: this shows nothing")
	}
	changed := s.changed
	if _, r := st.next(time.Now()); r != nil {
		t.Errorf("the Envoy is told of %v and without %v", r.set, r.remove)
	}
	if node, _ := s.late([]xds.Key{b}); node != "" {
		t.Error("it is still waited for")
	}
	select {
	case <-changed:
	default:
		t.Error("whoever waits is not woken")
	}
}
