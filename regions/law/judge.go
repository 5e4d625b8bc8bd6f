package law

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/polder/polder"
)

// Verdict is what a gateway does with a caller of a service.
type Verdict string

// The verdicts.
const (
	Serve       Verdict = "serve"       // decrypt here, send to instances here
	Pass        Verdict = "pass"        // pass the TLS bytes on, unopened, to a target
	Forbidden   Verdict = "forbidden"   // the owner refuses callers who arrive here
	Unavailable Verdict = "unavailable" // no permitted region is alive
)

// Circumstances are what Judge needs to know beside the owner's word.
type Circumstances struct {
	Here      polder.RegionName   // the gateway's region
	Regions   []polder.Region     // all that exist
	Alive     polder.RegionHealth // a missing region is not alive; Here is always alive
	Leaving   polder.RegionHealth // regions that drain, and still serve who comes
	Rank      []polder.RegionName // all regions, most preferred first, as seen from Here
	Endpoints []polder.Endpoint   // candidates; those that are not permitted are dropped
	Now       time.Time           // for what the owner bound to a time
	// Others are what living peers take the service's policy to be, where they
	// take it for something else: what all of them permit holds.
	Others []Permission
	Home   Home // where the service is warm; one that is not permitted is dropped
}

// Home is the peer that shall have a service's callers. The zero value is the
// gateway itself, or nobody in particular.
type Home struct {
	Peer   string
	Region polder.RegionName
}

// Approved is the law's result for one service at one gateway. The zero value
// approves nothing. Only Judge makes others.
type Approved struct {
	service   polder.Service
	here      polder.RegionName
	verdict   Verdict
	reason    string
	targets   []polder.RegionName
	endpoints []netip.AddrPort
	home      Home
	permitted Permission // what holds, after all peers were heard
	disputed  bool       // peers disagree about the policy
	until     time.Time  // end of the broken glass by which it is served or passed on; zero for none
}

// Judge applies the law to one service at one gateway.
//
//  1. A region that may serve and can serve (it can run instances, or has
//     static endpoints), serves.
//  2. Any other gateway passes the caller on to the living regions of rule 1,
//     unless it lies outside the allowed regions and the owner said refuse.
//  3. While no allowed region is alive, and only then, the listed standby
//     regions take their place, in the owner's order.
//     Those behind glass do so only while it is broken.
//     Where there is none either, allowed regions that drain have the callers.
//  4. While peers disagree about the policy, what all of them permit holds.
//  5. When nothing is left the service is unavailable here. No other region is
//     ever borrowed.
//  6. Among allowed regions the one with the service's home comes first. A gateway
//     of an allowed region may pass new callers on to the home, and goes on
//     serving whoever is here.
func Judge(service polder.Service, c Circumstances) Approved {
	permission := Hold(service.Residency, c.Regions, c.Others)
	a := Approved{service: service, here: c.Here, permitted: permission, disputed: len(c.Others) > 0}

	capable := keep(permission.allowed, func(r polder.RegionName) bool { return canServe(service, r) })
	if slices.Contains(capable, c.Here) {
		return a.serve(c.Endpoints, "region is allowed").settle(c.Home, keep(capable, func(r polder.RegionName) bool { return r == c.Here || c.Alive[r] }))
	}
	outside := !slices.Contains(permission.allowed, c.Here)
	living := func(r polder.RegionName) bool { return canServe(service, r) && (r == c.Here || c.Alive[r]) }
	alive := keep(capable, living)
	if !slices.ContainsFunc(permission.primary, living) {
		standby := keep(permission.StandIns(c.Now), living)
		if len(standby) > 0 && standby[0] == c.Here {
			reason := "standby region, no allowed region is alive"
			if a = a.within(c.Here); !a.until.IsZero() {
				reason = "the glass is broken and no allowed region is alive"
			}
			return a.serve(c.Endpoints, reason)
		}
		// What stands behind Here in the owner's order would have passed on to Here.
		if i := slices.Index(standby, c.Here); i > 0 {
			standby = standby[:i]
		}
		if i := slices.IndexFunc(standby, permission.behindGlass); i >= 0 {
			if i > 0 {
				standby = standby[:i] // what is bound to a time stands alone
			}
			a = a.within(standby[0])
		}
		if len(standby) == 0 {
			standby = byRank(keep(capable, func(r polder.RegionName) bool { return c.Leaving[r] }), c.Rank)
		}
		return a.passOn(permission, outside, standby)
	}
	return a.passOn(permission, outside, byRank(alive, c.Rank)).settle(c.Home, alive)
}

// settle takes the home if it is in one of the regions, which may have the
// callers now.
func (a Approved) settle(home Home, regions []polder.RegionName) Approved {
	if home.Peer == "" || !slices.Contains(regions, home.Region) {
		return a
	}
	switch a.verdict {
	case Serve:
		a.home, a.reason = home, "region is allowed; the service is warm at its home, "+home.Peer
	case Pass:
		a.home = home
		a.targets = append([]polder.RegionName{home.Region}, keep(a.targets, func(r polder.RegionName) bool { return r != home.Region })...)
	}
	return a
}

// Hold is the permission that holds for a service: the owner's word as this peer
// has it, and what living peers make of theirs where it is another.
func Hold(residency polder.Residency, regions []polder.Region, others []Permission) Permission {
	p := Permit(residency, regions)
	for _, o := range others {
		p = p.Stricter(o)
	}
	return p
}

func (p Permission) behindGlass(region polder.RegionName) bool {
	return p.window(region) != nil
}

// within notes until when the broken glass permits what follows, if it is by it
// that the region serves.
func (a Approved) within(region polder.RegionName) Approved {
	a.until = a.permitted.Until(region)
	return a
}

func (a Approved) serve(candidates []polder.Endpoint, reason string) Approved {
	a.verdict, a.reason = Serve, reason
	for _, e := range candidates {
		if e.Service == a.service.Name && e.Region == a.here {
			a.endpoints = append(a.endpoints, e.Address)
		}
	}
	slices.SortFunc(a.endpoints, netip.AddrPort.Compare)
	a.endpoints = slices.Compact(a.endpoints)
	return a
}

func (a Approved) passOn(p Permission, outside bool, targets []polder.RegionName) Approved {
	switch {
	case outside && p.elsewhere != polder.PassThrough:
		a.verdict, a.reason = Forbidden, "policy refuses callers outside the allowed regions"
	case len(targets) == 0:
		a.verdict, a.reason = Unavailable, "no region that may serve is alive"
		if a.disputed {
			a.reason = "peers disagree about the policy, and no region that all of them permit is alive"
		}
	default:
		a.verdict, a.reason, a.targets = Pass, "region may not open this service's connections", targets
	}
	if a.verdict != Pass {
		a.until = time.Time{}
	}
	if a.verdict == Pass && !outside {
		a.reason = "region is allowed but has no instances of its own"
	}
	return a
}

// canServe tells whether the region could serve if it may: Polder can start
// instances in any region; a routed service lives where its endpoints are.
func canServe(service polder.Service, region polder.RegionName) bool {
	return service.Run != nil || len(service.Endpoints[region]) > 0
}

func keep(regions []polder.RegionName, ok func(polder.RegionName) bool) []polder.RegionName {
	var kept []polder.RegionName
	for _, r := range regions {
		if ok(r) {
			kept = append(kept, r)
		}
	}
	return kept
}

// byRank orders regions by their place in rank; those without a place come
// last, by name. It adds and removes nothing.
func byRank(regions, rank []polder.RegionName) []polder.RegionName {
	place := func(r polder.RegionName) int {
		if i := slices.Index(rank, r); i >= 0 {
			return i
		}
		return len(rank)
	}
	sorted := slices.Clone(regions)
	slices.SortFunc(sorted, func(a, b polder.RegionName) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a, b))
	})
	return sorted
}

// Service is the service that was judged.
func (a Approved) Service() polder.Service { return a.service }

// Here is the region whose gateway was judged.
func (a Approved) Here() polder.RegionName { return a.here }

// Verdict is what the gateway does with a caller; "" for the zero value.
func (a Approved) Verdict() Verdict { return a.verdict }

// Reason says why, for people.
func (a Approved) Reason() string { return a.reason }

// Targets lists the regions to pass to, most preferred first; only for Pass.
func (a Approved) Targets() []polder.RegionName { return slices.Clone(a.targets) }

// Until is when what is approved ends by itself, with all connections that are
// open by then; zero when it does not. It is the end of a broken glass.
func (a Approved) Until() time.Time { return a.until }

// Disputed tells whether living peers disagree about the service's policy, so
// that the stricter of what they say holds.
func (a Approved) Disputed() bool { return a.disputed }

// Permission is what holds for the service here, after all peers were heard.
func (a Approved) Permission() Permission { return a.permitted }

// Resident tells whether this gateway may keep the service's key as long as it
// serves it.
func (a Approved) Resident() bool { return a.verdict == Serve && a.permitted.Resident(a.here) }

// MayKeep tells whether records of that kind about the service's traffic may be
// kept here. Where the service is not served, none may.
func (a Approved) MayKeep(kind polder.Record) bool {
	return a.verdict == Serve && a.permitted.MayKeep(kind, a.here)
}

// Home is where new callers go first: for Serve instead of here, and for Pass
// before all others in the first target. The zero value means that there is none.
func (a Approved) Home() Home { return a.home }

// Endpoints lists the permitted addresses, sorted; only for Serve.
func (a Approved) Endpoints() []netip.AddrPort { return slices.Clone(a.endpoints) }
