package gateway

import (
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/ledger"
	"github.com/polder/polder/regions/law"
)

// GlassStatus tells of a service whose owner broke the glass.
type GlassStatus struct {
	From    time.Time           `json:"from"`
	Until   time.Time           `json:"until"`
	Reason  string              `json:"reason"`
	Regions []polder.RegionName `json:"regions"` // that may stand in
	Broken  bool                `json:"broken"`  // it is now; else it shall be, or was
	InUse   bool                `json:"in-use"`  // this gateway serves or passes on by it
}

// glassStatus is nil when nobody broke the service's glass.
func glassStatus(a law.Approved, now time.Time) *GlassStatus {
	p := a.Permission()
	b, ok := p.Broken()
	if !ok || !now.Before(b.Until) {
		return nil
	}
	return &GlassStatus{From: b.From, Until: b.Until, Reason: b.Reason, Regions: p.Glass(), Broken: b.In(now), InUse: !a.Until().IsZero()}
}

// glassEvent is what happens to the glass of a service at this gateway.
type glassEvent string

const (
	glassBroken   glassEvent = "broken"           // regions may stand in from now on
	glassWhole    glassEvent = "whole"            // they may not any more
	glassStandsIn glassEvent = "stands-in"        // this gateway serves by it
	glassPasses   glassEvent = "passes-on"        // this gateway passes callers on by it
	glassUnused   glassEvent = "not-used-anymore" // it did
)

// glassRecord is what the ledger keeps of it.
type glassRecord struct {
	Event   glassEvent          `json:"event"`
	Service polder.ServiceName  `json:"service"`
	From    time.Time           `json:"from"`
	Until   time.Time           `json:"until"`
	Regions []polder.RegionName `json:"regions"`
	Reason  string              `json:"reason"`
}

// glass is what the reconciler remembers of a service's broken glass.
type glass struct {
	broken bool
	use    glassEvent // glassStandsIn, glassPasses or ""
	last   glassRecord
}

// watchGlass notes, and writes to the ledger, what became of a service's glass
// with the last verdict. now is when the verdict was given.
func (j *journal) watchGlass(g *glass, a law.Approved, now time.Time) {
	p := a.Permission()
	b, ok := p.Broken()
	if ok {
		g.last = glassRecord{Service: a.Service().Name, From: b.From, Until: b.Until, Regions: p.Glass(), Reason: b.Reason}
	}
	tell := func(event glassEvent) {
		r := g.last
		r.Event = event
		j.record(ledger.BreakGlass, r)
		if j != nil {
			j.log.Warn("break-glass", "service", r.Service, "event", event, "until", r.Until, "reason", r.Reason)
		}
	}
	broken := ok && len(p.StandIns(now)) > len(p.Standby())
	if broken && !g.broken {
		tell(glassBroken)
	}
	use := glassEvent("")
	switch {
	case a.Until().IsZero():
	case a.Verdict() == law.Serve:
		use = glassStandsIn
	case a.Verdict() == law.Pass:
		use = glassPasses
	}
	if use != g.use {
		if use == "" {
			use = glassUnused
		}
		tell(use)
		if use == glassUnused {
			use = ""
		}
	}
	if !broken && g.broken {
		tell(glassWhole)
	}
	g.broken, g.use = broken, use
}

// turnsNext finds the next instant at which a broken glass begins or ends; zero
// when there is none.
func turnsNext(services map[polder.ServiceName]*service, now time.Time) time.Time {
	var next time.Time
	for _, s := range services {
		if at, ever := s.approved.Permission().Turns(now); ever && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}
