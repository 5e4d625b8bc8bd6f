package xds_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
)

// TestRemote holds what differs for an Envoy on another machine: where it
// listens, how it reaches the activator, and that an instance on loopback is
// not there, while one that other machines reach is.
func TestRemote(t *testing.T) {
	fr := polder.Region{Name: "fr"}
	s := polder.Service{Name: "billing", Hosts: []polder.Host{"billing.example.com"}, Timeout: time.Minute,
		Residency: polder.Residency{Allow: []polder.Place{"fr"}, Failover: polder.Failover{Class: polder.FailoverClosed}}, Run: &polder.Run{}}
	at := func(address string) polder.Endpoint {
		return polder.Endpoint{Service: "billing", Region: "fr", Address: netip.MustParseAddrPort(address)}
	}
	a := law.Judge(s, law.Circumstances{Here: "fr", Regions: []polder.Region{fr},
		Endpoints: []polder.Endpoint{at("127.0.0.1:20001"), at("[::1]:20002"), at("10.0.0.5:8080")}})
	remote := xds.Remote{Region: "fr", Activator: netip.MustParseAddrPort("10.0.0.1:7444"), TrustDomain: "polder.test", Nodes: []xds.RemoteNode{
		{Name: "fr-2", HTTPS: netip.MustParseAddrPort("10.0.0.2:443"), HTTP: netip.MustParseAddrPort("10.0.0.2:80")}}}
	var keys []xds.Key
	for _, r := range append(xds.Service(a, xds.Gateway{Region: "fr", Activator: "/run/activator.sock"}), xds.Node([]law.Approved{a}, xds.NodeConfig{Region: "fr"})...) {
		derived := remote.Derive(r)
		if got := keysOf(derived); !slices.Equal(got, remote.Names(r.Key)) {
			t.Errorf("%s becomes %v, and Names says %v", r.Name, got, remote.Names(r.Key))
		}
		keys = append(keys, keysOf(derived)...)
		for _, d := range derived {
			m, err := d.Body.UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			switch m := m.(type) {
			case *endpoint.ClusterLoadAssignment:
				if n := m.Endpoints[0].LbEndpoints; len(n) != 1 || n[0].GetEndpoint().GetAddress().GetSocketAddress().GetAddress() != "10.0.0.5" {
					t.Errorf("instances: %v, want 10.0.0.5 alone", n)
				}
				if n := m.Endpoints[1].LbEndpoints; len(n) != 1 || n[0].GetEndpoint().GetAddress().GetSocketAddress().GetAddress() != "10.0.0.1" || n[0].Metadata == nil {
					t.Errorf("activator: %v, want 10.0.0.1 with its mark", n)
				}
			case *cluster.Cluster:
				if strings.HasPrefix(m.Name, "service/") && len(m.TransportSocketMatches) != 1 {
					t.Errorf("cluster %s knows no way to the activator: %v", m.Name, m)
				}
			case *listener.Listener:
				if m.GetInternalListener() != nil {
					continue
				}
				if m.GetAddress().GetSocketAddress().GetAddress() != "10.0.0.2" || m.Name != d.Name {
					t.Errorf("listener %s: %v, want it at 10.0.0.2", d.Name, m.Address)
				}
			}
		}
	}
	for name, want := range map[string]bool{"entrypoint-https@fr-2": true, "entrypoint-http@fr-2": true, "peers": false, "inward": true, "entrypoint-https": false} {
		if got := slices.Contains(keys, xds.Key{Type: xds.TypeListener, Name: name}); got != want {
			t.Errorf("there is a listener %s: %v, want %v", name, got, want)
		}
	}
	own := xds.Key{Type: xds.TypeListener, Name: "entrypoint-https@fr-2"}
	if !remote.Sees("fr-2", own) || remote.Sees("fr-3", own) || !remote.Sees("fr-3", xds.Key{Type: xds.TypeCluster, Name: "service/billing"}) {
		t.Error("a node sees what is another's, or not what is its own")
	}
}

func keysOf(list []xds.Resource) []xds.Key {
	var keys []xds.Key
	for _, r := range list {
		keys = append(keys, r.Key)
	}
	return keys
}
