package regions

import "time"

const (
	// fullWeight is the weight of a peer that is idle and was not away lately.
	fullWeight = 100
	// returning is how long a peer that came back is given less than others, and
	// returnSteps in how many steps that ends.
	returning   = 30 * time.Second
	returnSteps = 3
)

// Weights are the shares of a region's peers in the connections that are passed to
// the region, by peer: each the more the less loaded it is, and one that has just
// come back, while others have not, at first a third and then two of that. The
// weights are from 1 to 100; nil when all are alike, so that nothing changes where
// nothing has to.
func Weights(peers []Peer, now time.Time) map[string]uint32 {
	weights := map[string]uint32{}
	first, alike := uint32(0), true
	for _, p := range peers {
		w := uint32(fullWeight) - min(uint32(p.Row.Load), fullWeight)
		if step := now.Sub(p.Since) / (returning / returnSteps); step >= 0 && step < returnSteps-1 {
			w = w * uint32(step+1) / returnSteps
		}
		w = max(1, w)
		if len(weights) == 0 {
			first = w
		}
		alike = alike && w == first
		weights[p.Row.Peer] = w
	}
	if alike {
		return nil
	}
	return weights
}
