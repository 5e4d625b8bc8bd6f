package gateway

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

// TestBadResourcesStopNobody gives a real Envoy two services that it rejects,
// among others that are fine.
//
//  1. All services are served in their first version.
//  2. All change together, and Envoy rejects the cluster of one and the routes
//     of another: the others serve their second version, these two their first,
//     and the status has Envoy's words.
//  3. Envoy and its control plane start anew with the bad configuration: again
//     nobody is lost, and Envoy is not even asked to take what it rejected.
func TestBadResourcesStopNobody(t *testing.T) {
	origin := namingOrigin(t)
	names := []polder.ServiceName{"one", "two", "three", "four", "five", "six"}
	services := func(timeout time.Duration) []polder.Service {
		var list []polder.Service
		for _, name := range names {
			list = append(list, polder.Service{
				Name: name, Hosts: []polder.Host{polder.Host(name) + ".example.com"}, Timeout: timeout,
				Residency: polder.Residency{Allow: []polder.Place{"fr"}, Failover: polder.Failover{Class: polder.FailoverClosed}, Elsewhere: polder.Refuse},
				Endpoints: map[polder.RegionName][]netip.AddrPort{"fr": {netip.MustParseAddrPort(origin.Listener.Addr().String())}},
			})
		}
		return list
	}
	ca, roots := newCA(t)
	file := filepath.Join(t.TempDir(), "accepted")

	life := func(t *testing.T, live func(p *place, rejected func() []server.Rejection)) {
		archive, err := server.OpenArchive(file, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		p := newPlace(t, "fr", ca, services(time.Minute))
		p.server = server.New(server.Options{Log: slog.New(slog.DiscardHandler), Secret: p.secret, Archive: archive})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- archive.Run(ctx) }()
		live(p, func() []server.Rejection {
			var list []server.Rejection
			for _, node := range p.server.Nodes() {
				list = append(list, node.Rejections...)
			}
			return list
		})
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	allServed := func(t *testing.T, p *place) {
		t.Helper()
		for _, name := range names {
			host := string(name) + ".example.com"
			if body, response, err := p.get(roots, host, host, true); err != nil || response.StatusCode != 200 || body != string(name) {
				t.Errorf("service %s: got %q %v", name, body, err)
			}
		}
	}
	alive := polder.RegionHealth{"fr": true}
	bad := func(p *place) []xds.Resource {
		var set []xds.Resource
		for _, r := range p.resources(services(2*time.Minute), alive) {
			switch r.Key {
			case xds.Key{Type: xds.TypeCluster, Name: "service/two"}:
				r = edited(t, r, func(c *cluster.Cluster) {
					c.LbPolicy = cluster.Cluster_RING_HASH
					c.LbSubsetConfig = nil
					c.EdsClusterConfig = nil
				})
			case xds.Key{Type: xds.TypeRoute, Name: "host/four.example.com"}:
				r = edited(t, r, func(c *route.RouteConfiguration) { c.VirtualHosts = append(c.VirtualHosts, c.VirtualHosts[0]) })
			}
			set = append(set, r)
		}
		return set
	}
	t.Run("first life", func(t *testing.T) {
		life(t, func(p *place, rejected func() []server.Rejection) {
			p.publish(services(time.Minute), alive)
			p.startEnvoy(t)
			allServed(t, p)
			set := bad(p)
			p.server.Apply(set, nil)
			keys := make([]xds.Key, len(set))
			for i, r := range set {
				keys[i] = r.Key
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := p.server.Wait(ctx, keys...); err != nil {
				t.Fatal(err)
			}
			list := rejected()
			if len(list) != 2 || list[0].Name != "service/two" || list[1].Name != "host/four.example.com" {
				t.Fatalf("rejected: %+v, want the cluster of two and the routes of four", list)
			}
			for _, r := range list {
				if len(r.Reason) < 10 {
					t.Errorf("%s: Envoy's words are missing: %q", r.Name, r.Reason)
				}
			}
			if !strings.Contains(list[1].Reason, "four") {
				t.Errorf("Envoy's words %q do not name the virtual host", list[1].Reason)
			}
			allServed(t, p)
			if got := p.timeouts(t); got["host/one.example.com"] != "120s" || got["host/four.example.com"] != "60s" || got["host/two.example.com"] != "120s" {
				t.Errorf("timeouts in Envoy: %v, want the new ones but for four", got)
			}
		})
	})
	t.Run("after a restart", func(t *testing.T) {
		life(t, func(p *place, rejected func() []server.Rejection) {
			p.server.Apply(bad(p), nil)
			p.startEnvoy(t)
			allServed(t, p)
			if list := rejected(); len(list) > 0 {
				t.Errorf("Envoy was asked again to take what it had rejected: %+v", list)
			}
		})
	})
}

// edited changes a resource.
func edited[M proto.Message](t *testing.T, r xds.Resource, edit func(M)) xds.Resource {
	t.Helper()
	message, err := r.Body.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	edit(message.(M))
	value, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return xds.Restore(r.Key, value)
}

// timeouts are the route timeouts in Envoy's own dump, by route configuration.
func (p *place) timeouts(t *testing.T) map[string]string {
	t.Helper()
	var dump struct {
		Configs []struct {
			RouteConfig struct {
				Name         string
				VirtualHosts []struct {
					Routes []struct{ Route struct{ Timeout string } }
				} `json:"virtual_hosts"`
			} `json:"route_config"`
		}
	}
	p.dump(t, "dynamic_route_configs", &dump)
	found := map[string]string{}
	for _, c := range dump.Configs {
		for _, h := range c.RouteConfig.VirtualHosts {
			for _, r := range slices.Backward(h.Routes) {
				if r.Route.Timeout != "" {
					found[c.RouteConfig.Name] = r.Route.Timeout
				}
			}
		}
	}
	return found
}
