package law_test

import (
	"slices"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// A home comes first where the law lets it have the callers, and changes nothing
// where it does not.
func TestHome(t *testing.T) {
	regions := []polder.Region{
		{Name: "fr", Jurisdictions: []polder.Jurisdiction{"EU"}}, {Name: "nl", Jurisdictions: []polder.Jurisdiction{"EU"}},
		{Name: "pl", Jurisdictions: []polder.Jurisdiction{"EU"}}, {Name: "us"},
	}
	alive := polder.RegionHealth{"fr": true, "nl": true, "pl": true, "us": true}
	service := func(allow ...polder.Place) polder.Service {
		return polder.Service{Name: "orders", Run: &polder.Run{}, Residency: polder.Residency{Allow: allow, Elsewhere: polder.PassThrough}}
	}
	standby := service("nl")
	standby.Residency.Failover = polder.Failover{Class: polder.FailoverListed, Regions: []polder.RegionName{"fr"}}
	refusing := service("nl")
	refusing.Residency.Elsewhere = polder.Refuse
	none := law.Home{}
	for name, tt := range map[string]struct {
		service polder.Service
		home    law.Home
		alive   polder.RegionHealth
		verdict law.Verdict
		targets []polder.RegionName
		want    law.Home
	}{
		"no home":                       {service("EU"), none, alive, law.Serve, nil, none},
		"in another allowed region":     {service("EU"), law.Home{Peer: "nl-1", Region: "nl"}, alive, law.Serve, nil, law.Home{Peer: "nl-1", Region: "nl"}},
		"at another peer of the region": {service("fr"), law.Home{Peer: "fr-2", Region: "fr"}, alive, law.Serve, nil, law.Home{Peer: "fr-2", Region: "fr"}},
		"in a forbidden region":         {service("EU"), law.Home{Peer: "us-1", Region: "us"}, alive, law.Serve, nil, none},
		"in a region that is dead":      {service("EU"), law.Home{Peer: "nl-1", Region: "nl"}, polder.RegionHealth{"fr": true}, law.Serve, nil, none},
		"far away, preferred to near": {service("nl", "pl"), law.Home{Peer: "pl-1", Region: "pl"}, alive, law.Pass,
			[]polder.RegionName{"pl", "nl"}, law.Home{Peer: "pl-1", Region: "pl"}},
		"forbidden, for one passed on": {service("nl", "pl"), law.Home{Peer: "us-1", Region: "us"}, alive, law.Pass,
			[]polder.RegionName{"nl", "pl"}, none},
		"here, where it is forbidden": {service("nl"), law.Home{Peer: "fr-2", Region: "fr"}, alive, law.Pass, []polder.RegionName{"nl"}, none},
		"of a refused caller":         {refusing, law.Home{Peer: "nl-1", Region: "nl"}, alive, law.Forbidden, nil, none},
		"while a standby serves":      {standby, law.Home{Peer: "nl-1", Region: "nl"}, polder.RegionHealth{"fr": true}, law.Serve, nil, none},
	} {
		a := law.Judge(tt.service, law.Circumstances{Here: "fr", Regions: regions, Alive: tt.alive,
			Rank: []polder.RegionName{"fr", "nl", "pl", "us"}, Home: tt.home})
		if a.Verdict() != tt.verdict || a.Home() != tt.want || !slices.Equal(a.Targets(), tt.targets) {
			t.Errorf("home %s: %s to %v, home %+v; want %s to %v, home %+v", name, a.Verdict(), a.Targets(), a.Home(), tt.verdict, tt.targets, tt.want)
		}
	}
}

// A region that drains has the callers of a service as long as nobody else may,
// and never before a standby.
func TestLeaving(t *testing.T) {
	regions := []polder.Region{{Name: "fr"}, {Name: "nl"}, {Name: "pl"}}
	drained := polder.RegionHealth{"fr": true}
	for name, tt := range map[string]struct {
		allow   []polder.Place
		standby []polder.RegionName
		alive   polder.RegionHealth
		verdict law.Verdict
		targets []polder.RegionName
	}{
		"pinned to what drains":        {[]polder.Place{"fr"}, nil, polder.RegionHealth{"pl": true}, law.Pass, []polder.RegionName{"fr"}},
		"allowed elsewhere too":        {[]polder.Place{"fr", "nl"}, nil, polder.RegionHealth{"nl": true, "pl": true}, law.Pass, []polder.RegionName{"nl"}},
		"a standby is alive":           {[]polder.Place{"fr"}, []polder.RegionName{"nl"}, polder.RegionHealth{"nl": true, "pl": true}, law.Pass, []polder.RegionName{"nl"}},
		"this is the standby":          {[]polder.Place{"fr"}, []polder.RegionName{"pl"}, polder.RegionHealth{"pl": true}, law.Serve, nil},
		"what drains is not permitted": {[]polder.Place{"nl"}, nil, polder.RegionHealth{"pl": true}, law.Unavailable, nil},
	} {
		service := polder.Service{Name: "orders", Run: &polder.Run{}, Residency: polder.Residency{Allow: tt.allow, Elsewhere: polder.PassThrough}}
		if tt.standby != nil {
			service.Residency.Failover = polder.Failover{Class: polder.FailoverListed, Regions: tt.standby}
		}
		a := law.Judge(service, law.Circumstances{Here: "pl", Regions: regions, Alive: tt.alive, Leaving: drained})
		if a.Verdict() != tt.verdict || !slices.Equal(a.Targets(), tt.targets) {
			t.Errorf("%s: %s to %v, want %s to %v", name, a.Verdict(), a.Targets(), tt.verdict, tt.targets)
		}
	}
}
