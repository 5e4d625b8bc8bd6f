package law

import (
	"slices"
	"time"

	"github.com/polder/polder"
)

// Permission is the owner's word on one service, resolved against the regions
// that exist. It depends on the configuration alone, never on who is alive; on
// the time only as far as the owner bound it to a time.
type Permission struct {
	allowed   []polder.RegionName // sorted
	primary   []polder.RegionName // that keep stand-ins out while alive, sorted: allowed, and what peers allow
	standby   []standIn           // by themselves, in the owner's order
	glass     []standIn           // while the glass is broken, in the owner's order
	elsewhere polder.Elsewhere
	keys      polder.Keys
	telemetry polder.Telemetry
}

// standIn is a region that may stand in.
type standIn struct {
	region polder.RegionName
	place  int                // in the owner's order, from 0
	broken polder.BrokenGlass // of the glass that it is behind; the zero value is never
}

// Permit resolves a service's residency. A jurisdiction means exactly the
// regions that carry it. A place that is neither a region nor a jurisdiction
// of one contributes nothing.
func Permit(residency polder.Residency, regions []polder.Region) Permission {
	p := Permission{elsewhere: residency.Elsewhere, keys: residency.Keys, telemetry: residency.Telemetry}
	for _, region := range regions {
		if named(residency.Allow, region) {
			p.allowed = append(p.allowed, region.Name)
		}
	}
	slices.Sort(p.allowed)
	p.primary = p.allowed
	var standIns []standIn
	for _, name := range residency.Failover.Regions {
		exists := slices.ContainsFunc(regions, func(r polder.Region) bool { return r.Name == name })
		if exists && !slices.Contains(p.allowed, name) && !slices.Contains(namesOf(standIns), name) {
			standIns = append(standIns, standIn{region: name, place: len(standIns)})
		}
	}
	switch residency.Failover.Class {
	case polder.FailoverListed:
		p.standby = standIns
	case polder.FailoverBreakGlass:
		p.glass = standIns
		if b := residency.Failover.Broken; b != nil {
			p.breakGlass(*b)
		}
	}
	return p
}

// breakGlass ignores what is longer than may be.
func (p *Permission) breakGlass(b polder.BrokenGlass) {
	if d := b.Until.Sub(b.From); d <= 0 || d > polder.MaxBroken {
		return
	}
	for i := range p.glass {
		p.glass[i].broken = b
	}
}

func namesOf(list []standIn) []polder.RegionName {
	var names []polder.RegionName
	for _, s := range list {
		names = append(names, s.region)
	}
	return names
}

// named tells whether the owner's list names the region, by its own name or by
// a jurisdiction that it carries.
func named(allow []polder.Place, region polder.Region) bool {
	for _, place := range allow {
		if string(place) == string(region.Name) || region.Carries(polder.Jurisdiction(place)) {
			return true
		}
	}
	return false
}

// Allowed lists the regions where the service may always be served, sorted.
func (p Permission) Allowed() []polder.RegionName { return slices.Clone(p.allowed) }

// Primary lists the regions that keep stand-ins out as long as they are alive,
// sorted: the allowed ones, and while peers disagree those of either policy.
func (p Permission) Primary() []polder.RegionName { return slices.Clone(p.primary) }

// Standby lists the regions that may serve only while no allowed region is
// alive, in the owner's order of preference. Those behind glass are not among them.
func (p Permission) Standby() []polder.RegionName { return namesOf(p.standby) }

// Glass lists the regions that may stand in only while the glass is broken, in
// the owner's order of preference.
func (p Permission) Glass() []polder.RegionName { return namesOf(p.glass) }

// Broken tells from when until when, and why, the glass is broken; false when
// nobody broke it, or no region is behind it.
func (p Permission) Broken() (polder.BrokenGlass, bool) {
	for _, s := range p.glass {
		if s.broken.Until.After(s.broken.From) {
			return s.broken, true
		}
	}
	return polder.BrokenGlass{}, false
}

// StandIns lists the regions that may stand in at an instant, in the owner's
// order of preference: Standby, and Glass while it is broken. The last Drain
// of a broken glass lets nobody in, so that everything has ended when it ends.
func (p Permission) StandIns(now time.Time) []polder.RegionName {
	list := p.Standby()
	for _, s := range p.glass {
		if s.broken.In(now) && s.broken.In(now.Add(Drain)) {
			list = append(list, s.region)
		}
	}
	return list
}

// Until is the end of the broken glass behind which the region is; zero when it
// is behind none.
func (p Permission) Until(region polder.RegionName) time.Time {
	if i := slices.Index(p.Glass(), region); i >= 0 {
		return p.glass[i].broken.Until
	}
	return time.Time{}
}

// Turns tells the next instant after now at which StandIns changes; false when
// it never will by itself.
func (p Permission) Turns(now time.Time) (next time.Time, ever bool) {
	for _, s := range p.glass {
		end := s.broken.Until.Add(-Drain)
		for _, at := range []time.Time{s.broken.From, end} {
			if s.broken.From.Before(end) && at.After(now) && (!ever || at.Before(next)) {
				next, ever = at, true
			}
		}
	}
	return next, ever
}

// Drain is how long before the end of a broken glass the regions behind it let
// nobody in any more, so that what is open can end in peace. What is still open
// at the end is closed.
const Drain = 15 * time.Second

// Elsewhere is what a gateway outside the allowed regions does with a caller.
// Whatever is not PassThrough refuses.
func (p Permission) Elsewhere() polder.Elsewhere { return p.elsewhere }

// Resident tells whether a gateway of the region may keep the service's key as
// long as it serves it: only where the service is allowed, and the owner says so.
func (p Permission) Resident(region polder.RegionName) bool {
	return p.keys == polder.KeysResident && slices.Contains(p.allowed, region)
}

// MayKeep tells whether records of a kind about the service's traffic may be kept
// in the region, provided that the region serves it.
func (p Permission) MayKeep(kind polder.Record, region polder.RegionName) bool {
	switch p.telemetry.Of(kind) {
	case polder.KeptServing:
		return p.Ever(region)
	case polder.KeptAllowed:
		return slices.Contains(p.allowed, region)
	}
	return false
}

// Ever tells whether the region may ever serve, in whatever state the world is.
func (p Permission) Ever(region polder.RegionName) bool {
	return p.standing(region) > standsNowhere
}
