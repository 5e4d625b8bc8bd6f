package regions

import (
	"slices"
	"time"

	"github.com/polder/polder"
)

// See sums peers up by region: a region can serve if one of its peers can, it is
// unsteady if none of those is steady, full if all of those are saturated, and it is as far away as the nearest of
// its live peers.
func See(peers []Peer) View {
	v := View{
		Health:   polder.RegionHealth{},
		Unsteady: map[polder.RegionName]bool{},
		Full:     map[polder.RegionName]bool{},
		RTT:      map[polder.RegionName]time.Duration{},
	}
	steady := map[polder.RegionName]bool{}
	room := map[polder.RegionName]bool{}
	for _, p := range peers {
		region := p.Row.Region
		if region == "" {
			continue // it has said nothing yet
		}
		v.Health[region] = v.Health[region] || p.Usable
		steady[region] = steady[region] || p.Steady
		room[region] = room[region] || p.Usable && p.Row.Load < Saturated
		if rtt, known := v.RTT[region]; p.Standing == Alive && p.RTT > 0 && (!known || p.RTT < rtt) {
			v.RTT[region] = p.RTT
		}
	}
	for region, healthy := range v.Health {
		if healthy && !steady[region] {
			v.Unsteady[region] = true
		}
		if healthy && !room[region] {
			v.Full[region] = true
		}
	}
	return v
}

// Observed gives the rows as the rest of the program should read them, by peer
// name: Healthy only if the peer is usable, and Warm and Busy only then, so that nobody
// takes a dead peer's last words for the present.
func Observed(peers []Peer) []polder.PeerRow {
	rows := make([]polder.PeerRow, 0, len(peers))
	for _, p := range peers {
		if p.Row.Sequence == 0 {
			continue
		}
		row := p.Row
		if !p.Usable {
			row.Healthy, row.Warm, row.Busy = false, nil, nil
		}
		rows = append(rows, row)
	}
	return rows
}

// Digests groups the live peers by the digest of their configuration. More than
// one group means that a rollout is under way, or that a peer missed one.
func Digests(peers []Peer) map[string][]string {
	groups := map[string][]string{}
	for _, p := range peers {
		if p.Standing == Alive && p.Row.Sequence > 0 {
			groups[p.Row.Digest] = append(groups[p.Row.Digest], p.Row.Peer)
		}
	}
	for _, names := range groups {
		slices.Sort(names)
	}
	return groups
}
