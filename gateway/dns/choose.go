package dns

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
	"github.com/polder/polder/regions/law"
)

// World is what answers are made from. It is read only, and so is what it
// points to.
type World struct {
	Here  polder.RegionName // of the server
	Model *polder.Model
	// Alive are the regions that are not given up: what the law goes by.
	Alive polder.RegionHealth
	// Usable are those that can take callers at this moment.
	Usable   polder.RegionHealth
	Unsteady map[polder.RegionName]bool // usable, but comes and goes
	// Others are what living peers take a service's policy to be, where they take it
	// for something else; see law.Circumstances.
	Others map[polder.ServiceName][]law.Permission
	Peers  map[polder.RegionName]int // how many live
	Now    time.Time                 // for what owners bound to a time
}

// equal tells whether answers would be the same. Models are not changed, so that
// another one is another pointer. Time counts when an owner bound something to it.
func (w World) equal(o World) bool {
	return reflect.DeepEqual(w.Others, o.Others) && w.Here == o.Here && w.Model == o.Model && maps.Equal(w.Alive, o.Alive) && maps.Equal(w.Usable, o.Usable) && maps.Equal(w.Unsteady, o.Unsteady) &&
		maps.Equal(w.Peers, o.Peers)
}

// usable tells whether there is a region that can take callers.
func (w World) usable() bool {
	for _, can := range w.Usable {
		if can {
			return true
		}
	}
	return false
}

// judge is what the law says of a service at the gateways of a region.
func (w World) judge(s polder.Service, r polder.RegionName) law.Approved {
	return law.Judge(s, law.Circumstances{Here: r, Regions: w.Model.Regions, Alive: w.Alive, Others: w.Others[s.Name], Now: w.Now})
}

// http3 lists the regions in which every gateway takes QUIC for a service: they
// listen for it, and hold the service's key. A service that is started has a home,
// where all other gateways pass its callers, and nothing is passed on in QUIC; so it
// has to be alone, in one region of one peer.
func (w World) http3(s polder.Service) []polder.RegionName {
	if !slices.ContainsFunc(w.Model.Regions, func(r polder.Region) bool { return r.Listen.HTTP3 == polder.HTTP3On }) {
		return nil
	}
	var offer, serving []polder.RegionName
	for _, r := range w.Model.Regions {
		a := w.judge(s, r.Name)
		if a.Verdict() == law.Serve {
			serving = append(serving, r.Name)
		}
		if a.Resident() && r.Listen.HTTP3 == polder.HTTP3On {
			offer = append(offer, r.Name)
		}
	}
	if s.Run != nil && (len(serving) != 1 || w.Peers[serving[0]] != 1) {
		return nil
	}
	return offer
}

// Entries lists the regions whose addresses callers of a service may be given, as
// the law has it for the gateway of each. It gives those that can serve now; or
// else, those from where callers are passed on or told that nothing is alive; or
// else, those that will serve once they are back. Regions that the owner refuses,
// and regions without public addresses, are never among them.
func (w World) Entries(s polder.Service) []polder.RegionName {
	var serving, telling, resting []polder.RegionName
	for _, r := range w.Model.Regions {
		if len(r.Public) == 0 {
			continue
		}
		verdict := w.judge(s, r.Name).Verdict()
		switch {
		case verdict == law.Serve && w.Usable[r.Name]:
			serving = append(serving, r.Name)
		case verdict == law.Serve:
			resting = append(resting, r.Name)
		case (verdict == law.Pass || verdict == law.Unavailable) && w.Usable[r.Name]:
			telling = append(telling, r.Name)
		}
	}
	for _, tier := range [][]polder.RegionName{serving, telling} {
		if len(tier) > 0 {
			return tier
		}
	}
	return resting
}

// nearest is the region among these that is best for a caller at a place: a
// steady one before one that flaps, then the nearest.
func (w World) nearest(among []polder.RegionName, at polder.Location) polder.Region {
	var candidates []polder.Region
	for _, r := range w.Model.Regions {
		if slices.Contains(among, r.Name) {
			candidates = append(candidates, r)
		}
	}
	order := regions.Order(at, candidates, regions.View{Health: w.Usable, Unsteady: w.Unsteady})
	best, _ := w.Model.Region(order[0])
	return best
}
