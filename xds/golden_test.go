package xds_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
)

var update = flag.Bool("update", false, "rewrite the golden files; read the diff before you commit it")

// kinds are the golden files of a case, one per kind of resource.
var kinds = []struct{ file, typeURL string }{
	{"listeners.yaml", xds.TypeListener},
	{"scopes.yaml", xds.TypeScope},
	{"routes.yaml", xds.TypeRoute},
	{"clusters.yaml", xds.TypeCluster},
	{"endpoints.yaml", xds.TypeEndpoint},
}

// circumstances is the second document of a case's in.yaml: what the gateway
// knows beside the configuration, which is the first.
type circumstances struct {
	Gateway   polder.RegionName
	Alive     []polder.RegionName
	Rank      []polder.RegionName
	Peers     map[polder.RegionName][]string
	At        map[string]string             // addresses of the peers by name
	Homes     map[polder.ServiceName]string // their peers
	Instances map[polder.ServiceName]map[polder.RegionName][]string
	HTTP3     bool
}

// world is one case, ready to be judged and translated.
type world struct {
	model *polder.Model
	at    circumstances
}

func readWorld(t *testing.T, file string) world {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	config, rest, ok := bytes.Cut(data, []byte("\n---\n"))
	if !ok {
		t.Fatalf("%s needs two documents: a configuration and the circumstances", file)
	}
	result := polder.Decode([]polder.File{{Name: file, Data: config, Dir: "/srv"}})
	for _, fault := range result.Faults {
		t.Fatal(fault)
	}
	w := world{model: result.Model}
	if err := yaml.UnmarshalWithOptions(rest, &w.at, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return w
}

func (w world) endpoints() []polder.Endpoint {
	var all []polder.Endpoint
	for service, regions := range w.at.Instances {
		for region, addresses := range regions {
			for _, a := range addresses {
				all = append(all, polder.Endpoint{Service: service, Region: region, Address: netip.MustParseAddrPort(a)})
			}
		}
	}
	for _, s := range w.model.Services {
		for region, addresses := range s.Endpoints {
			for _, a := range addresses {
				all = append(all, polder.Endpoint{Service: s.Name, Region: region, Address: a})
			}
		}
	}
	return all
}

func (w world) judge(services []polder.Service, endpoints []polder.Endpoint) []law.Approved {
	health := polder.RegionHealth{}
	for _, r := range w.at.Alive {
		health[r] = true
	}
	judged := make([]law.Approved, 0, len(services))
	for _, s := range services {
		home := law.Home{Peer: w.at.Homes[s.Name]}
		if region, _, named := strings.Cut(home.Peer, "-"); named {
			home.Region = polder.RegionName(region)
		}
		judged = append(judged, law.Judge(s, law.Circumstances{
			Home: home, Here: w.at.Gateway, Regions: w.model.Regions, Alive: health, Rank: w.at.Rank, Endpoints: endpoints}))
	}
	return judged
}

func (w world) translate(judged []law.Approved) []xds.Resource {
	var set []xds.Resource
	for _, a := range judged {
		set = append(set, xds.Service(a, xds.Gateway{Region: w.at.Gateway, Activator: "/run/polder/activator.sock", HTTP3: w.at.HTTP3})...)
	}
	return append(set, xds.Node(judged, xds.NodeConfig{
		Region:      w.at.Gateway,
		HTTPS:       netip.MustParseAddrPort("192.0.2.1:443"),
		HTTP:        netip.MustParseAddrPort("192.0.2.1:80"),
		Peer:        netip.MustParseAddrPort("192.0.2.1:7443"),
		PeerOf:      w.at.Peers,
		PeerAt:      w.at.At,
		TrustDomain: "polder.test",
		HTTP3:       w.at.HTTP3,
	})...)
}

// snapshot judges and translates everything, in the given order of services.
func (w world) snapshot() []xds.Resource {
	return w.translate(w.judge(w.model.Services, w.endpoints()))
}

// TestGolden holds the resources of each case against files that people have
// read. Every message, however deep, is valid, and every name that a resource
// mentions exists.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*/in.yaml")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, in := range cases {
		dir := filepath.Dir(in)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			set := readWorld(t, in).snapshot()
			checkMessages(t, set)
			checkReferences(t, set)
			for _, kind := range kinds {
				wantGolden(t, filepath.Join(dir, kind.file), render(t, set, kind.typeURL, filepath.Base(dir) == "everything"))
			}
		})
	}
}

// render writes all resources of a type, sorted by name. Unless whole, of an HTTP
// connection manager only what differs between cases is left: its routes.
func render(t *testing.T, set []xds.Resource, typeURL string, whole bool) []byte {
	t.Helper()
	set = slices.DeleteFunc(slices.Clone(set), func(r xds.Resource) bool { return r.Type != typeURL })
	slices.SortFunc(set, func(a, b xds.Resource) int { return strings.Compare(a.Name, b.Name) })
	var out bytes.Buffer
	for _, r := range set {
		message, err := r.Body.UnmarshalNew()
		if err != nil {
			t.Fatalf("%s: %v", r.Name, err)
		}
		if l, ok := message.(*listener.Listener); ok && !whole {
			abridge(t, l)
		}
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
		if err != nil {
			t.Fatalf("%s: %v", r.Name, err)
		}
		readable, err := yaml.JSONToYAML(text)
		if err != nil {
			t.Fatalf("%s: %v", r.Name, err)
		}
		fmt.Fprintf(&out, "---\n%s", readable)
	}
	return out.Bytes()
}

func abridge(t *testing.T, l *listener.Listener) {
	t.Helper()
	for _, chain := range l.FilterChains {
		for _, f := range chain.Filters {
			manager := new(hcm.HttpConnectionManager)
			if !f.GetTypedConfig().MessageIs(manager) {
				continue
			}
			if err := f.GetTypedConfig().UnmarshalTo(manager); err != nil {
				t.Fatal(err)
			}
			short := &hcm.HttpConnectionManager{StatPrefix: manager.StatPrefix, RouteSpecifier: manager.RouteSpecifier}
			if err := f.GetTypedConfig().MarshalFrom(short); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// wantGolden compares with a golden file, or writes it.
func wantGolden(t *testing.T, golden string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v; make golden writes it", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from line %d on; if that is right, run make golden and read the diff.\ngot:\n%s", golden, differsAt(got, want), got)
	}
}

func differsAt(a, b []byte) int {
	left, right := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(left), len(right)) {
		if !bytes.Equal(left[i], right[i]) {
			return i + 1
		}
	}
	return min(len(left), len(right)) + 1
}
