package prewarm

import (
	"time"

	"github.com/polder/polder"
)

// Score counts what a policy made of a service's calls, as bench/policy does: in
// minute slots of the wall clock.
type Score struct {
	Active uint64        `json:"active_minutes"` // slots with calls
	Cold   uint64        `json:"cold_minutes"`   // of these, whose first call found no instance that was ready or paused
	Starts uint64        `json:"starts"`         // of instances
	Warm   time.Duration `json:"warm"`           // that instances were ready or starting, summed over them
	Idle   time.Duration `json:"idle"`           // of Warm, in slots without calls or requests in progress
	Cost   Nanos         `json:"cost"`           // of instances, paused ones at their share; 0 without a price list
}

// ColdShare is the share of active slots that were cold; 0 without any.
func (s Score) ColdShare() float64 {
	if s.Active == 0 {
		return 0
	}
	return float64(s.Cold) / float64(s.Active)
}

// Shadow scores a policy that does not act, beside the one that does: both see the
// same calls, learn from the same state and are counted alike. The instances of
// the policy that does not act are reckoned with, and take the service's own
// start-up time; its money is not metered, so that no budget holds it.
//
// A Shadow has a fixed size, below ShadowBytes. The zero value has seen nothing.
// It is not safe for concurrent use.
type Shadow struct {
	Since  time.Time // of the first slot that counts
	Acting Score
	Other  Score // of the policy that does not act

	acting, other open
	readyAt       int64 // Unix nanoseconds at which those that start are ready
	sizing        sizing
	busy          bool // requests were in progress or waited at the last step
	decision      Decision
}

// ShadowBytes bounds the memory of one Shadow, in bytes.
const ShadowBytes = 1536

// lapse is how long a service may go without a step for the time between to count:
// decisions are asked for each minute, and who sleeps longer has not looked.
const lapse = 10 * time.Minute

// Decision is the last one of the policy that does not act.
func (x *Shadow) Decision() Decision { return x.decision }

// Step takes in what the state has just observed, and asks the other policy what
// it would do. Service and terms are those of the policy that acts; other is the
// scale of the one that does not.
func (x *Shadow) Step(s *State, service polder.Service, other polder.Scale, obs Observation, terms Terms) {
	now := s.window.last
	if terms.Footprint == (Footprint{}) && service.Run != nil {
		terms.Footprint.Memory = service.Run.Memory
	}
	if x.Since.IsZero() {
		x.Since = time.Unix(0, now)
	}
	if x.acting.at == 0 || now-x.acting.at > int64(lapse) { // as if both began now
		x.acting, x.other, x.readyAt = open{at: now, had: obs.Instances}, open{at: now, had: obs.Instances}, now
	}
	x.acting.pass(now, &x.Acting, terms)
	x.other.pass(now, &x.Other, terms)
	if have := &x.other.had; have.Starting > 0 && now >= x.readyAt {
		have.Ready, have.Starting = have.Ready+have.Starting, 0
	}
	working := max(obs.InProgress, 0)+max(obs.Waiting, 0) > 0
	// Callers that wait in the kernel for an instance are seen before they are counted.
	if obs.Arrivals > 0 || working && !x.busy && obs.Instances.Ready == 0 {
		x.acting.call(obs.Instances, &x.Acting)
		x.other.call(x.other.had, &x.Other)
	}
	x.busy = working
	x.acting.busy, x.other.busy = x.acting.busy || working, x.other.busy || working
	x.Acting.Starts += uint64(max(0, obs.Instances.Warm()+obs.Instances.Paused-x.acting.had.Warm()-x.acting.had.Paused))
	x.acting.had = obs.Instances
	x.decide(s, other, obs, terms)
}

// decide asks the other policy, and does in numbers what it says.
func (x *Shadow) decide(s *State, scale polder.Scale, obs Observation, terms Terms) {
	terms.Rung, terms.Standing = RungFree, ""
	terms.Prices.ColdStart = Nanos(scale.ColdStart)
	obs.Instances = x.other.had
	x.decision = Decide(s.inputs(scale, obs, terms, &x.sizing))
	d, h := &x.decision, &x.other.had
	if resumed := min(h.Paused, d.Desired-h.Warm()); resumed > 0 {
		h.Paused, h.Ready = h.Paused-resumed, h.Ready+resumed
	}
	if more := d.Desired - h.Warm(); more > 0 {
		h.Starting += more
		x.Other.Starts += uint64(more)
		x.readyAt = s.window.last + int64(d.Inputs.StartUp)
	} else if less := -more; less > 0 {
		unready := min(h.Starting, less)
		h.Starting -= unready
		h.Ready -= less - unready
	}
	h.Paused = d.Paused
}

// Rest tells that callers go elsewhere meanwhile, whatever either policy says:
// nothing is scored until the next Step.
func (x *Shadow) Rest() { x.acting.at = 0 }

// open is the slot that a policy's score is open in.
type open struct {
	at     int64         // Unix nanoseconds up to which it is counted; 0 before the first
	had    Instances     // since at; of the policy that does not act, what it would have
	warm   time.Duration // since the slot began, summed over instances
	called bool
	busy   bool
}

// pass counts the time up to now, in which the policy had what it had, and closes
// the slots that end in it.
func (o *open) pass(now int64, score *Score, terms Terms) {
	const minute = int64(time.Minute)
	for o.at < now {
		end := min(o.at-o.at%minute+minute, now)
		passed := time.Duration(end - o.at)
		warm := passed * time.Duration(o.had.Warm())
		o.at, o.warm = end, o.warm+warm
		score.Warm += warm
		score.Cost += terms.Prices.Warm(terms.Footprint, warm) +
			Nanos(terms.Pausing.Share*float64(terms.Prices.Warm(terms.Footprint, passed*time.Duration(o.had.Paused))))
		if end%minute == 0 {
			if !o.called && !o.busy {
				score.Idle += o.warm
			}
			o.warm, o.called, o.busy = 0, false, false
		}
	}
}

// call counts the slot's first call.
func (o *open) call(have Instances, score *Score) {
	if o.called {
		return
	}
	o.called = true
	score.Active++
	if have.Ready+have.Paused == 0 {
		score.Cold++
	}
}
