package polder

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// decodeGood decodes one file that has no fault.
func decodeGood(t *testing.T, text string) *Model {
	t.Helper()
	r := Decode([]File{{Name: "polder.yaml", Data: []byte(text), Dir: "/etc/polder"}})
	for _, f := range r.Faults {
		t.Error(f)
	}
	if t.Failed() {
		t.FailNow()
	}
	checkModel(t, r.Model)
	return r.Model
}

func TestDecode(t *testing.T) {
	m := decodeGood(t, `
regions:
  pl: { jurisdiction: [PL, EU], location: [52.23, 21.01] }
  fr: { title: Paris, jurisdiction: [FR, EU], location: [48.86, 2.35], listen: { https: ":443", peer: "10.0.0.1:7443", gossip: "[::1]:7946", xds: "10.0.0.1:7444", clients: "10.0.0.1:7445", http3: on }, clients: [checkout, reports], nodes: { fr-2: { https: "10.0.0.2:443" }, fr-3: {} }, join: ["pl-1.example.net:7946"], hold: { saturated: { requests: 500, per-service: 100, memory: 64MiB, wait: 5s } } }
tenants:
  acme: { quota: { instances: 50, memory: 16GiB }, budget: 200.5 EUR/month }
prices:
  currency: EUR
  default: { gib-second: 0.0000025, vcpu-second: 0.000024, request: 0 }
  regions: { pl: { gib-second: 0.000001 } }
services:
  billing:
    tenant: acme
    hosts: [billing.example.com, "*.billing.example.com"]
    residency: { allow: [fr], failover: { listed: [pl] }, elsewhere: refuse }
    run: { command: [./billing, -v], directory: ../bin, environment: { LOG: info }, listen: inherit, ready: /healthz, memory: 64MiB }
    scale: { min: 1, max: 20, concurrency: 5, keep-alive: 7d, prewarm: off, budget: 30 EUR/month }
    protocol: h2c
    timeout: 1m30s
    cold: { answer: page, paths: { /api: reject, /jobs/: accepted } }
  legacy:
    hosts: [legacy.example.com]
    residency: { allow: [EU] }
    endpoints: { fr: ["10.0.0.5:8080", "[2001:db8::1]:80"] }
`)
	want := &Model{
		Regions: []Region{
			{Name: "fr", Title: "Paris", Jurisdictions: []Jurisdiction{"FR", "EU"}, Location: Location{48.86, 2.35}, Peers: 1,
				Listen:  Listen{HTTPS: ":443", Peer: "10.0.0.1:7443", Gossip: "[::1]:7946", XDS: "10.0.0.1:7444", Clients: "10.0.0.1:7445", HTTP3: HTTP3On},
				Clients: []string{"checkout", "reports"}, Nodes: []Node{{Name: "fr-2", HTTPS: "10.0.0.2:443"}, {Name: "fr-3"}}, Join: []string{"pl-1.example.net:7946"},
				Hold: Hold{Saturated: HoldLimits{Requests: 500, PerService: 100, Memory: 64 * MiB, Wait: 5 * time.Second}}},
			{Name: "pl", Title: "pl", Jurisdictions: []Jurisdiction{"PL", "EU"}, Location: Location{52.23, 21.01}, Peers: 1},
		},
		Tenants: []Tenant{{Name: "acme", Quota: Quota{Instances: 50, Memory: 16 * GiB}, Budget: &Money{200_500_000, "EUR"}}},
		Prices: &Prices{Currency: "EUR", Regions: map[RegionName]Price{
			"fr": {GiBSecond: 2500, VCPUSecond: 24000}, "pl": {GiBSecond: 1000, VCPUSecond: 24000}}},
		Services: []Service{
			{Name: "billing", Tenant: "acme", Hosts: []Host{"billing.example.com", "*.billing.example.com"},
				Residency: Residency{Allow: []Place{"fr"}, Failover: Failover{Class: FailoverListed, Regions: []RegionName{"pl"}}, Elsewhere: Refuse, Keys: KeysOnDemand, Telemetry: DefaultTelemetry()},
				Run: &Run{Command: []string{"./billing", "-v"}, Directory: "/etc/bin", Environment: map[string]string{"LOG": "info"},
					Listen: ListenInherit, Ready: "/healthz", Memory: 64 * MiB},
				Scale:    Scale{Min: 1, Max: 20, Concurrency: 5, KeepAlive: 7 * 24 * time.Hour, Pause: AutoPause, Prewarm: PrewarmOff, Budget: &Money{30_000_000, "EUR"}},
				Protocol: HTTP2, Timeout: 90 * time.Second, At: Position{"polder.yaml", 12, 3},
				Cold: Cold{Answer: ColdPage, Paths: map[string]ColdAnswer{"/api": ColdReject, "/jobs/": ColdAccepted}}},
			{Name: "legacy", Hosts: []Host{"legacy.example.com"},
				Residency: Residency{Allow: []Place{"EU"}, Failover: Failover{Class: FailoverClosed}, Elsewhere: PassThrough, Keys: KeysOnDemand, Telemetry: DefaultTelemetry()},
				Endpoints: map[RegionName][]netip.AddrPort{"fr": {netip.MustParseAddrPort("10.0.0.5:8080"), netip.MustParseAddrPort("[2001:db8::1]:80")}},
				Scale:     Scale{Max: DefaultMax, Concurrency: DefaultConcurrency, KeepAlive: AutoKeepAlive, Pause: AutoPause, Prewarm: PrewarmAuto},
				Protocol:  HTTP1, Timeout: DefaultTimeout, Cold: Cold{Answer: ColdHold}, At: Position{"polder.yaml", 21, 3}},
		},
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("got\n%+v\nwant\n%+v", m, want)
	}
}

func TestPricesOfARegion(t *testing.T) {
	prices := &Prices{Currency: "EUR", Regions: map[RegionName]Price{"fr": {GiBSecond: 2500}}}
	if p, ok := prices.In("fr"); !ok || p.GiBSecond != 2500 {
		t.Errorf("got %+v, %v", p, ok)
	}
	if _, ok := prices.In("nl"); ok {
		t.Error("there are prices where none are listed")
	}
	if _, ok := (*Prices)(nil).In("fr"); ok {
		t.Error("there are prices without a price list")
	}
}

func TestTheExamplesDecode(t *testing.T) {
	example, err := os.ReadFile("examples/polder.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []ServiceName{"billing", "catalog", "reports", "vault"} {
		if _, ok := decodeGood(t, string(example)).Service(name); !ok {
			t.Errorf("the example has no service %s", name)
		}
	}
	decodeGood(t, string(docExample(t)))
}

// The lines of the documentation's fault are what RenderFaults writes.
func TestTheDocumentedFaultIsReal(t *testing.T) {
	_, rest, _ := strings.Cut(introduction, "instead:\n\n```\n")
	want, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/config.md has no fault")
	}
	text := header + "services:\n  billing:\n    residency: { allow: [fe] }\n    hosts: [a.example.com]\n    run: { command: [./x] }\n"
	files := []File{{Name: "polder.yaml", Data: []byte(text)}}
	var b strings.Builder
	if err := RenderFaults(&b, Decode(files).Faults, files); err != nil {
		t.Fatal(err)
	}
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestDefaultsAreAsDocumented(t *testing.T) {
	defaults := func(shape any) string {
		var keys []string
		for i := range reflect.TypeOf(shape).NumField() {
			f := reflect.TypeOf(shape).Field(i)
			if value, ok := f.Tag.Lookup("default"); ok {
				keys = append(keys, f.Tag.Get("yaml")+": "+value)
			}
		}
		return strings.Join(keys, ", ")
	}
	silent := decodeGood(t, header+"services:\n  a: { hosts: [a.example.com], residency: { allow: [fr] }, run: { command: [./a] } }\n")
	spoken := decodeGood(t, header+fmt.Sprintf("services:\n  a: { hosts: [a.example.com], residency: { allow: [fr], %s }, run: { command: [./a], %s }, scale: { %s }, cold: { %s }, %s }\n",
		defaults(residencyShape{}), defaults(runShape{}), defaults(scaleShape{}), defaults(coldShape{}), defaults(serviceShape{})))
	if !reflect.DeepEqual(silent, spoken) {
		t.Errorf("left out:\n%+v\nwritten:\n%+v", silent, spoken)
	}
	if n := strings.Count(defaults(residencyShape{})+defaults(runShape{})+defaults(scaleShape{})+defaults(serviceShape{}), ": "); n < 10 {
		t.Errorf("only %d defaults are documented", n)
	}
}

func TestEveryDocumentedExampleHasItsKeysForm(t *testing.T) {
	for _, s := range sections("", reflect.TypeFor[configShape]()) {
		for i := range s.shape.NumField() {
			f := s.shape.Field(i)
			text := f.Tag.Get("yaml") + ": " + f.Tag.Get("example") + "\n"
			tree, faults := grow(File{Name: "example", Data: []byte(text)})
			if len(faults) > 0 {
				t.Errorf("%s: %v", s.title, faults)
				continue
			}
			d := newDecoder()
			d.structure(tree, reflect.New(s.shape).Elem(), "services.x", "")
			for _, fault := range d.faults {
				if !strings.HasSuffix(fault.Message, " is missing") {
					t.Errorf("%s %s: %v", s.title, strings.TrimSpace(text), fault)
				}
			}
			if f.Tag.Get("jsonschema_description") == "" {
				t.Errorf("%s %s: is not described", s.title, f.Name)
			}
		}
	}
}

func TestDirectoriesAreTakenFromTheirFile(t *testing.T) {
	for _, c := range []struct{ name, dir, directory, want string }{
		{"/etc/polder/polder.yaml", "", "", "/etc/polder"},
		{"/etc/polder/polder.yaml", "", "bin", "/etc/polder/bin"},
		{"/etc/polder/polder.yaml", "", "../bin/", "/etc/bin"},
		{"/etc/polder/polder.yaml", "", "/srv/./bin", "/srv/bin"},
		{"conf/polder.yaml", "/home/a/conf", "bin", "/home/a/conf/bin"},
		{"conf/polder.yaml", "/home/a/conf/", "", "/home/a/conf"},
		{"conf/polder.yaml", "", "bin", "conf/bin"},
	} {
		run := "{ command: [./x] }"
		if c.directory != "" {
			run = "{ command: [./x], directory: " + c.directory + " }"
		}
		text := header + "services: { a: { hosts: [a.example.com], residency: { allow: [fr] }, run: " + run + " } }\n"
		r := Decode([]File{{Name: c.name, Data: []byte(text), Dir: c.dir}})
		if s, _ := r.Model.Service("a"); s.Run == nil || s.Run.Directory != c.want {
			t.Errorf("%+v: got %+v", c, s.Run)
		}
	}
}

func TestAliases(t *testing.T) {
	m := decodeGood(t, header+`services:
  a: { hosts: [a.example.com], residency: &french { allow: [fr] }, run: &program { command: [./a] } }
  b: { hosts: [b.example.com], residency: *french, run: *program }
`)
	a, _ := m.Service("a")
	b, _ := m.Service("b")
	if !reflect.DeepEqual(a.Residency, b.Residency) || !reflect.DeepEqual(a.Run, b.Run) {
		t.Errorf("the alias is not what its anchor says: %+v %+v", a, b)
	}
}

func TestAliasBombsAreBounded(t *testing.T) {
	hosts := strings.TrimSuffix(strings.Repeat("h, ", 2000), ", ")
	var b strings.Builder
	fmt.Fprintf(&b, "%sservices:\n  base: { hosts: &h [%s] }\n", header, hosts)
	for i := range 2000 {
		fmt.Fprintf(&b, "  s%d: { hosts: *h }\n", i)
	}
	r := Decode([]File{{Name: "polder.yaml", Data: []byte(b.String())}})
	bomb := func(f Fault) bool { return strings.HasPrefix(f.Message, "aliases stand for more than") }
	if !r.Fatal || !slices.ContainsFunc(r.Faults, bomb) {
		t.Errorf("fatal %v, %d faults", r.Fatal, len(r.Faults))
	}
	// The doubling kind, which is a list of lists to us and so no text.
	text := header + "services:\n  a: { hosts: &a [x, x] }\n"
	for c := 'b'; c < 'z'; c++ {
		text += fmt.Sprintf("  %c: { hosts: &%c [*%c, *%c] }\n", c, c, c-1, c-1)
	}
	if r := Decode([]File{{Name: "polder.yaml", Data: []byte(text)}}); len(r.Faults) == 0 || len(r.Faults) > 500 {
		t.Errorf("%d faults", len(r.Faults))
	}
}

func TestNoFileAndTheSameFileTwice(t *testing.T) {
	for message, files := range map[string][]File{
		"there is no configuration file": nil,
		"the file was given twice":       {{Name: "a.yaml", Data: []byte(good)}, {Name: "a.yaml", Data: []byte(good)}},
		"the configuration has more than 33554432 bytes": {
			{Name: "a.yaml", Data: make([]byte, MaxTotalSize)}, {Name: "b.yaml", Data: make([]byte, 1)}},
		"the configuration has 1001 files, more than 1000": func() []File {
			var files []File
			for i := range MaxFiles + 1 {
				files = append(files, File{Name: fmt.Sprint(i)})
			}
			return files
		}(),
	} {
		r := Decode(files)
		if !r.Fatal || len(r.Faults) != 1 || r.Faults[0].Message != message || r.Faults[0].Fix == "" {
			t.Errorf("got %v, want %q", r.Faults, message)
		}
	}
}
