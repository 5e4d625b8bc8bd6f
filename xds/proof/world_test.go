package proof_test

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// world is one gateway with everything around it. The law and the translation
// make a snapshot of it, and the proof a book; neither sees what the other made.
type world struct {
	model     *polder.Model
	here      polder.RegionName
	alive     polder.RegionHealth
	rank      []polder.RegionName
	peers     map[polder.RegionName][]string
	peerAt    map[string]string
	homes     map[polder.ServiceName]law.Home
	now       time.Time
	disputed  map[polder.ServiceName][]polder.Residency // what peers take policies to be
	instances []polder.Endpoint                         // without those of the configuration
	http3     bool
	remote    *xds.Remote  // for the region's Envoys on other machines
	clients   *xds.Clients // for programs that call without an Envoy
}

const (
	activator     = "/run/polder/activator.sock"
	trustDomain   = "polder.test"
	logFile       = "/var/log/polder/access.log"
	ejectionsFile = "/var/log/polder/ejections.log"
)

var (
	bindHTTPS = netip.MustParseAddrPort("192.0.2.1:443")
	bindHTTP  = netip.MustParseAddrPort("192.0.2.1:80")
	bindPeer  = netip.MustParseAddrPort("192.0.2.1:7443")
)

// noon is when worlds are looked at: the glass of theirs is broken from 8 to 20 o'clock.
var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func (w world) site() proof.Site {
	site := proof.Site{
		Region: w.here, HTTPS: bindHTTPS, HTTP: bindHTTP, Peer: bindPeer,
		TrustDomain: trustDomain, PeerOf: w.peers, Alive: w.alive,
		Activator: activator, ActivatorHeader: "x-polder-service",
		Identity: "peer/identity", Trust: "peer/trust",
		Resident: "resident/", Ending: "until/", Now: w.now, Others: w.others(),
		Local: []string{"polder"}, ByName: "to/", LogFiles: []string{logFile}, Ejections: ejectionsFile,
	}
	if w.clients != nil {
		site.Activator, site.ActivatorAt, site.Clients = "", w.clients.Activator, true
		site.Identity, site.Trust = "polder", "polder"
		site.HTTPS, site.HTTP, site.Peer = netip.AddrPort{}, netip.AddrPort{}, netip.AddrPort{}
	}
	if w.remote != nil {
		site.Activator, site.ActivatorAt = "", w.remote.Activator
		site.HTTPS, site.HTTP, site.Peer = netip.AddrPort{}, netip.AddrPort{}, netip.AddrPort{}
		for _, n := range w.remote.Nodes {
			site.Remote = append(site.Remote, proof.Entrypoints{HTTPS: n.HTTPS, HTTP: n.HTTP})
		}
	}
	return site
}

// others are what peers tell of disputed policies.
func (w world) others() map[polder.ServiceName][]law.Permission {
	told := map[polder.ServiceName][]law.Permission{}
	for name, list := range w.disputed {
		for _, r := range list {
			told[name] = append(told[name], law.Permit(r, w.model.Regions).Terms().Permission())
		}
	}
	return told
}

func (w world) book() *proof.Book { return proof.NewBook(w.model, w.site()) }

// observed lists the instances by service, as the checker wants them.
func (w world) observed() map[polder.ServiceName][]polder.Endpoint {
	by := map[polder.ServiceName][]polder.Endpoint{}
	for _, e := range w.instances {
		by[e.Service] = append(by[e.Service], e)
	}
	return by
}

func (w world) judge() []law.Approved {
	candidates := slices.Clone(w.instances)
	for _, s := range w.model.Services {
		for region, addresses := range s.Endpoints {
			for _, a := range addresses {
				candidates = append(candidates, polder.Endpoint{Service: s.Name, Region: region, Address: a})
			}
		}
	}
	var judged []law.Approved
	for _, s := range w.model.Services {
		judged = append(judged, law.Judge(s, law.Circumstances{
			Here: w.here, Regions: w.model.Regions, Alive: w.alive, Rank: w.rank, Endpoints: candidates, Now: w.now, Others: w.others()[s.Name], Home: w.homes[s.Name]}))
	}
	return judged
}

func (w world) nodeConfig() xds.NodeConfig {
	return xds.NodeConfig{Traces: true, HTTP3: w.http3, Region: w.here, HTTPS: bindHTTPS, HTTP: bindHTTP, Peer: bindPeer, PeerOf: w.peers, PeerAt: w.peerAt, TrustDomain: trustDomain, AccessLog: logFile}
}

func (w world) gateway() xds.Gateway {
	return xds.Gateway{Traces: true, HTTP3: w.http3, Region: w.here, Activator: activator}
}

// snapshot is what the gateway would publish.
func (w world) snapshot() []proof.Resource {
	judged := w.judge()
	var set []xds.Resource
	if w.clients != nil {
		for _, a := range judged {
			set = append(set, w.clients.Service(a)...)
		}
		return plain(append(set, w.clients.Node()...))
	}
	for _, a := range judged {
		set = append(set, xds.Service(a, w.gateway())...)
	}
	set = append(set, xds.Node(judged, w.nodeConfig())...)
	if w.remote == nil {
		return plain(set)
	}
	var derived []xds.Resource
	for _, r := range set {
		derived = append(derived, w.remote.Derive(r)...)
	}
	return plain(derived)
}

func plain(set []xds.Resource) []proof.Resource {
	var list []proof.Resource
	for _, r := range set {
		list = append(list, proof.Resource{Key: proof.Key{Type: r.Type, Name: r.Name}, Body: r.Body})
	}
	return list
}

func (w world) check(resources []proof.Resource) []proof.Violation {
	return proof.NewChecker(w.book()).Propose(proof.Change{Set: resources, Instances: w.observed()}).Violations()
}

// readWorld reads a case of the translation's golden tests.
func readWorld(t testing.TB, name string) world {
	t.Helper()
	file := filepath.Join("..", "testdata", name, "in.yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	config, rest, _ := bytes.Cut(data, []byte("\n---\n"))
	return makeWorld(t, config, rest)
}

func makeWorld(t testing.TB, config, circumstances []byte) world {
	t.Helper()
	result := polder.Decode([]polder.File{{Name: "in.yaml", Data: config, Dir: "/srv"}})
	for _, fault := range result.Faults {
		t.Fatal(fault)
	}
	var in struct {
		Gateway   polder.RegionName
		Alive     []polder.RegionName
		Rank      []polder.RegionName
		Peers     map[polder.RegionName][]string
		At        map[string]string
		Homes     map[polder.ServiceName]string
		Instances map[polder.ServiceName]map[polder.RegionName][]string
		HTTP3     bool
	}
	if err := yaml.UnmarshalWithOptions(circumstances, &in, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	w := world{model: result.Model, now: noon, here: in.Gateway, alive: polder.RegionHealth{}, rank: in.Rank, peers: in.Peers, peerAt: in.At,
		homes: map[polder.ServiceName]law.Home{}, http3: in.HTTP3}
	for service, peer := range in.Homes {
		region, _, _ := strings.Cut(peer, "-")
		w.homes[service] = law.Home{Peer: peer, Region: polder.RegionName(region)}
	}
	for _, r := range in.Alive {
		w.alive[r] = true
	}
	for service, regions := range in.Instances {
		for region, addresses := range regions {
			for _, a := range addresses {
				w.instances = append(w.instances, polder.Endpoint{Service: service, Region: region, Address: netip.MustParseAddrPort(a)})
			}
		}
	}
	return w
}
