package prewarm

import (
	"time"

	"github.com/polder/polder"
)

// Step takes an observation into the state and decides how many instances the
// service should have in this region. It is the one function that the gateway
// and the simulator share.
func Step(s *State, service polder.Service, obs Observation, terms Terms) Decision {
	s.Observe(obs)
	if terms.Footprint == (Footprint{}) && service.Run != nil {
		terms.Footprint.Memory = service.Run.Memory
	}
	return Decide(s.Inputs(service.Scale, obs, terms))
}

// Inputs derives what a decision depends on, after obs was observed, and moves
// the burst memory on. Callers that only want the decision use [Step].
func (s *State) Inputs(scale polder.Scale, obs Observation, terms Terms) Inputs {
	return s.inputs(scale, obs, terms, &s.sizing)
}

// inputs does the same with another memory of sizing, for a policy that has
// other instances.
func (s *State) inputs(scale polder.Scale, obs Observation, terms Terms, memory *sizing) Inputs {
	in := Inputs{
		Now:   time.Unix(0, s.window.last),
		Scale: scale,
		Instances: Instances{
			Ready:    max(obs.Instances.Ready, 0),
			Starting: max(obs.Instances.Starting, 0),
			Paused:   max(obs.Instances.Paused, 0),
		},
		Demand: Demand{
			Now:    max(obs.InProgress, 0) + max(obs.Waiting, 0),
			Stable: s.window.mean(stableSeconds),
			Burst:  s.window.mean(burstSeconds),
		},
		Terms: terms,
	}
	in.StartUp, _ = s.startUp.p95()
	if len(scale.Schedule) > 0 {
		in.Scheduled = scheduled(scale.Schedule, in.Now, in.lead())
	}
	soon := terms.Prices.Start > 0
	if soon {
		s.soonUsed = s.rhythm.minute
	}
	in.Forecast = s.forecast(in.ahead(in.Now), soon)
	if s.announced != 0 {
		in.Announced = time.Unix(0, s.announced)
	}
	in.Called = s.lastCall != 0
	in.Idle = time.Duration(s.window.last - max(s.lastCall, s.window.first))
	if in.Demand.Now > 0 || obs.Arrivals > 0 || in.Demand.Stable > 0 {
		in.Sized, memory.burst = size(in.Demand, scale.Concurrency, in.Instances.Ready, memory.burst, s.window.last)
	} else {
		memory.burst = burst{}
	}
	if in.Demand.Now > 0 || obs.Arrivals > 0 {
		in.Sized = max(in.Sized, 1)
	} else if in.Sized <= 1 {
		in.Sized = 0 // one idle instance is a matter of keep-alive, not of sizing
	}
	asked := in.Sized
	in.Sized, memory.held = hold(asked, memory.held, s.window.last)
	in.Held = in.Sized > asked
	return in
}
