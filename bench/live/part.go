package live

import (
	"fmt"
	"strings"

	"github.com/polder/polder"
	"github.com/polder/polder/bench/policy"
	"github.com/polder/polder/loadtest/trace"
	"github.com/polder/polder/prewarm"
)

// part is one function under one policy: a service.
type part struct {
	name   polder.ServiceName
	policy int // of policies
	region int // of places
	host   string
	phase  float64  // of its calls in a slot, in [0, 1)
	counts []uint32 // calls by minute from 0, with no more than are made
	warm   []bool   // whether the simulator had an instance when the slot began
}

// kept is a policy, as the configuration says it and as the simulator takes it.
type kept struct {
	name, scale string
	simulated   polder.Scale
}

func policies(o Options) []kept {
	const usual = "max: 1, concurrency: 80, pause: never"
	scale := polder.Scale{Max: 1, Concurrency: 80, Pause: polder.NeverPause}
	fixed, auto := scale, scale
	fixed.KeepAlive, fixed.Prewarm = o.KeepAlive, polder.PrewarmOff
	auto.KeepAlive, auto.Prewarm = polder.AutoKeepAlive, polder.PrewarmAuto
	return []kept{
		{"keep-alive " + o.KeepAlive.String(), fmt.Sprintf("{ %s, keep-alive: %s, prewarm: off }", usual, o.KeepAlive), fixed},
		{"auto", fmt.Sprintf("{ %s, keep-alive: auto, prewarm: auto }", usual), auto},
	}
}

// parts chooses the functions, and simulates them.
func parts(o Options) ([]part, error) {
	picked, err := pick(o)
	if err != nil {
		return nil, err
	}
	var list []part
	for i, f := range picked.Functions {
		counts := make([]uint32, o.To)
		for m := range min(len(f.Counts), o.To) {
			counts[m] = min(f.Counts[m], uint32(o.Calls))
		}
		for p, k := range policies(o) {
			name := fmt.Sprintf("f%d-%d", i, p)
			list = append(list, part{
				name: polder.ServiceName(name), policy: p, region: i % o.Regions, host: name + ".example.com",
				phase:  firstPhase + phaseSpread*float64(len(list)%phases)/phases,
				counts: counts, warm: policy.Follow(counts, k.simulated, prewarm.Terms{}),
			})
		}
	}
	return list, nil
}

// Calls of a slot begin at one of some phases about its middle, so that not all
// services are called at one instant, and follow each other after callPause of a
// slot.
const (
	firstPhase, phaseSpread, phases = 0.4, 0.2, 16
	callPause                       = 0.4 / maxCalls
)

func pick(o Options) (trace.Slice, error) {
	s := trace.Selection{Minutes: o.To, Seed: o.Seed, MaxRate: o.MaxRate}
	if o.Trace != "" {
		return policy.Select(o.Trace, o.Weights, o.Functions, s)
	}
	const population = 20 // functions for each that is picked
	synthetic := trace.Synthetic{Functions: population * o.Functions, Minutes: o.To, Seed: o.Seed}
	return trace.Select(synthetic.Read(), o.Functions, s)
}

// configuration writes the file of all regions and services.
func configuration(o Options, list []part) string {
	var b strings.Builder
	b.WriteString("regions:\n")
	for _, p := range places[:o.Regions] {
		fmt.Fprintf(&b, "  %s: %s\n", p.name, p.settings)
	}
	b.WriteString("services:\n")
	all := policies(o)
	for _, p := range list {
		fmt.Fprintf(&b, "  %s:\n    hosts: [%s]\n    residency: { allow: [%s], keys: resident }\n    run: { command: [%q], listen: port }\n    scale: %s\n",
			p.name, p.host, places[p.region].name, o.Sleeper, all[p.policy].scale)
	}
	return b.String()
}

// learned is what the services of a region learned before the first minute that
// is played.
func learned(o Options, list []part, region int) map[polder.ServiceName]*prewarm.State {
	states := map[polder.ServiceName]*prewarm.State{}
	for _, p := range list {
		if p.region == region {
			states[p.name] = policy.Learn(p.counts[:o.first()])
		}
	}
	return states
}

// first is the first minute that is played.
func (o Options) first() int { return o.From - o.LeadIn }
