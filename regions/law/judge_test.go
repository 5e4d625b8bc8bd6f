package law_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// world is five regions. "EU" is three of them; Zurich lies among them on the
// map and carries it not.
func world() []polder.Region {
	return []polder.Region{
		{Name: "ch", Jurisdictions: []polder.Jurisdiction{"CH"}},
		{Name: "fr", Jurisdictions: []polder.Jurisdiction{"FR", "EU"}},
		{Name: "nl", Jurisdictions: []polder.Jurisdiction{"NL", "EU"}},
		{Name: "pl", Jurisdictions: []polder.Jurisdiction{"PL", "EU"}},
		{Name: "us", Jurisdictions: []polder.Jurisdiction{"US"}},
	}
}

func alive(names ...polder.RegionName) polder.RegionHealth {
	health := polder.RegionHealth{}
	for _, n := range names {
		health[n] = true
	}
	return health
}

// run is a service that Polder can start anywhere.
func run(r polder.Residency) polder.Service {
	return polder.Service{Name: "s", Hosts: []polder.Host{"s.example.com"}, Run: &polder.Run{Command: []string{"s"}}, Residency: r}
}

// routed is a service that lives only where its endpoints are.
func routed(r polder.Residency, at ...polder.RegionName) polder.Service {
	s := polder.Service{Name: "s", Hosts: []polder.Host{"s.example.com"}, Residency: r, Endpoints: map[polder.RegionName][]netip.AddrPort{}}
	for _, region := range at {
		s.Endpoints[region] = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80")}
	}
	return s
}

func residency(elsewhere polder.Elsewhere, allow []polder.Place, standby ...polder.RegionName) polder.Residency {
	r := polder.Residency{Allow: allow, Elsewhere: elsewhere, Failover: polder.Failover{Class: polder.FailoverClosed}}
	if len(standby) > 0 {
		r.Failover = polder.Failover{Class: polder.FailoverListed, Regions: standby}
	}
	return r
}

func TestJudge(t *testing.T) {
	pass, refuse := polder.PassThrough, polder.Refuse
	places := func(p ...polder.Place) []polder.Place { return p }
	targets := func(r ...polder.RegionName) []polder.RegionName { return r }
	for _, c := range []struct {
		why     string
		service polder.Service
		here    polder.RegionName
		alive   polder.RegionHealth
		rank    []polder.RegionName
		verdict law.Verdict
		targets []polder.RegionName
	}{
		{"an allowed region serves", run(residency(pass, places("fr"))), "fr", alive("fr"), nil, law.Serve, nil},
		{"it serves even when it believes that all others are gone", run(residency(pass, places("fr"))), "fr", nil, nil, law.Serve, nil},
		{"an allowed region serves, whatever is asked of those elsewhere", run(residency(refuse, places("fr"))), "fr", alive("fr"), nil, law.Serve, nil},
		{"a jurisdiction allows every region that carries it", run(residency(pass, places("EU"))), "pl", alive("pl"), nil, law.Serve, nil},
		{"a jurisdiction is no continent", run(residency(pass, places("EU"))), "ch", alive("ch", "fr", "nl", "pl"), nil, law.Pass, targets("fr", "nl", "pl")},
		{"a place that does not exist allows nothing", run(residency(pass, places("EUROPE", "de"))), "fr", alive("fr", "nl"), nil, law.Unavailable, nil},
		{"an empty list allows nothing", run(residency(pass, nil)), "fr", alive("fr", "nl"), nil, law.Unavailable, nil},

		{"a region outside passes to an allowed one", run(residency(pass, places("fr"))), "nl", alive("fr", "nl"), nil, law.Pass, targets("fr")},
		{"distance orders the targets", run(residency(pass, places("EU"))), "us", alive("fr", "nl", "pl", "us"), targets("us", "nl", "ch", "fr", "pl"), law.Pass, targets("nl", "fr", "pl")},
		{"rank adds no region", run(residency(pass, places("fr"))), "us", alive("fr", "nl", "us"), targets("nl", "pl", "fr"), law.Pass, targets("fr")},
		{"a dead region is no target", run(residency(pass, places("EU"))), "us", alive("nl", "us"), nil, law.Pass, targets("nl")},
		{"refuse never passes", run(residency(refuse, places("fr"))), "nl", alive("fr", "nl"), nil, law.Forbidden, nil},
		{"refuse stays refuse while nobody is alive", run(residency(refuse, places("fr"))), "nl", alive("nl"), nil, law.Forbidden, nil},
		{"what is not pass-through is refused", run(residency("", places("fr"))), "nl", alive("fr", "nl"), nil, law.Forbidden, nil},

		{"closed means closed", run(residency(pass, places("fr"))), "nl", alive("nl", "pl"), nil, law.Unavailable, nil},
		{"a standby waits while an allowed region is alive", run(residency(pass, places("pl"), "nl")), "nl", alive("nl", "pl"), nil, law.Pass, targets("pl")},
		{"a standby serves when none is", run(residency(pass, places("pl"), "nl")), "nl", alive("nl"), nil, law.Serve, nil},
		{"a standby serves even if it refused as a region outside", run(residency(refuse, places("pl"), "nl")), "nl", alive("nl"), nil, law.Serve, nil},
		{"the first living standby serves, the second passes on", run(residency(pass, places("pl"), "fr", "nl")), "nl", alive("fr", "nl"), nil, law.Pass, targets("fr")},
		{"the second serves when the first is gone too", run(residency(pass, places("pl"), "fr", "nl")), "nl", alive("nl"), nil, law.Serve, nil},
		{"the first never passes to the second", run(residency(pass, places("pl"), "fr", "nl")), "fr", alive("fr", "nl"), nil, law.Serve, nil},
		{"the owner's order holds among standbys, not distance", run(residency(pass, places("pl"), "nl", "fr")), "us", alive("fr", "nl", "us"), targets("fr", "nl"), law.Pass, targets("nl", "fr")},
		{"a third region does not become a standby", run(residency(pass, places("pl"), "nl")), "fr", alive("fr"), nil, law.Unavailable, nil},
		{"an allowed region is no standby as well", run(residency(pass, places("pl"), "pl", "nl")), "fr", alive("fr", "nl"), nil, law.Pass, targets("nl")},
		{"regions listed under another class mean nothing", run(polder.Residency{Allow: places("pl"), Elsewhere: pass,
			Failover: polder.Failover{Class: polder.FailoverClosed, Regions: targets("nl")}}), "nl", alive("nl"), nil, law.Unavailable, nil},

		{"a routed service is served where its endpoints are", routed(residency(pass, places("fr", "nl")), "fr"), "fr", alive("fr", "nl"), nil, law.Serve, nil},
		{"an allowed region without endpoints passes on", routed(residency(pass, places("fr", "nl")), "fr"), "nl", alive("fr", "nl"), nil, law.Pass, targets("fr")},
		{"… even under refuse, for it lies inside", routed(residency(refuse, places("fr", "nl")), "fr"), "nl", alive("fr", "nl"), nil, law.Pass, targets("fr")},
		{"endpoints in a forbidden region count for nothing", routed(residency(pass, places("fr")), "nl"), "nl", alive("fr", "nl"), nil, law.Unavailable, nil},
		{"an allowed region that is alive but has no endpoints holds back no standby", routed(residency(pass, places("fr"), "nl"), "nl"), "nl", alive("fr", "nl"), nil, law.Serve, nil},
		{"a standby without endpoints stands by for nobody", routed(residency(pass, places("fr"), "nl", "pl"), "fr", "pl"), "nl", alive("nl", "pl"), nil, law.Pass, targets("pl")},
	} {
		t.Run(c.why, func(t *testing.T) {
			got := law.Judge(c.service, law.Circumstances{Here: c.here, Regions: world(), Alive: c.alive, Rank: c.rank})
			if got.Verdict() != c.verdict || !slices.Equal(got.Targets(), c.targets) {
				t.Errorf("at %s: got %s %v (%s), want %s %v", c.here, got.Verdict(), got.Targets(), got.Reason(), c.verdict, c.targets)
			}
			if got.Reason() == "" || got.Here() != c.here || got.Service().Name != c.service.Name {
				t.Errorf("the verdict does not say who, where and why: %+v", got)
			}
		})
	}
}

func TestJudgeKeepsOnlyItsOwnEndpoints(t *testing.T) {
	at := netip.MustParseAddrPort
	candidates := []polder.Endpoint{
		{Service: "s", Region: "fr", Address: at("10.0.0.9:80")},
		{Service: "s", Region: "nl", Address: at("10.1.0.1:80")},
		{Service: "other", Region: "fr", Address: at("10.0.0.7:80")},
		{Service: "s", Region: "fr", Address: at("10.0.0.1:80")},
		{Service: "s", Region: "fr", Address: at("10.0.0.9:80")},
		{Service: "s", Region: "", Address: at("10.9.0.1:80")},
	}
	judged := law.Judge(run(residency(polder.PassThrough, []polder.Place{"EU"})),
		law.Circumstances{Here: "fr", Regions: world(), Alive: alive("fr", "nl"), Endpoints: candidates})
	want := []netip.AddrPort{at("10.0.0.1:80"), at("10.0.0.9:80")}
	if !slices.Equal(judged.Endpoints(), want) {
		t.Errorf("got %v, want this service's in this region, sorted, once each: %v", judged.Endpoints(), want)
	}
	judged.Endpoints()[0] = at("10.1.0.1:80")
	if !slices.Equal(judged.Endpoints(), want) {
		t.Error("a reader of the result could change it")
	}
	elsewhere := law.Judge(run(residency(polder.PassThrough, []polder.Place{"nl"})),
		law.Circumstances{Here: "fr", Regions: world(), Alive: alive("fr", "nl"), Endpoints: candidates})
	if got := elsewhere.Endpoints(); len(got) != 0 {
		t.Errorf("a region that does not serve holds endpoints: %v", got)
	}
}

func TestZeroApprovedApprovesNothing(t *testing.T) {
	var zero law.Approved
	if zero.Verdict() != "" || zero.Targets() != nil || zero.Endpoints() != nil {
		t.Errorf("the zero value approves something: %+v", zero)
	}
}

func TestPermit(t *testing.T) {
	r := residency(polder.PassThrough, []polder.Place{"pl", "EU", "pl"}, "us", "fr", "de", "us")
	p := law.Permit(r, world())
	if want := []polder.RegionName{"fr", "nl", "pl"}; !slices.Equal(p.Allowed(), want) {
		t.Errorf("allowed %v, want %v", p.Allowed(), want)
	}
	if want := []polder.RegionName{"us"}; !slices.Equal(p.Standby(), want) {
		t.Errorf("standby %v, want %v: neither allowed nor unknown regions, once each", p.Standby(), want)
	}
	for region, want := range map[polder.RegionName]bool{"fr": true, "us": true, "ch": false, "de": false} {
		if p.Ever(region) != want {
			t.Errorf("ever in %s: got %v, want %v", region, p.Ever(region), want)
		}
	}
}
