package report

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/audit"
	"github.com/polder/polder/gateway/ledger"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds/proof"
)

// sample is a report on two regions, in which all is well.
func sample(t *testing.T) Data {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m := &polder.Model{
		Regions: []polder.Region{
			{Name: "fr", Title: "Paris", Jurisdictions: []polder.Jurisdiction{"FR", "EU"}, Location: polder.Location{Latitude: 48.86, Longitude: 2.35}},
			{Name: "nl", Title: "Amsterdam", Jurisdictions: []polder.Jurisdiction{"NL", "EU"}, Location: polder.Location{Latitude: 52.37, Longitude: 4.9}},
		},
		Services: []polder.Service{{Name: "billing", Hosts: []polder.Host{"billing.example.com"}}},
	}
	serve := gateway.Ruling{Verdict: law.Serve, Reason: "region is allowed"}
	pass := gateway.Ruling{Verdict: law.Pass, Reason: "region may not open it", Targets: []polder.RegionName{"fr"}}
	lost := gateway.Ruling{Verdict: law.Unavailable, Reason: "nobody is alive"}
	return Data{
		Made: at, Source: "polder.yaml", Digest: "0123456789abcdef0123", Model: m,
		Services: []gateway.Explanation{{Service: "billing", Hosts: m.Services[0].Hosts, Policy: "billing.example.com: in fr only", Allowed: []polder.RegionName{"fr"},
			Regions: []gateway.RegionExplanation{
				{Region: "fr", Title: "Paris", Now: serve, Lost: serve, Ways: []gateway.Way{
					{Kind: proof.ToInstance, Region: "fr", Path: []string{"listener a", "cluster b"}},
					{Kind: proof.ToInstance, Region: "fr", Path: []string{"listener c", "cluster b"}},
					{Kind: proof.ToKey, Region: "fr", Host: "billing.example.com", Path: []string{"listener a"}}}},
				{Region: "nl", Title: "Amsterdam", Now: pass, Lost: lost},
			}}},
		Regions: []Region{evidenceOf("fr", at), evidenceOf("nl", at)},
	}
}

func evidenceOf(name polder.RegionName, at time.Time) Region {
	return Region{Region: name, Running: true, Audit: &audit.Result{Node: string(name) + "-1", At: at, Settled: true, Running: "feedbeef", Resources: 9, Secrets: 2},
		Ledger: &ledger.Summary{Records: 7, From: at, Head: ledger.Head{Sequence: 7, Hash: "cafe"}}}
}

func written(t *testing.T, d Data) string {
	t.Helper()
	var b strings.Builder
	if err := Write(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func record(t *testing.T, sequence uint64, kind ledger.Kind, data any) ledger.Record {
	t.Helper()
	text, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Record{Sequence: sequence, Time: time.Date(2026, 1, 1, 0, 0, int(sequence), 0, time.UTC), Kind: kind, Data: text, Hash: fmt.Sprintf("%064d", sequence)}
}

// TestPageStandsAlone: it fetches nothing and runs nothing, its parts are
// closed, and equal data give equal pages.
func TestPageStandsAlone(t *testing.T) {
	page := written(t, sample(t))
	for _, bad := range []string{"http://", "https://", "<script", "<link", "<img", "src=", "url(", "@import", "javascript:"} {
		if strings.Contains(strings.ToLower(page), bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	decoder := xml.NewDecoder(strings.NewReader(page))
	decoder.Entity = xml.HTMLEntity
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
	}
	if again := written(t, sample(t)); again != page {
		t.Error("the same data give another page")
	}
}

// TestPageSays what its readers look for, when all is well and when not.
func TestPageSays(t *testing.T) {
	fine := sample(t)
	says := func(d Data, wants ...string) {
		t.Helper()
		page := strings.Join(strings.Fields(written(t, d)), " ")
		for _, want := range wants {
			if !strings.Contains(page, want) {
				t.Errorf("the page does not say %q", want)
			}
		}
	}
	says(fine, "<strong>No violation was found.</strong>", "Paris (fr)", "430 km", "FR · EU", `<span class="cell serve">opens and serves</span>`,
		`<span class="cell pass">passes on</span> <span class="to">→ fr</span>`, "billing.example.com: in fr only.",
		"a request reaches an instance in fr<span class=\"path mono\">listener a › cluster b</span><span class=\"path mono\">listener c › cluster b</span>",
		"While no other allowed region is alive: cannot serve: nobody is alive", "head 7:cafe", "feedbeef", "No ledger tells of any")

	serve := gateway.Ruling{Verdict: law.Serve, Reason: "the glass is broken"}
	glass := sample(t)
	glass.Services[0].Glass, glass.Services[0].Regions[1].Broken = []polder.RegionName{"nl"}, &serve
	says(glass, `<span class="cell glass">behind glass</span> <span class="to">passes on</span> <span class="to">→ fr</span>`,
		"The same while the glass is broken: opens and serves: the glass is broken")
	glass.Services[0].Regions[1].Lost = serve
	says(glass, `<span class="cell glass">behind broken glass</span> <span class="to">passes on</span> <span class="to">→ fr</span>`)

	drifted := sample(t)
	drifted.Regions[1].Audit.Drift = []audit.Drift{{Kind: audit.Foreign, What: "listener tap", Reason: "nobody sent it"}}
	drifted.Regions[0].Damage = []string{"segment-00000001.jsonl:4: was changed"}
	drifted.Regions[0].Refused = []string{"service billing: reaches 10.0.0.1"}
	says(drifted, "<strong>3 violations were found.</strong>", "foreign listener tap: nobody sent it", "The ledger was tampered with: segment-00000001.jsonl:4: was changed",
		"service billing: reaches 10.0.0.1", `<circle class="spot bad"`, "not as published", "tampered with")

	blind := sample(t)
	blind.Regions[0] = Region{Region: "fr"}
	blind.Regions[1].Audit.Settled = false
	says(blind, "No violation was found; not everything could be looked at.", "The region does not run", "only looked for what nobody ever published", "There is no ledger.", `<circle class="spot unknown"`)
	if strings.Contains(written(t, blind), "<strong>No violation was found.</strong>") {
		t.Error("a page that knows half says that all is well")
	}

	history := sample(t)
	for i := range history.Regions {
		history.Regions[i].Records = []ledger.Record{
			record(t, 1, ledger.Configuration, map[string]any{"digest": "d1", "changes": []map[string]any{{"service": "billing", "before": "in fr", "after": "in nl"}, {"service": "x", "after": "in pl"}, {"region": "us", "before": "carries US"}, {"service": "y", "other": true}}}),
		}
	}
	history.Regions[0].Records = append(history.Regions[0].Records,
		record(t, 2, ledger.Drifted, map[string]any{"drift": []audit.Drift{{Kind: audit.Changed, What: "bootstrap", Reason: "another"}}, "more": 4}),
		record(t, 3, ledger.Refused, map[string]any{"violations": []map[string]any{{"path": []string{"listener x", "cluster y"}, "address": "10.0.0.9:1", "reason": "is in nl"}}}),
		record(t, 4, ledger.Damaged, map[string]any{"found": []string{"line 4"}}), record(t, 5, ledger.BreakGlass, map[string]any{"who": "ann"}))
	says(history, "Service billing is now: in nl. It was: in fr.", "Service x is new: in pl.", "Region us is gone. It was: carries US.", "Service y changed, and its policy did not.",
		"<td>fr, nl</td>", "changed bootstrap: another", "and 4 more", "listener x › cluster y reaches 10.0.0.9:1: is in nl", "line 4", `{&#34;who&#34;:&#34;ann&#34;}`)
}

// TestPageIsBounded: with many services and records it shows some, and says how
// many it does not.
func TestPageIsBounded(t *testing.T) {
	d := sample(t)
	for i := range MaxDetailed + 50 {
		e := d.Services[0]
		e.Service = polder.ServiceName(fmt.Sprintf("s%d", i))
		d.Services = append(d.Services, e)
		d.Model.Services = append(d.Model.Services, polder.Service{Name: e.Service})
	}
	d.Model.Services = append(d.Model.Services, make([]polder.Service, 7)...)
	for i := range MaxIncidents + 9 {
		d.Regions[0].Records = append(d.Regions[0].Records, record(t, uint64(i+1), ledger.Repaired, map[string]string{"node": "fr-1"}))
	}
	page := written(t, d)
	if n := strings.Count(page, "<details>"); n != MaxDetailed {
		t.Errorf("%d details, want %d", n, MaxDetailed)
	}
	for _, want := range []string{"7 more services are not shown", "9 older ones are"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

// TestPageTrustsNobody: names and reasons come from files and proxies.
func TestPageTrustsNobody(t *testing.T) {
	const bad = `<script>alert(1)</script>"'`
	d := sample(t)
	d.Model.Regions[0].Title, d.Services[0].Policy, d.Source = bad, bad, bad
	d.Regions[0].Audit.Drift = []audit.Drift{{Kind: audit.Foreign, What: bad, Reason: bad}}
	d.Regions[0].Records = []ledger.Record{record(t, 1, ledger.Drifted, map[string]any{"drift": d.Regions[0].Audit.Drift})}
	if strings.Contains(written(t, d), "<script") {
		t.Error("a name became markup")
	}
}

// TestMap keeps all regions inside, wherever on earth they are, and labels apart.
func TestMap(t *testing.T) {
	at := func(name string, latitude, longitude float64) polder.Region {
		return polder.Region{Name: polder.RegionName(name), Title: name, Location: polder.Location{Latitude: latitude, Longitude: longitude}}
	}
	for name, list := range map[string][]polder.Region{
		"none":              nil,
		"one":               {at("a", 0, 0)},
		"at the same place": {at("a", 48, 2), at("b", 48, 2), at("c", 48.01, 2)},
		"around the world":  {at("sydney", -33.9, 151.2), at("quito", 0, -78.5), at("tromsø", 69.6, 18.9), at("auckland", -36.8, 174.8)},
		"at the poles":      {at("n", 90, 180), at("s", -90, -180)},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlan(list, nil)
			for i, s := range p.Spots {
				if math.IsNaN(s.X+s.Y) || s.X < 0 || s.X > planWidth || s.Y < 0 || s.Y > planHeight {
					t.Errorf("%s is at %v, %v", s.Name, s.X, s.Y)
				}
				for _, other := range p.Spots[:i] {
					if math.Abs(s.X-other.X) < 100 && math.Abs(s.LabelY-other.LabelY) < 30 {
						t.Errorf("the labels of %s and %s cover each other", s.Name, other.Name)
					}
				}
			}
			if len(p.Lines) > 80 {
				t.Errorf("%d lines in the grid", len(p.Lines))
			}
		})
	}
}
