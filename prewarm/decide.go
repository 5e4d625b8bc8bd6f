package prewarm

import (
	"time"

	"github.com/polder/polder"
)

const (
	// fallbackKeepAlive serves a service with AutoKeepAlive while there is not
	// enough data for a forecast: what most platforms give everyone.
	fallbackKeepAlive = 10 * time.Minute
	// announcedGrace is how long an instance waits for a caller that was
	// announced and has not come.
	announcedGrace = 30 * time.Second
	// busyTick is when to ask again while requests are in progress.
	busyTick = 2 * time.Second
	// idleTick is when to ask again at the latest.
	idleTick = time.Minute
	// defaultThreshold is the chance of a call in a minute above which an
	// instance is worth it when there is no price list. On the functions that
	// the shipped model was fitted on it wastes a little less than a keep-alive
	// of ten minutes (docs/predictor.md).
	defaultThreshold = 0.02
	// hysteresis is the share of the threshold below which an instance that is
	// warm stops: a chance that hovers does not flap. At half the threshold there
	// are fewer starts still, but 2 to 6 % more cold minutes at equal waste; with
	// none, 15 % more starts (docs/predictor.md).
	hysteresis = 0.75
	// shortKeepAlive bounds the keep-alive from RungShort on.
	shortKeepAlive = time.Minute
	// shortFactor raises the threshold of a forecast from RungShort on.
	shortFactor = 4
)

// Rung is a step of the ladder that a budget descends when money runs short.
// Each rung includes those before it. The zero value has no effect.
type Rung uint8

// The rungs, in order.
const (
	RungFree    Rung = iota // enough money
	RungPrewarm             // no instance starts ahead of a forecast
	RungShort               // idle instances stop after a minute
	RungFewer               // at most one instance beside the minimum's
	RungHeld                // no instance starts; requests wait for money or their deadline
	RungRefused             // requests are refused with the reason
)

var rungNames = [...]string{"free", "less prewarm", "shorter keep-alive", "fewer instances", "held", "refused"}

// String returns the rung's name.
func (r Rung) String() string {
	if int(r) < len(rungNames) {
		return rungNames[r]
	}
	return "unknown rung"
}

// Pausing says what a paused instance costs and gives. The zero value means
// that the provider cannot pause.
type Pausing struct {
	Possible bool
	Share    float64       // of the cost of a warm instance, in [0, 1]
	Resume   time.Duration // until a paused instance answers
}

// Terms are the conditions under which a decision is made.
type Terms struct {
	Prices    Prices
	Footprint Footprint // the zero value takes the memory limit of the service's Run
	Pausing   Pausing
	Rung      Rung
	Announcer string // what announced the last caller, in words; "" when it is not known
	Standing  string // which account Rung comes from, in words; "" on RungFree
}

// Inputs is everything that a decision depends on.
type Inputs struct {
	Now       time.Time
	Scale     polder.Scale
	Instances Instances
	Sized     int           // instances that the demand asks for (see Demand)
	Held      bool          // Sized is what was asked for a moment ago, and more than now
	Demand    Demand        // requests in progress
	Called    bool          // whether a caller was ever seen
	Idle      time.Duration // since the last sign of a caller, or since the first observation
	Announced time.Time     // of an announced arrival; zero when none
	StartUp   time.Duration // p95
	Scheduled Scheduled     // what scale.schedule asks for
	Forecast  Forecast
	Terms     Terms
}

// Action says in which direction a decision goes.
type Action string

// The actions.
const (
	Keep  Action = "keep"  // as many instances as there are
	Start Action = "start" // more
	Stop  Action = "stop"  // fewer
)

// Rule names the reason of a decision; metrics use it as a label.
type Rule string

// The rules, in the order in which they are asked.
const (
	RuleBudget    Rule = "budget"          // the ladder forbids instances
	RuleDemand    Rule = "demand"          // requests in progress or waiting
	RuleMinimum   Rule = "minimum"         // scale.min
	RuleSchedule  Rule = "schedule"        // scale.schedule
	RuleAnnounced Rule = "announced"       // a caller is on the way
	RuleKeepAlive Rule = "keep-alive"      // the fixed idle time
	RuleNoData    Rule = "not enough data" // the fallback idle time
	RuleForecast  Rule = "forecast"        // chance × cold cost against warm cost
)

// Decision is how many instances there should be, and why.
type Decision struct {
	Action  Action
	Desired int       // instances that are ready or starting
	Paused  int       // instances to keep paused beside them
	Until   time.Time // when to ask again at the latest
	Rule    Rule

	Inputs    Inputs  // what it was made from
	Threshold float64 // the chance that a forecast had to exceed; 0 when none was asked
	WarmCost  Nanos   // of one instance for one minute; 0 without a price list
}

// Decide is total: every input has an answer, within [0, Scale.Max], and equal
// inputs have equal answers.
func Decide(in Inputs) (d Decision) {
	d.Inputs = in
	d.make()
	return d
}

// make decides from the inputs, where they are: they are large, and a simulator
// decides very often.
func (d *Decision) make() {
	in := &d.Inputs
	if in.Scale.Pause == polder.NeverPause {
		in.Terms.Pausing = Pausing{}
	}
	d.WarmCost = in.Terms.Prices.Warm(in.Terms.Footprint, time.Minute)
	d.base()
	d.pause()
	d.Desired = min(d.Desired, d.ceiling())
	if warm := in.Instances.Warm(); in.Terms.Rung >= RungHeld && d.Desired > warm {
		// Nothing starts. What runs is paid for, by the minute: the meter names
		// what is not, and to stop more would only make room to start it again.
		d.Desired, d.Rule = warm, RuleBudget
	}
	d.Paused = min(d.Paused, in.Instances.Warm()+in.Instances.Paused-d.Desired)
	d.Paused = max(d.Paused, 0)
	switch warm := in.Instances.Warm(); {
	case d.Desired > warm:
		d.Action = Start
	case d.Desired < warm:
		d.Action = Stop
	default:
		d.Action = Keep
	}
}

// base answers without the bounds: the first rule that wants more than the
// minimum decides.
func (d *Decision) base() {
	in := &d.Inputs
	floor, rule := max(in.Scale.Min, 0), RuleMinimum
	if in.Scheduled.Min > floor {
		floor, rule = in.Scheduled.Min, RuleSchedule
	}
	d.Until = in.Now.Add(idleTick)
	if !in.Scheduled.Next.IsZero() {
		defer func() { d.Until = earlier(d.Until, in.Scheduled.Next) }()
	}
	if in.Sized > floor {
		d.Rule, d.Desired, d.Until = RuleDemand, in.Sized, in.Now.Add(busyTick)
		return
	}
	if floor > 0 {
		d.Rule, d.Desired = rule, floor
		if in.Demand.Now > 0 || in.Demand.Stable > 0 {
			d.Until = in.Now.Add(busyTick)
		}
		return
	}
	if d.announced() {
		return
	}
	d.idle()
}

// announced keeps one instance for a caller that is on the way.
func (d *Decision) announced() bool {
	in := &d.Inputs
	if in.Announced.IsZero() {
		return false
	}
	start := in.Announced.Add(-in.lead())
	end := in.Announced.Add(announcedGrace)
	switch {
	case in.Now.Before(start):
		d.Until = earlier(d.Until, start)
		return false
	case in.Now.Before(end):
		d.Rule, d.Desired, d.Until = RuleAnnounced, 1, end
		return true
	}
	return false
}

// idle decides whether a service without callers keeps, or gets, an instance.
func (d *Decision) idle() {
	in := &d.Inputs
	keepAlive, rule := in.Scale.KeepAlive, RuleKeepAlive
	if keepAlive < 0 {
		keepAlive, rule = fallbackKeepAlive, RuleNoData
	}
	if in.Terms.Rung >= RungShort {
		keepAlive = min(keepAlive, shortKeepAlive)
	}
	auto := in.Scale.KeepAlive < 0 && in.Forecast.Known
	if !auto && in.Instances.Warm()+in.Instances.Paused > 0 && in.Idle < keepAlive {
		d.Rule, d.Desired = rule, 1
		d.Until = earlier(d.Until, in.Now.Add(keepAlive-in.Idle))
		return
	}
	if in.Forecast.Known && (auto || in.prewarms()) {
		d.forecast()
		return
	}
	d.Rule = rule
}

// pause pauses the one instance that is kept for a caller who may come, once it
// was idle for scale.pause: to resume it costs a caller next to nothing.
func (d *Decision) pause() {
	in := &d.Inputs
	kept := d.Rule == RuleKeepAlive || d.Rule == RuleNoData || d.Rule == RuleForecast
	if !kept || d.Desired != 1 || !in.Terms.Pausing.Possible || in.Scale.Pause < 0 || !in.Called {
		return
	}
	if in.Idle >= in.Scale.Pause {
		d.Desired, d.Paused = 0, 1
		return
	}
	d.Until = earlier(d.Until, in.Now.Add(in.Scale.Pause-in.Idle))
}

// forecast weighs the expected cost of being cold against that of being warm.
func (d *Decision) forecast() {
	in := &d.Inputs
	d.Rule = RuleForecast
	threshold := defaultThreshold
	if in.Terms.Prices.ColdStart > 0 && d.WarmCost > 0 {
		threshold = float64(d.WarmCost) / float64(in.Terms.Prices.ColdStart)
	}
	if in.Terms.Rung >= RungShort {
		threshold *= shortFactor
	}
	chance := in.Forecast.Now
	boundary := slotEnd(in.Now)
	if start := boundary.Add(-in.lead()); in.Now.Before(start) {
		d.Until = earlier(d.Until, start)
	} else { // what starts now is ready in the next slot
		chance = max(chance, in.Forecast.Next)
		d.Until = earlier(d.Until, boundary)
	}
	warm := in.Instances.Warm() > 0 || in.Scale.Pause >= 0 && in.Instances.Paused > 0
	if warm {
		threshold *= hysteresis
	}
	if start, cold := float64(in.Terms.Prices.Start), float64(in.Terms.Prices.ColdStart); start > 0 && cold > 0 {
		// In units of a cold start: to stop costs a start if a call comes soon;
		// to start costs one for nothing if none does.
		if warm {
			chance += start / cold * in.Forecast.Soon
		} else {
			chance -= start / cold * (1 - in.Forecast.Soon)
		}
	}
	d.Threshold = threshold
	tier := weigh(chance, threshold, in.Terms.Pausing, in.StartUp)
	switch {
	case tier == tierWarm && (warm || in.prewarms()):
		d.Desired = 1
	case tier != tierStopped:
		d.Paused = 1
	}
}

// prewarms tells whether an instance may start, or outlive its keep-alive, on
// a forecast.
func (in *Inputs) prewarms() bool {
	return in.Scale.Prewarm != polder.PrewarmOff && in.Terms.Rung < RungPrewarm
}

// lead is the prewarm lead time: how long before it is needed an instance is
// asked for. It is at most a minute, since nothing is forecast in finer slots.
func (in *Inputs) lead() time.Duration {
	return min(max(in.StartUp, 0)+leadMargin, time.Minute)
}

// ahead tells whether an instance that starts at the instant is ready only in
// the next minute slot.
func (in *Inputs) ahead(at time.Time) bool {
	return !at.Before(slotEnd(at).Add(-in.lead()))
}

func slotEnd(at time.Time) time.Time { return at.Truncate(time.Minute).Add(time.Minute) }

// ceiling is the most instances that bounds and budget allow.
func (d *Decision) ceiling() int {
	most := max(d.Inputs.Scale.Max, 0)
	if d.Inputs.Terms.Rung >= RungFewer {
		most = min(most, max(d.Inputs.Scale.Min, 1))
	}
	return most
}

type tier uint8

const (
	tierStopped tier = iota
	tierPaused
	tierWarm
)

// weigh picks the cheapest of three ways to wait one minute for a caller who
// comes with the given chance. In units of one cold start:
//
//	warm     λ                       where λ is the threshold
//	paused   share·λ + chance·r      where r = resume / start-up, at most 1
//	stopped  chance
func weigh(chance, threshold float64, p Pausing, startUp time.Duration) tier {
	best, cost := tierStopped, chance
	if p.Possible {
		r := 1.0
		if startUp > 0 {
			r = min(p.Resume.Seconds()/startUp.Seconds(), 1)
		}
		if c := p.Share*threshold + chance*r; c < cost {
			best, cost = tierPaused, c
		}
	}
	if threshold < cost {
		best = tierWarm
	}
	return best
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
