package law

import (
	"slices"

	"github.com/polder/polder"
)

// Permission is the owner's word on one service, resolved against the regions
// that exist. It depends on the configuration alone, never on who is alive.
type Permission struct {
	allowed   []polder.RegionName // sorted
	standby   []polder.RegionName // failover: listed, in the owner's order
	elsewhere polder.Elsewhere
}

// Permit resolves a service's residency. A jurisdiction means exactly the
// regions that carry it. A place that is neither a region nor a jurisdiction
// of one contributes nothing.
func Permit(residency polder.Residency, regions []polder.Region) Permission {
	p := Permission{elsewhere: residency.Elsewhere}
	for _, region := range regions {
		if named(residency.Allow, region) {
			p.allowed = append(p.allowed, region.Name)
		}
	}
	slices.Sort(p.allowed)
	if residency.Failover.Class != polder.FailoverListed {
		return p
	}
	for _, name := range residency.Failover.Regions {
		exists := slices.ContainsFunc(regions, func(r polder.Region) bool { return r.Name == name })
		if exists && !slices.Contains(p.allowed, name) && !slices.Contains(p.standby, name) {
			p.standby = append(p.standby, name)
		}
	}
	return p
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

// Standby lists the regions that may serve only while no allowed region is
// alive, in the owner's order of preference.
func (p Permission) Standby() []polder.RegionName { return slices.Clone(p.standby) }

// Ever tells whether the region may ever serve, in whatever state the world is.
func (p Permission) Ever(region polder.RegionName) bool {
	return slices.Contains(p.allowed, region) || slices.Contains(p.standby, region)
}
