package gateway

import "time"

// The machine's clock may be set, by hand or by a time server that found it wrong, an
// hour forwards or back. Two clocks keep that from the region:
//
//   - What lasts some time (keep-alives, idleness, accounts by the minute, slots of the
//     predictor) is counted by steady, which runs and never steps.
//   - What ends at an instant that an owner named (a broken glass) ends by lawful.

// steady is a clock that agrees with the machine's when it is made and then runs by
// itself, whatever the machine's is set to.
type steady struct{ began time.Time } // with the reading of the monotonic clock

// at is what the clock shows at an instant that time.Now gave. Both the wall and the
// monotonic reading of what it returns are its own, so that instants which lost the one
// are still as far apart as they were.
func (s steady) at(now time.Time) time.Time { return s.began.Add(now.Sub(s.began)) }

// lawful is the clock of the law: it fails closed. It shows the latest of what any clock
// showed: what has ended does not begin again when the machine's clock is set back, and
// what is to end does not last longer; when it is set forwards, what ends until then ends.
type lawful struct{ latest time.Time }

// at is what the clock shows while the others show these.
func (l *lawful) at(clocks ...time.Time) time.Time {
	for _, t := range clocks {
		if t = t.Round(0); t.After(l.latest) { // by the wall reading, which alone can be compared with what was written down
			l.latest = t
		}
	}
	return l.latest
}
