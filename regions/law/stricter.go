package law

import (
	"cmp"
	"slices"
	"time"

	"github.com/polder/polder"
)

// Stricter is what two policies of one service both permit, for as long as peers
// disagree about it: no region may do under it what it may not do under either.
//
//   - A region is allowed, stands in by itself, stands in behind glass, or is
//     nothing, whichever is the least of the two.
//   - Stand-ins wait until no region that either policy allows is alive.
//   - The glass is broken only while both say so.
//   - Callers elsewhere are passed on, keys stay, and records are kept only where
//     both permit it.
//
// It is commutative, associative and repeats harmlessly, so that peers which
// know the same policies come to the same result.
func (p Permission) Stricter(q Permission) Permission {
	s := Permission{
		elsewhere: p.elsewhere, keys: p.keys, telemetry: leastTelemetry(p.telemetry, q.telemetry),
		primary: union(p.primary, q.primary),
	}
	if q.elsewhere != polder.PassThrough {
		s.elsewhere = q.elsewhere
	}
	if q.keys != polder.KeysResident {
		s.keys = q.keys
	}
	for _, r := range union(p.regions(), q.regions()) {
		in := standIn{region: r, place: max(p.place(r), q.place(r))}
		switch min(p.standing(r), q.standing(r)) {
		case standsAllowed:
			s.allowed = append(s.allowed, r)
		case standsBy:
			s.standby = append(s.standby, in)
		case standsBehindGlass:
			in.broken = both(p.window(r), q.window(r))
			s.glass = append(s.glass, in)
		}
	}
	for _, list := range [][]standIn{s.standby, s.glass} {
		slices.SortStableFunc(list, func(a, b standIn) int { return cmp.Compare(a.place, b.place) })
	}
	return s
}

// standing is how much a policy permits a region.
type standing int

const (
	standsNowhere standing = iota
	standsBehindGlass
	standsBy
	standsAllowed
)

func (p Permission) standing(region polder.RegionName) standing {
	behind := func(s standIn) bool { return s.region == region }
	switch {
	case slices.Contains(p.allowed, region):
		return standsAllowed
	case slices.ContainsFunc(p.standby, behind):
		return standsBy
	case slices.ContainsFunc(p.glass, behind):
		return standsBehindGlass
	}
	return standsNowhere
}

// place is a region's rank among those that stand in; 0 for an allowed one.
func (p Permission) place(region polder.RegionName) int {
	for _, s := range slices.Concat(p.standby, p.glass) {
		if s.region == region {
			return s.place
		}
	}
	return 0
}

// window is when the glass before a region is broken; nil when it is behind none.
func (p Permission) window(region polder.RegionName) *polder.BrokenGlass {
	for i, s := range p.glass {
		if s.region == region {
			return &p.glass[i].broken
		}
	}
	return nil
}

func (p Permission) regions() []polder.RegionName {
	return slices.Concat(p.allowed, p.Standby(), p.Glass())
}

func union(a, b []polder.RegionName) []polder.RegionName {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// both is when both are broken; the zero value when that is never. Nil is no glass.
func both(a, b *polder.BrokenGlass) polder.BrokenGlass {
	switch {
	case a == nil:
		return *b
	case b == nil:
		return *a
	}
	c := polder.BrokenGlass{From: a.From, Until: a.Until, Reason: cmp.Or(a.Reason, b.Reason)}
	if a.Reason != "" && b.Reason != "" {
		c.Reason = min(a.Reason, b.Reason)
	}
	if b.From.After(a.From) {
		c.From = b.From
	}
	if b.Until.Before(a.Until) {
		c.Until = b.Until
	}
	if !c.Until.After(c.From) {
		return polder.BrokenGlass{}
	}
	return c
}

func leastTelemetry(a, b polder.Telemetry) polder.Telemetry {
	return polder.Telemetry{
		AccessLog: least(a.AccessLog, b.AccessLog), Traces: least(a.Traces, b.Traces), Metrics: least(a.Metrics, b.Metrics),
		Profiles: least(a.Profiles, b.Profiles), Ledger: least(a.Ledger, b.Ledger),
	}
}

func least(a, b polder.Kept) polder.Kept {
	kept := []polder.Kept{polder.KeptNowhere, polder.KeptAllowed, polder.KeptServing}
	return kept[max(0, min(slices.Index(kept, a), slices.Index(kept, b)))]
}

// Terms are a permission in the open, for peers to tell each other. What is made
// of another's terms can only restrict: see Circumstances.Others.
type Terms struct {
	Allowed, Standby, Glass []polder.RegionName
	From, Until             time.Time // of the broken glass; zero while it is whole
	Elsewhere               polder.Elsewhere
	Keys                    polder.Keys
	Telemetry               polder.Telemetry
}

// Terms gives the permission in the open. Of several windows it tells the first.
func (p Permission) Terms() Terms {
	b, _ := p.Broken()
	return Terms{
		Allowed: p.Allowed(), Standby: p.Standby(), Glass: p.Glass(), From: b.From, Until: b.Until,
		Elsewhere: p.elsewhere, Keys: p.keys, Telemetry: p.telemetry,
	}
}

// Permission is the inverse of Permission.Terms of what Permit made, the reason
// for breaking the glass aside.
func (t Terms) Permission() Permission {
	allowed := union(t.Allowed, nil)
	p := Permission{allowed: allowed, primary: allowed, elsewhere: t.Elsewhere, keys: t.Keys, telemetry: t.Telemetry}
	for i, r := range t.Standby {
		p.standby = append(p.standby, standIn{region: r, place: i})
	}
	for i, r := range t.Glass {
		p.glass = append(p.glass, standIn{region: r, place: i})
	}
	p.breakGlass(polder.BrokenGlass{From: t.From, Until: t.Until})
	return p
}
