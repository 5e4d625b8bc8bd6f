package loadtest

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"time"
)

// Arrivals is a schedule: when each request should leave. Implementations are
// values that yield the same schedule each time they are asked.
type Arrivals interface {
	// Times yields the intended time of each request, counted from the start of
	// the run, never decreasing and below Length.
	Times() iter.Seq[time.Duration]

	// Count is the number of times that Times yields.
	Count() uint64

	// Length is when the schedule is over.
	Length() time.Duration

	String() string
}

// The limits of a schedule. They keep its arithmetic exact and its mistakes
// small: an hour in place of a second is a mistake, a year is a typing error.
const (
	MaxRate   = 1e6 // requests a second
	MaxLength = 31 * 24 * time.Hour
)

// The shapes below are rates r(t) in requests a second over t seconds. Request
// k = 0, 1, 2, ... leaves when the integral R(t) of the rate reaches k:
//
//	constant  r(t) = r                   R(t) = r·t
//	ramp      r(t) = a + (b-a)·t/L       R(t) = a·t + (b-a)·t²/(2L)
//	sine      r(t) = m + d·sin(2πt/P)    R(t) = m·t + d·P/2π·(1 - cos(2πt/P))
//
// so that any stretch of time has the requests that its integral says, to
// within one, and the whole length L has R(L) of them, rounded up.

// Constant sends at one rate.
type Constant struct {
	Rate float64       // requests a second, above 0
	For  time.Duration // above 0
}

// Expected is the integral of the rate until t.
func (c Constant) Expected(t time.Duration) float64 { return c.Rate * t.Seconds() }

// Times implements Arrivals.
func (c Constant) Times() iter.Seq[time.Duration] {
	return invert(c.Count(), c.For, func(k float64) float64 { return k / c.Rate })
}

// Count implements Arrivals.
func (c Constant) Count() uint64 { return whole(c.Expected(c.For)) }

// Length implements Arrivals.
func (c Constant) Length() time.Duration { return c.For }

func (c Constant) String() string {
	return fmt.Sprintf("%s for %v", rateText(c.Rate), c.For)
}

// Validate reports what is wrong with the value.
func (c Constant) Validate() error {
	return errors.Join(checkRate("rate", c.Rate, true), checkLength(c.For))
}

// Ramp changes the rate evenly from one to another.
type Ramp struct {
	From, To float64       // requests a second; 0 or more, not both 0
	For      time.Duration // above 0
}

// Expected is the integral of the rate until t.
func (r Ramp) Expected(t time.Duration) float64 {
	s := t.Seconds()
	return r.From*s + (r.To-r.From)*s*s/(2*r.For.Seconds())
}

// Times implements Arrivals.
func (r Ramp) Times() iter.Seq[time.Duration] {
	slope := (r.To - r.From) / r.For.Seconds()
	return invert(r.Count(), r.For, func(k float64) float64 {
		if k == 0 {
			return 0
		}
		// The solution of slope/2·t² + from·t = k in the form that loses no
		// digits when the slope is small. The root's argument is the square of
		// the rate at t; rounding may push it below 0 at the end of a ramp to 0.
		return 2 * k / (r.From + math.Sqrt(max(0, r.From*r.From+2*slope*k)))
	})
}

// Count implements Arrivals.
func (r Ramp) Count() uint64 { return whole(r.Expected(r.For)) }

// Length implements Arrivals.
func (r Ramp) Length() time.Duration { return r.For }

func (r Ramp) String() string {
	return fmt.Sprintf("%s to %s within %v", rateText(r.From), rateText(r.To), r.For)
}

// Validate reports what is wrong with the value.
func (r Ramp) Validate() error {
	var idle error
	if r.From == 0 && r.To == 0 {
		idle = errors.New("the rate is 0 from the beginning to the end of the ramp")
	}
	return errors.Join(checkRate("first rate", r.From, false), checkRate("last rate", r.To, false), idle, checkLength(r.For))
}

// Sine swings around a mean rate, upwards first.
type Sine struct {
	Mean   float64       // requests a second, above 0
	Depth  float64       // how far the rate swings to either side; 0 to Mean
	Period time.Duration // of one swing, above 0
	For    time.Duration // above 0
}

// Expected is the integral of the rate until t.
func (s Sine) Expected(t time.Duration) float64 { return s.integral(t.Seconds()) }

func (s Sine) integral(t float64) float64 {
	period := s.Period.Seconds()
	return s.Mean*t + s.Depth*period/(2*math.Pi)*(1-math.Cos(2*math.Pi*t/period))
}

// Times implements Arrivals.
func (s Sine) Times() iter.Seq[time.Duration] {
	return invert(s.Count(), s.For, func(k float64) float64 {
		// The integral never falls, and its wave lies between 0 and Depth·Period/π.
		low := max(0, (k-s.Depth*s.Period.Seconds()/math.Pi)/s.Mean)
		high := k / s.Mean
		for range 64 {
			middle := low + (high-low)/2
			if s.integral(middle) < k {
				low = middle
			} else {
				high = middle
			}
		}
		return high
	})
}

// Count implements Arrivals.
func (s Sine) Count() uint64 { return whole(s.Expected(s.For)) }

// Length implements Arrivals.
func (s Sine) Length() time.Duration { return s.For }

func (s Sine) String() string {
	return fmt.Sprintf("%s ± %s every %v for %v", rateText(s.Mean), rateText(s.Depth), s.Period, s.For)
}

// Validate reports what is wrong with the value.
func (s Sine) Validate() error {
	faults := []error{checkRate("mean rate", s.Mean, true), checkRate("depth", s.Depth, false), checkLength(s.For)}
	if s.Depth > s.Mean {
		faults = append(faults, fmt.Errorf("the depth %v is above the mean %v: a rate cannot be below 0", s.Depth, s.Mean))
	}
	if s.Period <= 0 {
		faults = append(faults, fmt.Errorf("the period is %v; it must be above 0", s.Period))
	}
	return errors.Join(faults...)
}

// invert yields the times at which an integral reaches 0, 1, ..., count-1. The
// seconds that solve gives may be off by rounding: they are kept in order and
// below the length.
func invert(count uint64, length time.Duration, solve func(k float64) float64) iter.Seq[time.Duration] {
	return func(yield func(time.Duration) bool) {
		last := time.Duration(0)
		for k := range count {
			t := time.Duration(math.Round(solve(float64(k)) * float64(time.Second)))
			last = max(last, min(t, length-1))
			if !yield(last) {
				return
			}
		}
	}
}

// whole rounds an expected number of requests up. What is above a whole number
// by no more than rounding is that number: 0.1/s for 30 s are 3 requests.
func whole(expected float64) uint64 {
	return uint64(math.Ceil(expected * (1 - 1e-12)))
}

func checkRate(what string, rate float64, positive bool) error {
	switch {
	case !(rate >= 0 && rate <= MaxRate), positive && rate == 0:
		least := "0 or more"
		if positive {
			least = "above 0"
		}
		return fmt.Errorf("the %s is %v; it must be %s and at most %d a second", what, rate, least, int(MaxRate))
	}
	return nil
}

func checkLength(length time.Duration) error {
	if length <= 0 || length > MaxLength {
		return fmt.Errorf("the schedule is %v long; it must be above 0 and at most %v", length, MaxLength)
	}
	return nil
}

// rateText writes a rate with the unit in which it is easy to read.
func rateText(perSecond float64) string {
	switch {
	case perSecond == 0 || perSecond >= 1:
		return fmt.Sprintf("%.4g/s", perSecond)
	case perSecond*60 >= 1:
		return fmt.Sprintf("%.4g/min", perSecond*60)
	}
	return fmt.Sprintf("%.4g/h", perSecond*3600)
}
