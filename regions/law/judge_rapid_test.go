package law_test

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// trial is one random question to the law.
type trial struct {
	service       polder.Service
	circumstances law.Circumstances
}

var (
	regionPool       = []polder.RegionName{"ch", "fr", "nl", "pl", "us", "nl2"}
	jurisdictionPool = []polder.Jurisdiction{"EU", "NL", "FR", "DACH"}
)

func drawTrial(t *rapid.T) trial {
	regionNames := rapid.SliceOfNDistinct(rapid.SampledFrom(regionPool), 1, len(regionPool), rapid.ID[polder.RegionName]).Draw(t, "regions")
	subset := func(label string) []polder.RegionName {
		return rapid.SliceOfDistinct(rapid.SampledFrom(regionPool), rapid.ID[polder.RegionName]).Draw(t, label)
	}
	var regions []polder.Region
	for _, name := range regionNames {
		regions = append(regions, polder.Region{Name: name,
			Jurisdictions: rapid.SliceOfDistinct(rapid.SampledFrom(jurisdictionPool), rapid.ID[polder.Jurisdiction]).Draw(t, "jurisdictions")})
	}
	var allow []polder.Place
	for _, name := range subset("allowed regions") {
		allow = append(allow, polder.Place(name))
	}
	for _, j := range rapid.SliceOfNDistinct(rapid.SampledFrom(jurisdictionPool), 0, 2, rapid.ID[polder.Jurisdiction]).Draw(t, "allowed jurisdictions") {
		allow = append(allow, polder.Place(j))
	}
	service := polder.Service{Name: "s", Hosts: []polder.Host{"s.example.com"}, Residency: polder.Residency{
		Allow:     allow,
		Failover:  drawFailover(t, subset("listed")),
		Elsewhere: rapid.SampledFrom([]polder.Elsewhere{polder.PassThrough, polder.Refuse}).Draw(t, "elsewhere"),
		Keys:      rapid.SampledFrom([]polder.Keys{polder.KeysOnDemand, polder.KeysResident}).Draw(t, "keys"),
		Telemetry: drawTelemetry(t),
	}}
	if rapid.Bool().Draw(t, "run") {
		service.Run = &polder.Run{Command: []string{"s"}}
	} else {
		service.Endpoints = map[polder.RegionName][]netip.AddrPort{}
		for _, name := range subset("routed in") {
			service.Endpoints[name] = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80")}
		}
	}
	c := law.Circumstances{
		Here:    rapid.SampledFrom(regionNames).Draw(t, "here"),
		Regions: regions,
		Alive:   alive(subset("alive")...),
		Rank:    subset("rank"),
		Now:     drawInstant(t, "now"),
	}
	for range rapid.IntRange(0, 6).Draw(t, "candidates") {
		c.Endpoints = append(c.Endpoints, polder.Endpoint{
			Service: rapid.SampledFrom([]polder.ServiceName{"s", "other"}).Draw(t, "owner"),
			Region:  rapid.SampledFrom(regionPool).Draw(t, "at"),
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, "address")}), 80),
		})
	}
	return trial{service, c}
}

// epoch is when the tests' time begins.
var epoch = time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)

func drawInstant(t *rapid.T, label string) time.Time {
	return epoch.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, label)) * law.Drain / 2)
}

func drawFailover(t *rapid.T, regions []polder.RegionName) polder.Failover {
	f := polder.Failover{
		Class: rapid.SampledFrom([]polder.FailoverClass{polder.FailoverClosed, polder.FailoverListed, polder.FailoverBreakGlass}).Draw(t, "failover"), Regions: regions,
	}
	if rapid.Bool().Draw(t, "broken") {
		f.Broken = &polder.BrokenGlass{From: drawInstant(t, "from"), Until: drawInstant(t, "until"), Reason: "fire"}
	}
	return f
}

func drawTelemetry(t *rapid.T) polder.Telemetry {
	kept := rapid.SampledFrom([]polder.Kept{polder.KeptNowhere, polder.KeptAllowed, polder.KeptServing})
	return polder.Telemetry{AccessLog: kept.Draw(t, "access log"), Traces: kept.Draw(t, "traces"), Metrics: kept.Draw(t, "metrics"),
		Profiles: kept.Draw(t, "profiles"), Ledger: kept.Draw(t, "ledger")}
}

func (t trial) judge() law.Approved { return law.Judge(t.service, t.circumstances) }

// may is the policy read word for word: whether the owner named the region, by
// itself, by a jurisdiction that it carries, or as a standby.
func (t trial) may(region polder.RegionName) (allowed, standby bool) {
	for _, r := range t.circumstances.Regions {
		if r.Name != region {
			continue
		}
		for _, place := range t.service.Residency.Allow {
			if string(place) == string(region) || slices.Contains(r.Jurisdictions, polder.Jurisdiction(place)) {
				return true, false
			}
		}
		f, now := t.service.Residency.Failover, t.circumstances.Now
		broken := f.Class == polder.FailoverBreakGlass && f.Broken != nil &&
			!now.Before(f.Broken.From) && now.Before(f.Broken.Until.Add(-law.Drain))
		return false, (f.Class == polder.FailoverListed || broken) && slices.Contains(f.Regions, region)
	}
	return false, false
}

func (t trial) can(region polder.RegionName) bool {
	return t.service.Run != nil || len(t.service.Endpoints[region]) > 0
}

// allowedAlive tells whether some allowed region that could serve is alive.
func (t trial) allowedAlive() bool {
	for _, r := range t.circumstances.Regions {
		allowed, _ := t.may(r.Name)
		if allowed && t.can(r.Name) && (t.circumstances.Alive[r.Name] || r.Name == t.circumstances.Here) {
			return true
		}
	}
	return false
}

// TestClausesOfTheLaw holds random verdicts against the promises of Judge.
func TestClausesOfTheLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trial := drawTrial(t)
		here, got := trial.circumstances.Here, trial.judge()
		allowedHere, standbyHere := trial.may(here)
		named := slices.Clone(got.Targets())
		if got.Verdict() == law.Serve {
			named = append(named, here)
		}
		for _, region := range named {
			allowed, standby := trial.may(region)
			if !allowed && !standby {
				t.Errorf("%s names %s, which the owner did not", got.Verdict(), region)
			}
			if !allowed && trial.allowedAlive() {
				t.Errorf("%s names the standby %s while an allowed region is alive", got.Verdict(), region)
			}
			if !trial.can(region) {
				t.Errorf("%s names %s, which has nothing that could serve", got.Verdict(), region)
			}
			if region != here && !trial.circumstances.Alive[region] {
				t.Errorf("%s names %s, which is not alive", got.Verdict(), region)
			}
			if !law.Permit(trial.service.Residency, trial.circumstances.Regions).Ever(region) {
				t.Errorf("%s names %s, where the permission says never", got.Verdict(), region)
			}
		}
		f := trial.service.Residency.Failover
		byGlass := f.Class == polder.FailoverBreakGlass && len(named) > 0 && !trial.allowedAlive()
		if until := got.Until(); until.IsZero() == byGlass || byGlass && !until.Equal(f.Broken.Until) {
			t.Errorf("%s of %v ends at %v, by the failover %+v", got.Verdict(), named, until, f)
		}
		if resident := got.Resident(); resident != (got.Verdict() == law.Serve && allowedHere && trial.service.Residency.Keys == polder.KeysResident) {
			t.Errorf("%s with keys %s, allowed %v: resident is %v", got.Verdict(), trial.service.Residency.Keys, allowedHere, resident)
		}
		for _, kind := range polder.Records() {
			kept := trial.service.Residency.Telemetry.Of(kind)
			if may := got.Verdict() == law.Serve && (kept == polder.KeptServing || kept == polder.KeptAllowed && allowedHere); may != got.MayKeep(kind) {
				t.Errorf("%s, allowed %v: %s are kept %s, and the law says %v", got.Verdict(), allowedHere, kind, kept, got.MayKeep(kind))
			}
		}
		switch got.Verdict() {
		case law.Serve:
			if !allowedHere && !standbyHere {
				t.Error("serves without being allowed or standby")
			}
		case law.Pass:
			if len(got.Targets()) == 0 || slices.Contains(got.Targets(), here) {
				t.Errorf("passes to %v from %s", got.Targets(), here)
			}
			if !allowedHere && trial.service.Residency.Elsewhere == polder.Refuse {
				t.Error("passes although the owner refuses callers outside")
			}
		case law.Forbidden:
			if allowedHere || trial.service.Residency.Elsewhere != polder.Refuse {
				t.Error("refuses without the owner's word")
			}
		case law.Unavailable:
			if trial.allowedAlive() {
				t.Error("says unavailable while an allowed region is alive")
			}
		default:
			t.Errorf("verdict %q", got.Verdict())
		}
		if got.Verdict() != law.Serve && len(got.Endpoints()) > 0 {
			t.Errorf("%s holds endpoints %v", got.Verdict(), got.Endpoints())
		}
		for _, address := range got.Endpoints() {
			own := slices.ContainsFunc(trial.circumstances.Endpoints, func(e polder.Endpoint) bool {
				return e.Service == "s" && e.Region == here && e.Address == address
			})
			if !own {
				t.Errorf("endpoint %s is not one of this service in this region", address)
			}
		}
	})
}

// TestOrderChangesNothing shuffles what has no order.
func TestOrderChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trial := drawTrial(t)
		want := trial.judge()
		trial.circumstances.Regions = rapid.Permutation(trial.circumstances.Regions).Draw(t, "regions again")
		trial.circumstances.Endpoints = rapid.Permutation(trial.circumstances.Endpoints).Draw(t, "endpoints again")
		shuffled := trial.service
		shuffled.Residency.Allow = rapid.Permutation(trial.service.Residency.Allow).Draw(t, "allow again")
		got := law.Judge(shuffled, trial.circumstances)
		if got.Verdict() != want.Verdict() || got.Reason() != want.Reason() ||
			!slices.Equal(got.Targets(), want.Targets()) || !slices.Equal(got.Endpoints(), want.Endpoints()) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// TestAllowingLessReachesNoMore takes a place from the allowed ones: no allowed
// region appears that was not there before.
func TestAllowingLessReachesNoMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := drawTrial(t)
		if len(before.service.Residency.Allow) == 0 {
			return
		}
		gone := rapid.IntRange(0, len(before.service.Residency.Allow)-1).Draw(t, "gone")
		after := before
		after.service.Residency.Allow = slices.Delete(slices.Clone(before.service.Residency.Allow), gone, gone+1)
		wider := law.Permit(before.service.Residency, before.circumstances.Regions)
		narrower := law.Permit(after.service.Residency, before.circumstances.Regions)
		for _, region := range narrower.Allowed() {
			if !slices.Contains(wider.Allowed(), region) {
				t.Errorf("%s is allowed only after %s was removed", region, before.service.Residency.Allow[gone])
			}
		}
		for _, region := range regionPool {
			if narrower.Ever(region) && !wider.Ever(region) {
				t.Errorf("%s may serve only after a place was removed", region)
			}
		}
		// Standbys may take over when the last allowed region is removed; but then
		// the owner named them, and before that none of them was reached.
		old := before.judge().Targets()
		for _, region := range after.judge().Targets() {
			if allowed, _ := after.may(region); allowed && !slices.Contains(old, region) && before.judge().Verdict() == law.Pass {
				t.Errorf("target %s appears after a place was removed", region)
			}
		}
	})
}

// TestJudgeTouchesNothing holds the arguments against copies of them.
func TestJudgeTouchesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trial := drawTrial(t)
		regions, rank, endpoints := slices.Clone(trial.circumstances.Regions), slices.Clone(trial.circumstances.Rank), slices.Clone(trial.circumstances.Endpoints)
		allow, listed := slices.Clone(trial.service.Residency.Allow), slices.Clone(trial.service.Residency.Failover.Regions)
		trial.judge()
		if !reflect.DeepEqual(regions, trial.circumstances.Regions) || !slices.Equal(rank, trial.circumstances.Rank) ||
			!slices.Equal(endpoints, trial.circumstances.Endpoints) || !slices.Equal(allow, trial.service.Residency.Allow) ||
			!slices.Equal(listed, trial.service.Residency.Failover.Regions) {
			t.Error("the law changed its arguments")
		}
	})
}
