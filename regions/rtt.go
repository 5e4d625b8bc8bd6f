package regions

import "time"

// roundTrip smooths the round-trip times of one peer as TCP does (RFC 6298:
// an eighth of each new sample), and shows a value that stays put while the
// smoothed one moves by less than a quarter and a millisecond: routes are
// rebuilt when a distance changes, not when a processor was busy.
type roundTrip struct {
	smoothed time.Duration // 0: not measured
	shown    time.Duration
}

// maxRTT bounds one sample: a reply later than that measured something else.
const maxRTT = 10 * time.Second

func (r roundTrip) add(sample time.Duration) roundTrip {
	if sample <= 0 || sample > maxRTT {
		return r
	}
	if r.smoothed == 0 {
		return roundTrip{smoothed: sample, shown: sample}
	}
	r.smoothed += (sample - r.smoothed) / 8
	off := (r.smoothed - r.shown).Abs()
	if off > r.shown/4 && off > time.Millisecond {
		r.shown = r.smoothed
	}
	return r
}
