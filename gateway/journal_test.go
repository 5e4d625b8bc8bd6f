package gateway

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/ledger"
	"github.com/polder/polder/gateway/source"
	"github.com/polder/polder/internal/faketime"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// told opens a journal, lets a script use it, and lists what is in the ledger.
func told(t *testing.T, script func(j *journal)) []ledger.Record {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ledger")
	digest := "0"
	j := newJournal(slog.New(slog.DiscardHandler), "fr", func() string { return digest })
	j.configured(nil, &polder.Model{}, polder.Difference{}, ConfigStatus{Source: "polder.yaml", Digest: "abc"}, source.Provenance{})
	if err := j.open(ledger.Options{Dir: dir, Region: "fr"}, startedRecord{Peer: "fr-1"}); err != nil {
		t.Fatal(err)
	}
	script(j)
	if err := j.close("done"); err != nil {
		t.Fatal(err)
	}
	var list []ledger.Record
	if _, err := ledger.Read(dir, 0, func(r ledger.Record) error { list = append(list, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return list
}

func kinds(list []ledger.Record) string {
	var kinds []string
	for _, r := range list[1:] { // the ledger's own first record
		kinds = append(kinds, string(r.Kind))
	}
	return strings.Join(kinds, " ")
}

// TestJournalTellsWhatMatters: changes of policy each, changes of endpoints
// together, refusals and keys once.
func TestJournalTellsWhatMatters(t *testing.T) {
	violations := []proof.Violation{{Services: []polder.ServiceName{"billing"}, Path: []string{"listener x"}, Address: "10.0.0.1:1", Reason: "no"}}
	list := told(t, func(j *journal) {
		j.accepted(7, false)
		j.accepted(0, false)
		j.accepted(1, true)
		j.accepted(1, true)
		j.refused(violations, []string{"no"})
		j.refused(violations, []string{"no"})
		j.accepted(1, true)
		j.refused(violations, []string{"no"})
		for range 3 {
			j.delivered("fr-1", "billing", "billing.example.com", "c1")
			j.delivered("fr-1", "", xds.SecretIdentity, "p1")
		}
		j.delivered("fr-1", "billing", "a.billing.example.com", "c1")
		j.delivered("fr-1", "billing", "billing.example.com", "c2")
		j.accepted(1, true)
	})
	want := "region-started configuration snapshot-accepted snapshot-accepted snapshot-refused snapshot-accepted snapshot-refused " +
		"key-delivered key-delivered key-delivered snapshot-accepted region-stopped"
	if got := kinds(list); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if data := string(list[4].Data); data != `{"digest":"0","changes":2,"endpoints":true}` {
		t.Errorf("two changes of endpoints are told as %s", data)
	}
	if data := string(list[5].Data); !strings.Contains(data, `"address":"10.0.0.1:1"`) {
		t.Errorf("the refusal does not name the address: %s", data)
	}
}

// TestJournalGathersEndpoints for ten seconds and no longer.
func TestJournalGathersEndpoints(t *testing.T) {
	dir := t.TempDir()
	faketime.Test(t, func(t *testing.T) {
		j := newJournal(slog.New(slog.DiscardHandler), "fr", func() string { return "0" })
		if err := j.open(ledger.Options{Dir: dir, Region: "fr"}, startedRecord{}); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		ctx := t.Context()
		go func() { ended <- j.Run(ctx) }()
		before := j.status().Head.Sequence
		j.accepted(3, true)
		for _, c := range []struct {
			after time.Duration
			want  uint64
		}{{gatherEndpoints / 2, 0}, {gatherEndpoints/2 + 2*time.Second, 1}} {
			<-time.After(c.after)
			synctest.Wait()
			if got := j.status().Head.Sequence - before; got != c.want {
				t.Errorf("%d records after %v, want %d", got, c.after, c.want)
			}
		}
		if err := j.close("done"); err != nil {
			t.Fatal(err)
		}
	})
}

// TestPolicyChanges compares what the law makes of two configurations, not
// their words.
func TestPolicyChanges(t *testing.T) {
	model := func(eu []polder.RegionName, services ...polder.Service) *polder.Model {
		m := &polder.Model{Services: services}
		for _, name := range []polder.RegionName{"fr", "nl", "us"} {
			r := polder.Region{Name: name}
			if slices.Contains(eu, name) {
				r.Jurisdictions = []polder.Jurisdiction{"EU"}
			}
			m.Regions = append(m.Regions, r)
		}
		return m
	}
	service := func(name string, allow polder.Place, line int) polder.Service {
		return polder.Service{Name: polder.ServiceName(name), Hosts: []polder.Host{"h.example.com"}, At: polder.Position{Line: line},
			Residency: polder.Residency{Allow: []polder.Place{allow}, Elsewhere: polder.Refuse, Failover: polder.Failover{Class: polder.FailoverClosed}, Telemetry: polder.DefaultTelemetry()}}
	}
	routed := service("a", "fr", 1)
	routed.Endpoints = map[polder.RegionName][]netip.AddrPort{"fr": {netip.MustParseAddrPort("10.0.0.1:80")}}
	eu := []polder.RegionName{"fr", "nl"}
	for name, c := range map[string]struct {
		before, after *polder.Model
		want          []string // what a change names, and whether its policy is another
	}{
		"first":                  {nil, model(eu, service("a", "fr", 1)), []string{"region fr: policy", "region nl: policy", "region us: policy", "a: policy"}},
		"same":                   {model(eu, service("a", "fr", 1)), model(eu, service("a", "fr", 1)), nil},
		"only moved in the file": {model(eu, service("a", "fr", 1)), model(eu, service("a", "fr", 9)), nil},
		"moved to nl":            {model(eu, service("a", "fr", 1)), model(eu, service("a", "nl", 1)), []string{"a: policy"}},
		"gone":                   {model(eu, service("a", "fr", 1)), model(eu), []string{"a: policy"}},
		"another address":        {model(eu, service("a", "fr", 1)), model(eu, routed), []string{"a: other"}},
		"other words, same law":  {model(eu, service("a", "EU", 1), service("b", "fr", 1)), model(eu, service("a", "EU", 1), service("b", "fr", 1)), nil},
		"us joins the EU":        {model(eu, service("a", "EU", 1)), model([]polder.RegionName{"fr", "nl", "us"}, service("a", "EU", 1)), []string{"region us: policy", "a: policy"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, change := range policyChanges(c.before, c.after, polder.Compare(c.before, c.after)) {
				what := string(change.Service)
				if change.Region != "" {
					what = "region " + string(change.Region)
				}
				got = append(got, what+map[bool]string{true: ": other", false: ": policy"}[change.Other])
				if _, err := json.Marshal(change); err != nil {
					t.Error(err)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if got, want := Policy(service("a", "EU", 1), model(eu).Regions),
		"h.example.com: may be opened and served in fr, nl; nowhere else, also when none of them is alive; callers elsewhere are refused"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
