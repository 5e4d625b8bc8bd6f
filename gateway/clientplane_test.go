package gateway

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
	"github.com/polder/polder/xds/server"
)

// clientStage is a client plane of region fr with what it published.
type clientStage struct {
	t         *testing.T
	plane     *clientPlane
	model     polder.Model
	held      map[xds.Key]xds.Resource
	names     []string
	instances map[polder.ServiceName][]polder.Endpoint
}

func (s *clientStage) Apply(set []xds.Resource, remove []xds.Key) int {
	for _, r := range set {
		s.held[r.Key] = r
	}
	for _, k := range remove {
		delete(s.held, k)
	}
	return len(set) + len(remove)
}

func newClientStage(t *testing.T, services ...polder.Service) *clientStage {
	s := &clientStage{t: t, held: map[xds.Key]xds.Resource{}, instances: map[polder.ServiceName][]polder.Endpoint{}}
	s.plane = newClientPlane(proof.Site{Region: "fr", TrustDomain: "polder.test"}, netip.MustParseAddrPort("10.0.0.1:7445"),
		func(names []string) { s.names = names })
	s.plane.publisher = s
	s.model = polder.Model{Regions: []polder.Region{{Name: "fr", Clients: []string{"checkout"}}, {Name: "nl"}}, Services: services}
	return s
}

// called is a service of fr that clients can call.
func called(name polder.ServiceName, hosts ...polder.Host) polder.Service {
	return polder.Service{Name: name, Hosts: hosts, Timeout: time.Minute, Protocol: polder.HTTP2, Run: &polder.Run{},
		Residency: polder.Residency{Allow: []polder.Place{"fr"}, Failover: polder.Failover{Class: polder.FailoverClosed}}}
}

func (s *clientStage) judged(spec polder.Service) law.Approved {
	return law.Judge(spec, law.Circumstances{Here: "fr", Regions: s.model.Regions, Alive: polder.RegionHealth{"fr": true, "nl": true}, Endpoints: s.instances[spec.Name]})
}

// propose makes a change, with another book if it is of services.
func (s *clientStage) propose(c toClients) []proof.Violation {
	change := change{clients: c, instances: s.instances}
	if c.whole || len(c.judged)+len(c.gone) > 0 {
		s.plane.prepare(&s.model, proof.Site{Region: "fr", TrustDomain: "polder.test", Alive: polder.RegionHealth{"fr": true, "nl": true}})
		change.book = s.plane.next.book
	}
	commit, violations := s.plane.propose(change)
	if len(violations) == 0 {
		commit()
	}
	return violations
}

func (s *clientStage) must(c toClients) {
	s.t.Helper()
	if found := s.propose(c); len(found) > 0 {
		s.t.Fatalf("refused: %v", found)
	}
}

// hosts lists the listeners that are published, sorted.
func (s *clientStage) hosts() []string {
	var list []string
	for k := range s.held {
		if k.Type == xds.TypeListener {
			list = append(list, k.Name)
		}
	}
	slices.Sort(list)
	return list
}

// TestClientPlaneFollows holds what clients have after services come, go and change,
// after a host moves from one to another, and after an instance comes; and that the
// activator finds the service of each host, and of no other.
func TestClientPlaneFollows(t *testing.T) {
	billing, catalog := called("billing", "billing.example.com", "pay.example.com"), called("catalog", "catalog.example.com")
	s := newClientStage(t, billing, catalog)
	s.must(toClients{whole: true, judged: []law.Approved{s.judged(billing), s.judged(catalog)}})
	wants := func(hosts map[string]polder.ServiceName) {
		t.Helper()
		for _, host := range []string{"billing.example.com", "pay.example.com", "catalog.example.com", "stranger.example.com"} {
			want, published := hosts[host]
			if got, ok := s.plane.hosts.service(host); got != want || ok != published {
				t.Errorf("%s is %s's, %v; want %s's", host, got, ok, want)
			}
			if got := slices.Contains(s.hosts(), host); got != published {
				t.Errorf("%s is published: %v, want %v", host, got, published)
			}
		}
	}
	wants(map[string]polder.ServiceName{"billing.example.com": "billing", "pay.example.com": "billing", "catalog.example.com": "catalog"})
	if !slices.Equal(s.names, []string{"checkout"}) {
		t.Errorf("the clients are %v, want checkout", s.names)
	}

	before := s.held[xds.Key{Type: xds.TypeRoute, Name: "client/pay.example.com"}].Version
	billing.Hosts, catalog.Hosts = billing.Hosts[:1], append(catalog.Hosts, "pay.example.com")
	s.model.Services = []polder.Service{billing, catalog}
	s.must(toClients{judged: []law.Approved{s.judged(billing), s.judged(catalog)}})
	wants(map[string]polder.ServiceName{"billing.example.com": "billing", "pay.example.com": "catalog", "catalog.example.com": "catalog"})
	if after := s.held[xds.Key{Type: xds.TypeRoute, Name: "client/pay.example.com"}].Version; after == before {
		t.Error("the routes of a host that moved are as before")
	}

	key := xds.Key{Type: xds.TypeEndpoint, Name: "client-instances/billing"}
	asleep := s.held[key].Version
	s.instances["billing"] = []polder.Endpoint{{Service: "billing", Region: "fr", Address: netip.MustParseAddrPort("10.0.0.5:8080")}}
	s.must(toClients{moved: []law.Approved{s.judged(billing)}})
	if s.held[key].Version == asleep {
		t.Error("an instance came, and the endpoints are as before")
	}

	s.model.Services = []polder.Service{catalog}
	s.must(toClients{gone: []polder.ServiceName{"billing"}})
	wants(map[string]polder.ServiceName{"pay.example.com": "catalog", "catalog.example.com": "catalog"})
	if _, there := s.held[key]; there {
		t.Error("a service is gone, and its endpoints are there")
	}
	s.model.Services, s.model.Regions[0].Clients = nil, []string{"reports"}
	s.must(toClients{whole: true})
	wants(nil)
	if len(s.held) != 1 || len(s.plane.keys) > 0 {
		t.Errorf("without services clients have %v, want the activator's address alone", s.held)
	}
	if !slices.Equal(s.names, []string{"reports"}) {
		t.Errorf("the clients are %v, want reports", s.names)
	}
}

// TestClientPlaneFailsClosed holds that what the proof refuses changes nothing, neither
// for clients nor for the activator, and says for whom it would have been.
func TestClientPlaneFailsClosed(t *testing.T) {
	billing := called("billing", "billing.example.com")
	s := newClientStage(t, billing)
	s.must(toClients{whole: true, judged: []law.Approved{s.judged(billing)}})
	held := len(s.held)
	s.model.Regions[0].Clients = []string{"reports"}

	pinned := called("dutch", "dutch.example.com")
	verdict := s.judged(pinned) // as if it were of fr
	pinned.Residency.Allow = []polder.Place{"nl"}
	s.model.Services = []polder.Service{billing, pinned}
	found := s.propose(toClients{judged: []law.Approved{s.judged(billing), verdict}})
	if len(found) == 0 {
		t.Fatal("the proof lets clients have a service of another region")
	}
	for _, v := range found {
		if !slices.Equal(v.Services, []polder.ServiceName{"dutch"}) || !strings.Contains(v.Reason, "clients without an Envoy") {
			t.Errorf("got %s, want it to be about dutch, for clients", v)
		}
	}
	if _, ok := s.plane.hosts.service("dutch.example.com"); ok || len(s.held) != held || !slices.Equal(s.names, []string{"checkout"}) {
		t.Errorf("after a refusal: %d resources, clients %v", len(s.held), s.names)
	}
	// An address that was never an instance's.
	verdict = law.Judge(billing, law.Circumstances{Here: "fr", Regions: s.model.Regions, Endpoints: []polder.Endpoint{
		{Service: "billing", Region: "fr", Address: netip.MustParseAddrPort("203.0.113.9:80")}}})
	if found := s.propose(toClients{moved: []law.Approved{verdict}}); len(found) == 0 || found[0].Address != "203.0.113.9:80" {
		t.Errorf("an address that nobody knows: %v", found)
	}
}

// TestPlanesWaitForClients holds that whoever waits for the endpoints of a service also
// waits for the clients' answer to what became of them.
func TestPlanesWaitForClients(t *testing.T) {
	r := newDoorRig(t) // as the clients' control plane
	p := planes{local: server.New(server.Options{Log: r.door.log}), clients: r.server}
	stream, err := r.connect(r.node(r.issuer, "fr-2"), "fr-2", "fr")
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv() // the listeners
	if err != nil {
		t.Fatal(err)
	}
	key := xds.Key{Type: xds.TypeEndpoint, Name: xds.ServiceCluster("billing")}
	theirs, _ := xds.ClientEndpoints(key)
	r.server.Apply([]xds.Resource{xds.Restore(theirs, nil)}, nil)
	for _, request := range []*discovery.DeltaDiscoveryRequest{
		{TypeUrl: xds.TypeListener, ResponseNonce: first.Nonce}, {TypeUrl: xds.TypeEndpoint, ResourceNamesSubscribe: []string{theirs.Name}},
	} {
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
	}
	sent, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if p.Wait(ended, key) == nil {
		t.Error("the client was sent the endpoints and has not answered, and nobody waits for it")
	}
	if err := p.Wait(ended, xds.Key{Type: xds.TypeCluster, Name: key.Name}); err != nil {
		t.Error("a cluster is none of the client's: ", err)
	}
	if err := stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.TypeEndpoint, ResponseNonce: sent.Nonce}); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context(), key); err != nil {
		t.Error(err)
	}
}

// TestWhatClientsAreToldOf holds which endpoints are for clients: ready instances, also
// at a berth; not an empty berth, which gRPC would connect to before anybody calls; and
// none while all instances are busy.
func TestWhatClientsAreToldOf(t *testing.T) {
	const berth, instance = "127.0.0.1:20001", "127.0.0.1:20002"
	r := newReconciler(slog.New(slog.DiscardHandler), xds.Gateway{Region: "fr"}, xds.NodeConfig{Region: "fr"}, nil, nil, nil)
	r.gate.clients = newClientPlane(r.gate.site, netip.MustParseAddrPort("127.0.0.1:7445"), func([]string) {})
	r.model = &polder.Model{Regions: []polder.Region{{Name: "fr"}}}
	ready := func(at string) *running {
		return &running{Instance: polder.Instance{ID: polder.InstanceID(at), Service: "billing", Region: "fr", State: polder.Ready, Address: netip.MustParseAddrPort(at)}}
	}
	for name, c := range map[string]struct {
		berth, ready string
		hidden       bool
		want         []netip.AddrPort
	}{
		"asleep":                       {},
		"an instance":                  {ready: instance, want: []netip.AddrPort{netip.MustParseAddrPort(instance)}},
		"an empty berth":               {berth: berth},
		"an instance at the berth":     {berth: berth, ready: berth, want: []netip.AddrPort{netip.MustParseAddrPort(berth)}},
		"an instance beside the berth": {berth: berth, ready: instance, want: []netip.AddrPort{netip.MustParseAddrPort(instance)}},
		"busy instances":               {ready: instance, hidden: true},
		"a busy instance at the berth": {berth: berth, ready: berth, hidden: true},
	} {
		s := newService(called("billing", "billing.example.com"))
		s.here, s.busyNow.hidden = "fr", c.hidden
		if c.berth != "" {
			s.berth = netip.MustParseAddrPort(c.berth)
		}
		if c.ready != "" {
			s.running["1"] = ready(c.ready)
		}
		s.approved = r.judge(s)
		if got := r.forClients(s); !slices.Equal(got.Endpoints(), c.want) || got.Verdict() != law.Serve {
			t.Errorf("%s: clients are told of %v, %v; want %v", name, got.Endpoints(), got.Verdict(), c.want)
		}
	}
}

// TestAdoptedInstancesAreKeptForClients: an instance that an earlier Polder left behind
// may be called by clients that have not connected again. It is kept for as long as
// that may take, and not longer; one of a service that clients cannot call is not.
func TestAdoptedInstancesAreKeptForClients(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		callable, other := started("callable", time.Second), started("other", time.Second)
		callable.Protocol = polder.HTTP2
		w.r.do(w.ctx, func(time.Time) {
			w.r.gate.clients = newClientPlane(w.r.gate.site, netip.MustParseAddrPort("127.0.0.1:7445"), func([]string) {})
			w.r.gate.clients.publisher = &quiet{}
		})
		w.r.SetModel(w.ctx, &polder.Model{Regions: testRegions, Services: []polder.Service{callable, other}})
		var ran []polder.Instance
		for i, s := range []polder.Service{callable, other} {
			ran = append(ran, polder.Instance{ID: polder.InstanceID(s.Name + "-1"), Service: s.Name, Region: "fr", State: polder.Ready,
				Started: time.Now(), Ready: time.Now(), Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(20001+i))})
		}
		w.r.Begin(w.ctx, ran)
		stopped := func(id string) bool { return slices.Contains(w.journal(), "stop "+id) }
		after(silentAfter - 5*time.Second)
		if !stopped("other-1") || stopped("callable-1") {
			t.Errorf("before clients must be back: %v", w.journal())
		}
		after(15 * time.Second)
		if !stopped("callable-1") {
			t.Errorf("no client came back: %v", w.journal())
		}
	})
}
