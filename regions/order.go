package regions

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/polder/polder"
)

// View is what one peer sees of the regions at one instant. A region that is
// missing cannot serve.
type View struct {
	Health   polder.RegionHealth                 // can serve now
	Unsteady map[polder.RegionName]bool          // can serve, but went and came too often lately
	Full     map[polder.RegionName]bool          // can serve, but has no room
	RTT      map[polder.RegionName]time.Duration // smoothed round trip to its nearest live peer; missing: not measured
}

// Order ranks the given regions for a caller at from: those that can serve, are
// steady and have room, then those that can serve but flap or are saturated, then
// those that cannot serve (for who wants to try what is left). Within a rank nearer ones come first, and
// equally near ones by name. It returns every given region exactly once.
//
// Near is measured round-trip time in whole milliseconds where there is one,
// and otherwise the time that the great-circle distance suggests. Each region
// has its own key, so a change of one region never swaps two others.
//
// Order knows nothing of permission: give it only regions that the law permits.
func Order(from polder.Location, regions []polder.Region, view View) []polder.RegionName {
	type key struct {
		name     polder.RegionName
		rank     int
		cost     int64   // ms
		distance float64 // km
	}
	keys := make([]key, 0, len(regions))
	for _, r := range regions {
		distance := Distance(from, r.Location)
		keys = append(keys, key{r.Name, view.rank(r.Name), view.cost(r.Name, distance), distance})
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(
			cmp.Compare(a.rank, b.rank),
			cmp.Compare(a.cost, b.cost),
			cmp.Compare(a.distance, b.distance),
			cmp.Compare(a.name, b.name),
		)
	})
	names := make([]polder.RegionName, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	return names
}

func (v View) rank(name polder.RegionName) int {
	switch {
	case !v.Health[name]:
		return 2
	case v.Unsteady[name] || v.Full[name]:
		return 1
	}
	return 0
}

// msPerKilometre is the round trip per kilometre of great circle: light in fibre
// covers 200 km in a millisecond, there and back makes 0.01 ms, and cables are
// about twice as long as the great circle. Paris to Amsterdam (430 km) gives 9 ms
// and Paris to Warsaw (1370 km) 27 ms, where 10 and 30 are usual.
const msPerKilometre = 0.02

// cost is in milliseconds, rounded up: below one everything is equally near, so
// that regions on one machine or in one building do not swap places with the
// noise of a busy processor; their distance decides then.
func (v View) cost(name polder.RegionName, distance float64) int64 {
	if rtt, ok := v.RTT[name]; ok && rtt >= 0 {
		return int64((rtt + time.Millisecond - 1) / time.Millisecond)
	}
	return int64(math.Ceil(distance * msPerKilometre))
}

// Distance is the length of the great circle between two places, in kilometres:
// the haversine formula on a sphere of 6371 km (Sinnott, "Virtues of the
// Haversine", 1984), exact to half a percent.
func Distance(a, b polder.Location) float64 {
	const radius, degree = 6371.0, math.Pi / 180
	lat1, lat2 := a.Latitude*degree, b.Latitude*degree
	sinLat := math.Sin((lat2 - lat1) / 2)
	sinLon := math.Sin((b.Longitude - a.Longitude) * degree / 2)
	h := sinLat*sinLat + math.Cos(lat1)*math.Cos(lat2)*sinLon*sinLon
	return 2 * radius * math.Asin(math.Sqrt(min(1, max(0, h))))
}
