package regions

import (
	"math"
	"time"
)

// Damping says when a peer that goes and comes too often counts as unsteady, so
// that traffic does not follow each of its steps. It is BGP's route flap damping
// (RFC 2439): every fault adds 1 to a penalty, the penalty halves in each
// HalfLife, above Cut the peer is unsteady and below Reuse it is steady again.
//
// An unsteady peer is still used where there is nothing better: damping changes
// the order of what may serve and never takes the last one away.
type Damping struct {
	HalfLife time.Duration // > 0
	Cut      float64       // >= Reuse
	Reuse    float64       // > 0
	Ceiling  float64       // >= Cut; bounds how long old faults are held against a peer
}

// DefaultDamping holds two faults within about half a minute against a peer for
// some 40 seconds, and never anything for more than 72 seconds
// (HalfLife × log2(Ceiling/Reuse)); one fault alone, such as a restart, costs
// nothing.
func DefaultDamping() Damping {
	return Damping{HalfLife: 30 * time.Second, Cut: 1.5, Reuse: 0.75, Ceiling: 4}
}

// penalty is what faults have left behind. Its zero value is a clean record.
type penalty struct {
	value  float64   // at the instant below
	at     time.Time // when value was right
	damped bool
}

func (p penalty) decayed(d Damping, now time.Time) float64 {
	passed := now.Sub(p.at)
	if passed <= 0 {
		return p.value // a clock that stepped back forgives nothing
	}
	return p.value * math.Exp2(-passed.Seconds()/d.HalfLife.Seconds())
}

// fault records a fault at now.
func (p penalty) fault(d Damping, now time.Time) penalty {
	value := min(d.Ceiling, p.decayed(d, now)+1)
	return penalty{value: value, at: now, damped: p.damped || value >= d.Cut}
}

// settle ends the damping when the penalty has decayed far enough.
func (p penalty) settle(d Damping, now time.Time) penalty {
	if p.damped && p.decayed(d, now) < d.Reuse {
		p.damped = false
	}
	return p
}

// ends is the first instant at which settle ends the damping; zero if there is
// none to end.
func (p penalty) ends(d Damping) time.Time {
	if !p.damped {
		return time.Time{}
	}
	wait := d.HalfLife.Seconds() * math.Log2(p.value/d.Reuse)
	// One millisecond on, so that rounding cannot leave settle just above Reuse.
	return p.at.Add(time.Duration(max(0, wait)*float64(time.Second)) + time.Millisecond)
}
