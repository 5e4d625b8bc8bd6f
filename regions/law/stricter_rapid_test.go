package law_test

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// drawDispute is a trial and the same service under the policies of other peers.
func drawDispute(t *rapid.T) (trial, []trial) {
	own := drawTrial(t)
	others := make([]trial, rapid.IntRange(0, 3).Draw(t, "others"))
	for i := range others {
		others[i] = own
		others[i].service.Residency = drawTrial(t).service.Residency
	}
	return own, others
}

func (t trial) permission() law.Permission {
	return law.Permit(t.service.Residency, t.circumstances.Regions)
}

// TestDisputesReachNothingThatOnePolicyForbids judges a service about whose
// policy peers disagree: what is done is permitted by each of them.
func TestDisputesReachNothingThatOnePolicyForbids(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		own, others := drawDispute(t)
		here, all := own.circumstances.Here, append(slices.Clone(others), own)
		for _, o := range others {
			own.circumstances.Others = append(own.circumstances.Others, o.permission())
		}
		got := own.judge()
		named := slices.Clone(got.Targets())
		if got.Verdict() == law.Serve {
			named = append(named, here)
		}
		for _, policy := range all {
			residency := policy.service.Residency
			for _, region := range named {
				allowed, standby := policy.may(region)
				if !allowed && !standby {
					t.Errorf("%s names %s, which %+v does not", got.Verdict(), region, residency)
				}
				if !allowed && policy.allowedAlive() {
					t.Errorf("%s names the standby %s while a region that %+v allows is alive", got.Verdict(), region, residency)
				}
			}
			allowedHere, _ := policy.may(here)
			if got.Verdict() == law.Pass && !allowedHere && residency.Elsewhere != polder.PassThrough {
				t.Errorf("passes on although %+v refuses callers outside", residency)
			}
			if got.Resident() && (!allowedHere || residency.Keys != polder.KeysResident) {
				t.Errorf("keeps keys that %+v does not", residency)
			}
			for _, kind := range polder.Records() {
				if kept := residency.Telemetry.Of(kind); got.MayKeep(kind) && kept != polder.KeptServing && (kept != polder.KeptAllowed || !allowedHere) {
					t.Errorf("keeps %s, which are kept %s", kind, kept)
				}
			}
			if until := got.Until(); !until.IsZero() && residency.Failover.Class == polder.FailoverBreakGlass && until.After(residency.Failover.Broken.Until) {
				t.Errorf("ends at %v, later than %+v", until, residency.Failover.Broken)
			}
		}
		if got.Disputed() != (len(others) > 0) {
			t.Errorf("disputed is %v with %d other policies", got.Disputed(), len(others))
		}
	})
}

// TestStricterIsAnIntersection is the algebra by which peers come to one result.
func TestStricterIsAnIntersection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		own, others := drawDispute(t)
		p, q, r := own.permission(), own.permission(), own.permission()
		if len(others) > 0 {
			q = others[0].permission()
		}
		if len(others) > 1 {
			r = others[1].permission()
		}
		same := func(what string, a, b law.Permission) {
			if x, y := a.Terms(), b.Terms(); !sameTerms(x, y) || !slices.Equal(a.Primary(), b.Primary()) {
				t.Errorf("%s: %+v and %+v", what, x, y)
			}
			for _, region := range a.Glass() {
				if !a.Until(region).Equal(b.Until(region)) {
					t.Errorf("%s: the glass before %s is broken until %v and %v", what, region, a.Until(region), b.Until(region))
				}
			}
		}
		same("repeats", p.Stricter(p), p)
		same("commutes", p.Stricter(q), q.Stricter(p))
		same("absorbs", p.Stricter(q).Stricter(q), p.Stricter(q))
		same("associates", p.Stricter(q).Stricter(r), p.Stricter(q.Stricter(r)))
		same("travels", p.Terms().Permission(), p)
		for _, region := range regionPool {
			if p.Stricter(q).Ever(region) && (!p.Ever(region) || !q.Ever(region)) {
				t.Errorf("%s may serve under both, and not under each", region)
			}
		}
	})
}

// sameTerms compares terms; when no region is behind it, the glass is nothing.
func sameTerms(a, b law.Terms) bool {
	for _, t := range []*law.Terms{&a, &b} {
		if len(t.Glass) == 0 || !t.Until.After(t.From) {
			t.From, t.Until = epoch, epoch
		}
		t.Standby, t.Glass = slices.Clone(t.Standby), slices.Clone(t.Glass)
		for _, list := range []*[]polder.RegionName{&t.Allowed, &t.Standby, &t.Glass} {
			if *list == nil {
				*list = []polder.RegionName{}
			}
		}
	}
	return reflect.DeepEqual(a, b)
}

// TestGlassTurns holds Turns against StandIns, instant by instant.
func TestGlassTurns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawTrial(t).permission()
		now := drawInstant(t, "from here")
		next, ever := p.Turns(now)
		for at := now; at.Before(epoch.Add(40 * law.Drain)); at = at.Add(law.Drain / 4) {
			if slices.Equal(p.StandIns(at), p.StandIns(now)) {
				continue
			}
			if !ever || next.After(at) {
				t.Fatalf("at %v the stand-ins are %v, at %v %v; the next turn is said to be %v (%v)", now, p.StandIns(now), at, p.StandIns(at), next, ever)
			}
			break
		}
		if ever && slices.Equal(p.StandIns(next), p.StandIns(now)) {
			t.Errorf("nothing turns at %v", next)
		}
		if ever && !next.After(now) {
			t.Errorf("%v is not after %v", next, now)
		}
	})
}
