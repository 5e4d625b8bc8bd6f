package server

import (
	"maps"
	"testing"

	"github.com/polder/polder/xds"
)

// TestHeldIsWhatWasAcknowledged: what a node should have is certain only while
// nothing is under way, and a rejected version is never part of it.
func TestHeldIsWhatWasAcknowledged(t *testing.T) {
	c := newControl(t, Options{Secret: func(name string) (xds.Resource, bool) {
		return resource(xds.TypeSecret, name, "7"), name == "billing.example.com"
	}})
	if h := c.Held("fr-1"); h.Connected || len(h.Versions) > 0 {
		t.Errorf("of a node that never came: %+v", h)
	}
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "1")}, nil)
	e := c.envoy("fr-1")
	first := e.expect(xds.TypeCluster, "a@1")
	if h := c.Held("fr-1"); !h.Connected || h.Settled {
		t.Errorf("before the answer: %+v, want connected and not settled", h)
	}
	e.accept(first)
	e.subscribe(xds.TypeSecret, "billing.example.com")
	e.accept(e.expect(xds.TypeSecret, "billing.example.com@7"))
	e.barrier(c, "quiet")
	want := map[xds.Key]string{{Type: xds.TypeCluster, Name: "a"}: "1", {Type: xds.TypeSecret, Name: "billing.example.com"}: "7"}
	if h := c.Held("fr-1"); !maps.Equal(h.Versions, want) {
		t.Errorf("got %+v, want %v", h, want)
	}
	c.Apply([]xds.Resource{resource(xds.TypeCluster, "a", "2")}, nil)
	e.reject(e.expect(xds.TypeCluster, "a@2"), "no")
	e.barrier(c, "quieter")
	if h := c.Held("fr-1"); h.Versions[xds.Key{Type: xds.TypeCluster, Name: "a"}] != "1" {
		t.Errorf("after a rejection: %+v, want the version before", h)
	}
	if h := c.Held("nl-1"); h.Connected {
		t.Errorf("another node is connected: %+v", h)
	}
}
