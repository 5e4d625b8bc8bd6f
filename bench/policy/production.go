package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/loadtest/trace"
	"github.com/polder/polder/prewarm"
)

// epoch is the instant of minute 0: the first day of the Azure Functions 2019
// data set. Minutes of the hour are real ones there.
var epoch = time.Date(2019, 7, 15, 0, 0, 0, 0, time.UTC)

// Slots begin on the minute, and calls come in their middle.
func slotStart(minute int) time.Time { return epoch.Add(time.Duration(minute) * time.Minute) }
func slotCall(minute int) time.Time  { return slotStart(minute).Add(30 * time.Second) }

// priced returns terms under which an instance is worth keeping above the
// given chance of a call: a GiB for one minute costs that share of a cold start.
func priced(threshold float64) prewarm.Terms {
	const warmMinute = 60_000_000 // nanos
	return prewarm.Terms{
		Prices:    prewarm.Prices{GiBSecond: warmMinute / 60, ColdStart: prewarm.Nanos(warmMinute / threshold)},
		Footprint: prewarm.Footprint{Memory: 1 << 30},
	}
}

// production runs prewarm.Step's parts: one state and one observation of a replay
// for all settings, then a decision for each (TestAgainstSlow keeps
// them equal to Step).
func production(name string, settings []string, scales []polder.Scale, terms []prewarm.Terms) family {
	starts := slices.ContainsFunc(terms, func(t prewarm.Terms) bool { return t.Prices.Start > 0 })
	return family{name, settings, func(_ trace.Function, r *replay) walk {
		r.soon = r.soon || starts
		return &productionWalk{replay: r, scales: scales, terms: terms, warm: make([]bool, len(scales))}
	}}
}

// replay is one function's past as the production code knows it, for all walks
// that go along the function in step: learning and the forecast are most of the
// work, and depend on no setting.
type replay struct {
	state    prewarm.State
	inputs   prewarm.Inputs // of the slot's begin; no scale and no terms
	observed int            // slots whose begin was observed
	closed   int            // slots whose calls were observed
	soon     bool           // some walk looks further ahead than a slot
}

// before returns what decisions at the begin of the slot depend on, bar the
// setting. Slots come in order.
func (r *replay) before(minute int) *prewarm.Inputs {
	if r.observed <= minute {
		r.observed = minute + 1
		obs := prewarm.Observation{Now: slotStart(minute)}
		terms := prewarm.Terms{}
		if r.soon {
			terms.Prices.Start = 1 // Inputs asks only whether there is one
		}
		r.state.Observe(obs)
		r.inputs = r.state.Inputs(polder.Scale{}, obs, terms)
	}
	return &r.inputs
}

// after tells the calls of the slot, of which there are some.
func (r *replay) after(minute int, calls uint32) {
	if r.closed <= minute {
		r.closed = minute + 1
		r.state.Observe(prewarm.Observation{Now: slotCall(minute), Arrivals: int(calls)})
	}
}

type productionWalk struct {
	replay *replay
	scales []polder.Scale // without schedules: Inputs would depend on those
	terms  []prewarm.Terms
	warm   []bool // has an instance, per setting
}

func (p *productionWalk) before(minute int, warm []bool) {
	in := *p.replay.before(minute)
	for i := range p.scales {
		in.Scale, in.Terms = p.scales[i], p.terms[i]
		in.Instances = prewarm.Instances{}
		if p.warm[i] {
			in.Instances.Ready = 1
		}
		warm[i] = prewarm.Decide(in).Desired > 0
		p.warm[i] = warm[i]
	}
}

func (p *productionWalk) after(minute int, calls uint32) {
	if calls == 0 {
		return
	}
	p.replay.after(minute, calls)
	for i := range p.warm {
		p.warm[i] = true // started for the call, if it was not there
	}
}

// oneInstance is the scale of every simulated function.
func oneInstance(keepAlive time.Duration, pre polder.Prewarm) polder.Scale {
	return polder.Scale{Max: 1, Concurrency: 80, KeepAlive: keepAlive, Prewarm: pre}
}

// auto is the shipped predictor at the given thresholds.
func auto(thresholds []float64) family {
	var settings []string
	var scales []polder.Scale
	var terms []prewarm.Terms
	for _, t := range thresholds {
		settings = append(settings, fmt.Sprintf("λ %g", t))
		scales = append(scales, oneInstance(polder.AutoKeepAlive, polder.PrewarmAuto))
		terms = append(terms, priced(t))
	}
	return production("polder auto", settings, scales, terms)
}

// countsLoads is the name of the policy whose settings differ in loads on purpose.
const countsLoads = "polder sparing"

// sparing is the shipped predictor told that a start costs something, in units
// of a cold start: the mode that counts loads.
func sparing() family {
	var settings []string
	var scales []polder.Scale
	var terms []prewarm.Terms
	for _, start := range []float64{.5, 2} {
		for _, threshold := range []float64{1, .5, .3, .2, .12, .08, .05, .03} {
			t := priced(threshold)
			t.Prices.Start = prewarm.Nanos(start * float64(t.Prices.ColdStart))
			settings = append(settings, fmt.Sprintf("start %g, λ %g", start, threshold))
			scales = append(scales, oneInstance(polder.AutoKeepAlive, polder.PrewarmAuto))
			terms = append(terms, t)
		}
	}
	return production(countsLoads, settings, scales, terms)
}

// kpa is what the Knative autoscaler does to an idle service: its stable
// window, then the grace period before zero. The window is ours.
func kpa() family {
	windows := []time.Duration{time.Minute, 5 * time.Minute, 10 * time.Minute}
	const grace = 30 * time.Second
	var settings []string
	var scales []polder.Scale
	for _, w := range windows {
		settings = append(settings, fmt.Sprintf("window %s, grace %s", w, grace))
		scales = append(scales, oneInstance(w+grace, polder.PrewarmOff))
	}
	return production("KPA-like window", settings, scales, make([]prewarm.Terms, len(windows)))
}
