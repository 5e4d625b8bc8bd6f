package regions

import (
	"slices"

	"github.com/polder/polder"
)

// Disclosure says what a peer may tell the membership about services.
//
// A row goes to every peer, and a relay hands it on; nothing can be taken back
// from a peer that has read it. Which services are warm is traffic knowledge,
// and the law covers it. So a service is named in a row only when every region
// of the membership is permitted to it; a service that is pinned more tightly
// is never named, and its peers find its home without being told (Home).
type Disclosure struct {
	// Regions are all regions whose peers can read the rows: all of the
	// configuration's. With none, nothing is disclosed.
	Regions []polder.RegionName
	// Permitted tells whether the region may know of the service. nil permits
	// nothing.
	Permitted func(polder.ServiceName, polder.RegionName) bool
}

// Redact returns the row without the services that may not be told to every
// region of the membership: those of Regions, the row's own and also. The row
// given is left as it was.
func (d Disclosure) Redact(row polder.PeerRow, also ...polder.RegionName) polder.PeerRow {
	var told []polder.ServiceName
	for _, service := range row.Warm {
		if d.permits(service, row.Region) && d.permitsAll(service, d.Regions) && d.permitsAll(service, also) {
			told = append(told, service)
		}
	}
	row.Warm, row.Busy = told, within(row.Busy, told)
	return row
}

// Knows tells whether the region is one of the configuration's.
func (d Disclosure) Knows(region polder.RegionName) bool { return slices.Contains(d.Regions, region) }

func (d Disclosure) permits(service polder.ServiceName, region polder.RegionName) bool {
	return len(d.Regions) > 0 && d.Permitted != nil && d.Permitted(service, region)
}

func (d Disclosure) permitsAll(service polder.ServiceName, regions []polder.RegionName) bool {
	for _, region := range regions {
		if !d.permits(service, region) {
			return false
		}
	}
	return true
}
