package policy

import (
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
)

// keeper decides how many instances a flow has.
type keeper interface {
	// ask tells what there is, and returns how many instances there should be, ready
	// or starting, and at which instant since minute 0 to ask again at the latest.
	ask(obs prewarm.Observation) (desired int, until time.Duration)
}

// stepKeeper is the production code.
type stepKeeper struct {
	service polder.Service
	terms   prewarm.Terms
	state   prewarm.State
}

func stepping(o Options, scale polder.Scale, terms prewarm.Terms) *stepKeeper {
	scale.Max, scale.Concurrency = mostInstances, o.Concurrency
	return &stepKeeper{service: polder.Service{Scale: scale}, terms: terms}
}

func (k *stepKeeper) ask(obs prewarm.Observation) (int, time.Duration) {
	d := prewarm.Step(&k.state, k.service, obs, k.terms)
	return d.Desired, d.Until.Sub(epoch)
}

// hybridKeeper is the hybrid histogram (see hybrid), whose idle times are here what
// the paper takes them for: from the end of the last call to the next one. It says
// whether one instance is kept while nobody calls; what calls in progress need is
// sized as for the other policies.
type hybridKeeper struct {
	sizing  *stepKeeper // without a keep-alive
	setting hybrid
	bins    bins // count[i] of idle times of i-1 to i minutes
	called  bool
	idling  bool
	since   time.Duration // of idling
	window  span
}

// span is a time with an instance, since the last call ended.
type span struct{ from, to time.Duration }

func keepingHybrid(o Options, setting hybrid) *hybridKeeper {
	return &hybridKeeper{
		sizing: stepping(o, polder.Scale{Prewarm: polder.PrewarmOff}, prewarm.Terms{}), setting: setting,
		bins: bins{count: make([]uint32, setting.span+1)},
	}
}

func (h *hybridKeeper) ask(obs prewarm.Observation) (int, time.Duration) {
	desired, until := h.sizing.ask(obs)
	now := obs.Now.Sub(epoch)
	if obs.InProgress+obs.Waiting > 0 {
		if h.idling {
			h.bins.add(int((now-h.since)/time.Minute) + 1)
		}
		h.called, h.idling = true, false
		return desired, until
	}
	if h.called && !h.idling {
		h.idling, h.since, h.window = true, now, h.setting.after(&h.bins)
	}
	switch from, to := h.since+h.window.from, h.since+h.window.to; {
	case !h.idling || now >= to:
	case now < from:
		until = min(until, from)
	default:
		desired, until = max(desired, 1), min(until, to)
	}
	return desired, until
}

// after is the window after a call: from the lower edge of the bin with the low
// quantile to the upper edge of that with the high one, widened by margin.
func (h hybrid) after(b *bins) span {
	if !h.represents(b) {
		return span{0, time.Duration(h.fallback) * time.Minute}
	}
	s := span{to: time.Duration(float64(b.quantile(h.tail)) * (1 + margin) * float64(time.Minute))}
	if h.head > 0 {
		s.from = time.Duration(float64(b.quantile(h.head)-1) * (1 - margin) * float64(time.Minute))
	}
	return s
}
