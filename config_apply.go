package polder

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Against puts the faults of hosts that several services claim down to the
// newcomers among them: to all but the service that holds the host in last,
// or, where none of the claimants does, to all but the first in the files.
// Decode itself knows of no last model. A Result that Decode did not make claims no
// hosts, and stays as it is.
func (r Result) Against(last *Model) Result {
	if r.parts == nil {
		return r
	}
	r.Faults = slices.Clone(r.base)
	_, _, owners := r.resolve(last)
	for _, d := range r.declared {
		for _, claim := range d.claims {
			owner := owners[claim.host]
			if owner.name == d.name {
				continue
			}
			r.Faults = append(r.Faults, Fault{
				At: claim.at, Path: claim.path, Service: d.name,
				Message: fmt.Sprintf("the host %s belongs to the service %s, at %s", quote(string(claim.host)), quote(string(owner.name)), owner.at),
				Fix:     "write another host, or remove it there",
			})
		}
	}
	sortFaults(r.Faults)
	r.Faults = fewer(r.Faults, r.dropped)
	return r
}

// fewer cuts sorted faults to as many as somebody may want to see. Those that
// stop everything stay before those that stop one service.
func fewer(faults []Fault, dropped int) []Fault {
	rest := dropped + len(faults) - maxFaults
	if rest <= 0 {
		return faults
	}
	if len(faults) > maxFaults {
		slices.SortStableFunc(faults, func(a, b Fault) int {
			return cmp.Compare(min(len(a.Service), 1), min(len(b.Service), 1))
		})
		faults = faults[:maxFaults]
		sortFaults(faults)
	}
	last := faults[len(faults)-1]
	return append(faults, Fault{At: last.At, Message: fmt.Sprintf("there are %d faults more", rest), Fix: "repair those before first"})
}

// owner is the service to which a host is given, and where it claims it.
type owner struct {
	name ServiceName
	at   Position
}

// owners gives each claimed host to one service. Services in gone hold nothing.
func (r Result) owners(last *Model, gone map[ServiceName]bool) map[Host]owner {
	held := make(map[Host]ServiceName)
	for _, s := range last.Services {
		if gone[s.Name] {
			continue
		}
		for _, h := range s.Hosts {
			held[h] = s.Name
		}
	}
	owners := make(map[Host]owner)
	give := func(h Host, d declaration, at Position) {
		if _, taken := owners[h]; !taken || held[h] == d.name {
			owners[h] = owner{d.name, at}
		}
	}
	for _, d := range r.declared { // in the order of the files
		for _, claim := range d.claims {
			give(claim.host, d, claim.at)
		}
		if d.sure || gone[d.name] {
			continue
		}
		// What it claims could not all be read: it keeps what it has.
		if s, ok := last.Service(d.name); ok {
			for _, h := range s.Hosts {
				give(h, d, d.at)
			}
		}
	}
	return owners
}

// Apply joins the result with the last model in force (nil when there is none
// yet) to the one that should be in force now. It returns the names, sorted,
// of the services that it left at their last good version.
//
// A fatal result leaves the whole last model. Otherwise regions are those of
// the new files, and every service stands for itself:
//
//   - A good service takes its new version; one that the files do not declare
//     any more is gone.
//   - A service with a fault keeps its last version, and is absent if it has
//     none. So does one whose tenant has a fault, since its quota is not known.
//   - A host that several services claim stays with the one that holds it.
//   - The kept version reaches no further than the new files let it: regions
//     that are gone and hosts that a good service took over are cut out of it.
//     It goes once it has no region, no host or no endpoint left.
//   - A new price list waits as long as it is in another currency than the
//     budget of a kept service, and so do budgets in that new currency.
//
// Neither r nor last is changed; the result may share memory with both.
func (r Result) Apply(last *Model) (*Model, []ServiceName) {
	if r.Fatal {
		return last, namesOf(last)
	}
	if r.parts == nil {
		return r.Model, nil
	}
	m, kept, _ := r.resolve(last)
	return m, kept
}

// resolve is Apply of a result that is not fatal, and tells whose the hosts are.
func (r Result) resolve(last *Model) (*Model, []ServiceName, map[Host]owner) {
	if last == nil {
		last = &Model{}
	}
	if r.Fatal || r.parts == nil {
		return last, nil, r.owners(last, nil)
	}
	// A service of which not even the last version can stay holds no host
	// against others. That is known only afterwards, so it takes a new round;
	// each has fewer holders.
	gone := make(map[ServiceName]bool)
	for {
		owners := r.owners(last, gone)
		m, kept := r.assemble(last, r.parts.Prices, owners)
		if !affordable(m) {
			m, kept = r.assemble(last, last.Prices, owners)
		}
		before := len(gone)
		for _, s := range last.Services {
			if _, ok := m.Service(s.Name); !ok {
				gone[s.Name] = true
			}
		}
		if len(gone) == before {
			return m, kept, owners
		}
	}
}

func namesOf(m *Model) []ServiceName {
	if m == nil {
		return nil
	}
	names := make([]ServiceName, len(m.Services))
	for i, s := range m.Services {
		names[i] = s.Name
	}
	return names
}

// assemble builds the model under a price list.
func (r Result) assemble(last *Model, prices *Prices, owners map[Host]owner) (*Model, []ServiceName) {
	m := &Model{Regions: r.parts.Regions, Prices: prices, Naming: r.parts.Naming}
	for _, t := range r.parts.Tenants {
		if prices.counts(t.Budget) {
			m.Tenants = append(m.Tenants, t)
		}
	}
	var (
		taken = make(map[Host]bool)
		rest  []Service
		kept  []ServiceName
	)
	for _, d := range r.declared {
		if d.service != nil && r.fits(d, m, owners) {
			m.Services = append(m.Services, *d.service)
			for _, h := range d.service.Hosts {
				taken[h] = true
			}
		} else if s, ok := last.Service(d.name); ok {
			rest = append(rest, s)
		}
	}
	for _, s := range rest {
		s, ok := narrow(s, m.Regions, taken)
		if !ok {
			continue
		}
		m.Services = append(m.Services, s)
		kept = append(kept, s.Name)
		if has := func(t Tenant) bool { return t.Name == s.Tenant }; s.Tenant != "" && !slices.ContainsFunc(m.Tenants, has) {
			if t, ok := last.Tenant(s.Tenant); ok {
				m.Tenants = append(m.Tenants, t)
			}
		}
	}
	slices.SortFunc(m.Tenants, func(a, b Tenant) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(m.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(kept)
	return m, kept
}

// fits tells whether the new version of a service can enter the model, in
// which so far are only new tenants.
func (r Result) fits(d declaration, m *Model, owners map[Host]owner) bool {
	s := d.service
	if s.Tenant != "" && !slices.ContainsFunc(m.Tenants, func(t Tenant) bool { return t.Name == s.Tenant }) {
		return false
	}
	for _, h := range s.Hosts {
		if owners[h].name != s.Name {
			return false
		}
	}
	return m.Prices.counts(s.Scale.Budget)
}

// counts tells whether a budget can be counted by the price list.
func (p *Prices) counts(budget *Money) bool {
	return budget == nil || (p != nil && p.Currency == budget.Currency)
}

func affordable(m *Model) bool {
	for _, t := range m.Tenants {
		if !m.Prices.counts(t.Budget) {
			return false
		}
	}
	for _, s := range m.Services {
		if !m.Prices.counts(s.Scale.Budget) {
			return false
		}
	}
	return true
}

// narrow cuts out of a kept service what it may not have any more. It tells
// false if nothing is left that could serve.
func narrow(s Service, regions []Region, taken map[Host]bool) (Service, bool) {
	s.Hosts = keep(s.Hosts, func(h Host) bool { return !taken[h] })
	s.Residency.Allow = keep(s.Residency.Allow, func(p Place) bool {
		return slices.ContainsFunc(regions, func(r Region) bool {
			return string(r.Name) == string(p) || r.Carries(Jurisdiction(p))
		})
	})
	failover := &s.Residency.Failover
	failover.Regions = keep(failover.Regions, func(name RegionName) bool {
		known := slices.ContainsFunc(regions, func(r Region) bool { return r.Name == name })
		return known && !allows(s.Residency.Allow, name, regions)
	})
	if len(failover.Regions) == 0 {
		*failover = Failover{Class: FailoverClosed}
	}
	if len(s.Hosts) == 0 || len(s.Residency.Allow) == 0 {
		return s, false
	}
	if s.Run != nil {
		return s, true
	}
	endpoints := make(map[RegionName][]netip.AddrPort, len(s.Endpoints))
	for name, addrs := range s.Endpoints {
		if allows(s.Residency.Allow, name, regions) || slices.Contains(failover.Regions, name) {
			endpoints[name] = addrs
		}
	}
	s.Endpoints = endpoints
	return s, len(endpoints) > 0
}

// keep is the elements that satisfy the condition, in a new slice.
func keep[T any](all []T, ok func(T) bool) []T {
	var some []T
	for _, x := range all {
		if ok(x) {
			some = append(some, x)
		}
	}
	return some
}
