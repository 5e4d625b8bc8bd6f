package gateway

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/source"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds/proof"
)

// TestExplain explains the services of the example, in which each is pinned
// differently. No way may end where its owner did not allow it.
func TestExplain(t *testing.T) {
	reading := source.Source{Path: "../examples/polder.yaml"}.Load()
	if len(reading.Faults) > 0 {
		t.Fatal(reading.Faults)
	}
	explainer, err := NewExplainer(reading.Model)
	if err != nil {
		t.Fatal(err)
	}
	type ends map[proof.WayKind][]polder.RegionName
	for service, want := range map[polder.ServiceName]map[polder.RegionName]struct {
		now, lost law.Verdict
		ends      ends
	}{
		"billing": {"fr": {law.Serve, law.Serve, ends{proof.ToInstance: {"fr"}, proof.ToActivator: {"fr"}, proof.ToKey: {"fr"}}},
			"nl": {law.Pass, law.Unavailable, ends{proof.ToPeer: {"fr"}}}, "pl": {law.Pass, law.Unavailable, ends{proof.ToPeer: {"fr"}}}},
		"reports": {"fr": {law.Pass, law.Pass, ends{proof.ToPeer: {"pl"}}}, "nl": {law.Pass, law.Serve, ends{proof.ToPeer: {"pl"}}},
			"pl": {law.Serve, law.Serve, ends{proof.ToInstance: {"pl"}, proof.ToActivator: {"pl"}, proof.ToKey: {"pl"}}}},
		"vault": {"fr": {law.Serve, law.Serve, ends{proof.ToInstance: {"fr"}, proof.ToActivator: {"fr"}, proof.ToKey: {"fr"}}},
			"nl": {law.Forbidden, law.Forbidden, ends{}}, "pl": {law.Forbidden, law.Forbidden, ends{}}},
	} {
		e, err := explainer.Explain(service)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range e.Regions {
			if r.Now.Verdict != want[r.Region].now || r.Lost.Verdict != want[r.Region].lost || len(r.Violations) > 0 {
				t.Errorf("%s in %s: %+v", service, r.Region, r)
			}
			got := ends{}
			for _, w := range r.Ways {
				if w.Kind != proof.ToAnswer && !slices.Contains(got[w.Kind], w.Region) {
					got[w.Kind] = append(got[w.Kind], w.Region)
				}
				if text := w.String(); text == "" || len(w.Path) == 0 {
					t.Errorf("%s in %s: a way without words: %+v", service, r.Region, w)
				}
			}
			if len(got) != len(want[r.Region].ends) {
				t.Errorf("%s in %s: ends are %v, want %v", service, r.Region, got, want[r.Region].ends)
			}
			for kind, regions := range want[r.Region].ends {
				if !slices.Equal(got[kind], regions) {
					t.Errorf("%s in %s: %s ends in %v, want %v", service, r.Region, kind, got[kind], regions)
				}
			}
		}
	}
	if _, err := explainer.Explain("nobody"); !errors.Is(err, ErrNoService) {
		t.Errorf("got %v, want ErrNoService", err)
	}
}

// TestExplainRouted: a service that is only routed shows the addresses that the
// file gives, in the regions where it may be.
func TestExplainRouted(t *testing.T) {
	m := &polder.Model{Regions: testRegions, Services: []polder.Service{{
		Name: "legacy", Hosts: []polder.Host{"*.legacy.example.com"},
		Residency: polder.Residency{Allow: []polder.Place{"EU"}, Elsewhere: polder.Refuse, Failover: polder.Failover{Class: polder.FailoverClosed}},
		Endpoints: map[polder.RegionName][]netip.AddrPort{"nl": {netip.MustParseAddrPort("10.1.0.5:8080")}},
	}}}
	explainer, err := NewExplainer(m)
	if err != nil {
		t.Fatal(err)
	}
	e, err := explainer.Explain("legacy")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range e.Regions {
		instance := slices.ContainsFunc(r.Ways, func(w Way) bool { return w.Kind == proof.ToInstance && strings.Contains(w.Address, "10.1.0.5:8080") })
		if instance != (r.Region == "nl") || len(r.Violations) > 0 {
			t.Errorf("in %s: %+v", r.Region, r)
		}
	}
}
