package law

import (
	"cmp"
	"net/netip"
	"slices"

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
	Rank      []polder.RegionName // all regions, most preferred first, as seen from Here
	Endpoints []polder.Endpoint   // candidates; those that are not permitted are dropped
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
}

// Judge applies the law to one service at one gateway.
//
//  1. A region that may serve and can serve (it can run instances, or has
//     static endpoints), serves.
//  2. Any other gateway passes the caller on to the living regions of rule 1,
//     unless it lies outside the allowed regions and the owner said refuse.
//  3. While no allowed region is alive, and only then, the listed standby
//     regions take their place, in the owner's order.
//  4. When nothing is left the service is unavailable here. No other region is
//     ever borrowed.
func Judge(service polder.Service, c Circumstances) Approved {
	permission := Permit(service.Residency, c.Regions)
	a := Approved{service: service, here: c.Here}

	capable := keep(permission.allowed, func(r polder.RegionName) bool { return canServe(service, r) })
	if slices.Contains(capable, c.Here) {
		return a.serve(c.Endpoints, "region is allowed")
	}
	outside := !slices.Contains(permission.allowed, c.Here)
	alive := keep(capable, func(r polder.RegionName) bool { return c.Alive[r] })
	if len(alive) == 0 {
		standby := keep(permission.standby, func(r polder.RegionName) bool {
			return canServe(service, r) && (r == c.Here || c.Alive[r])
		})
		if len(standby) > 0 && standby[0] == c.Here {
			return a.serve(c.Endpoints, "standby region, no allowed region is alive")
		}
		// What stands behind Here in the owner's order would have passed on to Here.
		if i := slices.Index(standby, c.Here); i > 0 {
			standby = standby[:i]
		}
		return a.passOn(permission, outside, standby)
	}
	return a.passOn(permission, outside, byRank(alive, c.Rank))
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
	default:
		a.verdict, a.reason, a.targets = Pass, "region may not open this service's connections", targets
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

// Endpoints lists the permitted addresses, sorted; only for Serve.
func (a Approved) Endpoints() []netip.AddrPort { return slices.Clone(a.endpoints) }
