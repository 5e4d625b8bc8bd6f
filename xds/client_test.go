package xds_test

import (
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
)

var clients = xds.Clients{Region: "fr", Activator: netip.MustParseAddrPort("10.0.0.1:7445"), TrustDomain: "polder.test"}

// clientService is judged at a gateway in fr, with an instance on loopback and one
// on the network.
func clientService(protocol polder.Protocol, allow polder.Place, hosts ...polder.Host) law.Approved {
	s := polder.Service{Name: "billing", Hosts: hosts, Timeout: time.Minute, Protocol: protocol,
		Residency: polder.Residency{Allow: []polder.Place{allow}, Failover: polder.Failover{Class: polder.FailoverClosed}}, Run: &polder.Run{}}
	at := func(address string) polder.Endpoint {
		return polder.Endpoint{Service: "billing", Region: "fr", Address: netip.MustParseAddrPort(address)}
	}
	return law.Judge(s, law.Circumstances{Here: "fr", Regions: []polder.Region{{Name: "fr"}, {Name: "nl"}},
		Alive: polder.RegionHealth{"fr": true, "nl": true}, Endpoints: []polder.Endpoint{at("127.0.0.1:20001"), at("10.0.0.5:8080")}})
}

// TestClientGolden holds what clients without an Envoy get of one service against
// files that people have read.
func TestClientGolden(t *testing.T) {
	set := append(clients.Service(clientService(polder.HTTP2, "fr", "billing.example.com", "pay.example.com", "*.billing.example.com")), clients.Node()...)
	checkMessages(t, set)
	for _, kind := range kinds {
		if kind.typeURL == xds.TypeScope {
			continue // gRPC has none
		}
		wantGolden(t, filepath.Join("testdata", "clients", kind.file), render(t, set, kind.typeURL, true))
	}
}

// TestClientsGetWhatIsServedHere holds that a client gets nothing of a service that
// this region does not serve, or that speaks no HTTP/2; and that instances on
// loopback are there only for clients on Polder's own machine.
func TestClientsGetWhatIsServedHere(t *testing.T) {
	for name, a := range map[string]law.Approved{
		"pinned to nl":    clientService(polder.HTTP2, "nl", "billing.example.com"),
		"without HTTP/2":  clientService(polder.HTTP1, "fr", "billing.example.com"),
		"nobody's at all": {},
	} {
		if set := clients.Service(a); len(set) > 0 {
			t.Errorf("%s: clients get %v, want nothing", name, keysOf(set))
		}
	}
	served := clientService(polder.HTTP2, "fr", "billing.example.com")
	local := clients
	local.Activator = netip.MustParseAddrPort("127.0.0.1:7445")
	for who, c := range map[string]struct {
		clients xds.Clients
		want    []string
	}{
		"on other machines": {clients, []string{"10.0.0.5"}},
		"on this machine":   {local, []string{"10.0.0.5", "127.0.0.1"}},
	} {
		var got []string
		message, err := c.clients.Endpoints(served).Body.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range message.(*endpoint.ClusterLoadAssignment).Endpoints {
			for _, e := range l.LbEndpoints {
				got = append(got, e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
			}
		}
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("clients %s are led to %v, want %v", who, got, c.want)
		}
	}
}

// TestClientNames holds that what a cluster's name says of its service is what it
// was made of, and that the assignment for clients is found by the one for Envoys.
func TestClientNames(t *testing.T) {
	for _, r := range clients.Service(clientService(polder.HTTP2, "fr", "billing.example.com")) {
		service, activator, ok := xds.ClientService(r.Name)
		switch r.Name {
		case "client-instances/billing":
			if service != "billing" || activator || !ok {
				t.Errorf("%s is read as %q, activator: %v, %v", r.Name, service, activator, ok)
			}
		case "client-activator/billing":
			if service != "billing" || !activator || !ok {
				t.Errorf("%s is read as %q, activator: %v, %v", r.Name, service, activator, ok)
			}
		default:
			if ok {
				t.Errorf("%s is taken for a leaf of %s", r.Name, service)
			}
		}
	}
	envoys := xds.Key{Type: xds.TypeEndpoint, Name: xds.ServiceCluster("billing")}
	if key, ok := xds.ClientEndpoints(envoys); !ok || key != clients.Endpoints(clientService(polder.HTTP2, "fr", "billing.example.com")).Key {
		t.Errorf("%v is for clients %v, %v", envoys, key, ok)
	}
	if _, ok := xds.ClientEndpoints(xds.Key{Type: xds.TypeCluster, Name: envoys.Name}); ok {
		t.Error("a cluster is taken for endpoints")
	}
}
