package gateway

import (
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

// TestRejectionsNameTheirCause holds that the status of a rejected resource says
// which line of the configuration it was made of, for each kind that a service has.
func TestRejectionsNameTheirCause(t *testing.T) {
	m := &polder.Model{Services: []polder.Service{
		{Name: "billing", Hosts: []polder.Host{"billing.example.com", "*.billing.example.com"}, At: polder.Position{File: "polder.yaml", Line: 12, Column: 3}},
		{Name: "shop", Hosts: []polder.Host{"shop.example.com"}, At: polder.Position{File: "shop.yaml", Line: 2, Column: 3}},
	}}
	for _, c := range []struct {
		typeURL, name, want, why string
	}{
		{xds.TypeCluster, "service/billing", "polder.yaml:12:3", "its cluster"},
		{xds.TypeEndpoint, "service/shop", "shop.yaml:2:3", "its endpoints"},
		{xds.TypeRoute, "host/billing.example.com", "polder.yaml:12:3", "the routes of one of its hosts"},
		{xds.TypeScope, "scope/lRYjom-LM4iAKqdJ", "shop.yaml:2:3", "a scope"},
		{xds.TypeCluster, "to/shop.example.com", "shop.yaml:2:3", "what leads to a host by its name"},
		{xds.TypeListener, "entrypoint-https", "", "what belongs to all"},
		{xds.TypeRoute, "service/billing", "", "a name of another type"},
		{xds.TypeCluster, "service/gone", "", "a service that is gone"},
	} {
		nodes := []server.NodeStatus{{Node: "fr-1", Rejections: []server.Rejection{{Node: "fr-1", Type: c.typeURL, Name: c.name, Reason: "bad"}}}}
		traceCauses(m, nodes)
		if got := nodes[0].Rejections[0].Cause; got != c.want {
			t.Errorf("%s %s: got %q, want %q: %s", c.typeURL, c.name, got, c.want, c.why)
		}
	}
	traceCauses(nil, []server.NodeStatus{{Rejections: []server.Rejection{{Type: xds.TypeCluster, Name: "service/billing"}}}})
}
