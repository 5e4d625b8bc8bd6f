package gateway

import (
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// TestSpansStayWhereTheOwnerWantsThem: a collector is told of a service only where
// the policy lets traces be kept in the collector's region, whatever this one is.
func TestSpansStayWhereTheOwnerWantsThem(t *testing.T) {
	regions := []polder.Region{{Name: "fr", Jurisdictions: []polder.Jurisdiction{"EU"}}, {Name: "nl", Jurisdictions: []polder.Jurisdiction{"EU"}}, {Name: "us"}}
	service := func(kept polder.Kept, failover []polder.RegionName, allow ...polder.Place) polder.Service {
		s := polder.Service{Name: "shop", Run: &polder.Run{Command: []string{"./shop"}}, Hosts: []polder.Host{"shop.example.com"}, Residency: polder.Residency{
			Allow: allow, Failover: polder.Failover{Class: polder.FailoverClosed}, Elsewhere: polder.PassThrough, Telemetry: polder.DefaultTelemetry()}}
		s.Residency.Telemetry.Traces = kept
		if len(failover) > 0 {
			s.Residency.Failover = polder.Failover{Class: polder.FailoverListed, Regions: failover}
		}
		return s
	}
	for name, test := range map[string]struct {
		service polder.Service
		here    polder.RegionName
		told    []polder.RegionName
	}{
		"only here":               {service(polder.KeptServing, nil, "fr"), "fr", []polder.RegionName{"fr"}},
		"the jurisdiction":        {service(polder.KeptServing, nil, "EU"), "fr", []polder.RegionName{"fr", "nl"}},
		"stand-ins":               {service(polder.KeptServing, []polder.RegionName{"us"}, "fr"), "fr", []polder.RegionName{"fr", "us"}},
		"not where one stands in": {service(polder.KeptAllowed, []polder.RegionName{"us"}, "fr"), "fr", []polder.RegionName{"fr"}},
		"nowhere":                 {service(polder.KeptNowhere, nil, "EU"), "fr", nil},
		"not served here":         {service(polder.KeptServing, nil, "nl"), "fr", nil},
	} {
		approved := law.Judge(test.service, law.Circumstances{Here: test.here, Regions: regions, Alive: polder.RegionHealth{"fr": true, "nl": true, "us": true}})
		r := &Region{}
		if r.mayExport("shop", test.here) {
			t.Fatal("told before anything is known")
		}
		r.served.replace(map[polder.ServiceName]law.Approved{"shop": approved})
		for _, region := range regions {
			want := false
			for _, told := range test.told {
				want = want || told == region.Name
			}
			if got := r.mayExport("shop", region.Name); got != want {
				t.Errorf("%s: a collector in %s is told: %v, want %v", name, region.Name, got, want)
			}
		}
		if r.mayExport("other", "fr") {
			t.Errorf("%s: told of a service that nobody knows", name)
		}
	}
}
