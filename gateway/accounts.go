package gateway

import (
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// shares is in how many regions each service and each tenant may spend, by the model:
// each of them has that part of the budget.
type shares struct {
	of      map[polder.ServiceName]stake
	regions map[polder.TenantName]map[polder.RegionName]int // how many services of a tenant may spend in each
	again   map[polder.ServiceName]bool                     // accounts that kept their limits; tried again with the next model
	left    map[polder.ServiceName]bool                     // whose services may not spend here any more, and which still hold something
}

// stake is where a service may spend.
type stake struct {
	tenant  polder.TenantName
	regions []polder.RegionName
	here    bool
}

func newShares() shares {
	return shares{
		of: map[polder.ServiceName]stake{}, regions: map[polder.TenantName]map[polder.RegionName]int{},
		again: map[polder.ServiceName]bool{}, left: map[polder.ServiceName]bool{},
	}
}

// put takes in where a service may spend.
func (s *shares) put(name polder.ServiceName, now stake) {
	s.of[name] = now
	if s.regions[now.tenant] == nil {
		s.regions[now.tenant] = map[polder.RegionName]int{}
	}
	for _, region := range now.regions {
		s.regions[now.tenant][region]++
	}
	if now.here {
		delete(s.left, name)
	}
}

// remove forgets a service, and tells whose it was.
func (s *shares) remove(name polder.ServiceName) (polder.TenantName, bool) {
	was, ok := s.of[name]
	if !ok {
		return "", false
	}
	delete(s.of, name)
	delete(s.again, name)
	for _, region := range was.regions {
		if s.regions[was.tenant][region]--; s.regions[was.tenant][region] == 0 {
			delete(s.regions[was.tenant], region)
		}
	}
	if len(s.regions[was.tenant]) == 0 {
		delete(s.regions, was.tenant)
	}
	if was.here {
		s.left[name] = true
	}
	return was.tenant, true
}

// stakeOf is where a service may spend; false if that is nowhere, for nobody starts
// instances of it.
func (r *reconciler) stakeOf(s polder.Service) (stake, bool) {
	if s.Run == nil {
		return stake{}, false
	}
	permission := law.Permit(s.Residency, r.model.Regions)
	may := slices.Concat(permission.Allowed(), permission.Standby(), permission.Glass())
	return stake{s.Tenant, may, slices.Contains(may, r.gateway.Region)}, true
}

// adoptAccounts opens an account for whoever may spend here, at the model's
// prices, budgets and quotas.
func (r *reconciler) adoptAccounts(now time.Time) {
	m := r.spending
	m.book.SetPrices(r.prices())
	before := m.shares
	m.shares = newShares()
	for _, s := range r.model.Services {
		if stake, may := r.stakeOf(s); may {
			m.shares.put(s.Name, stake)
		}
	}
	for _, t := range r.model.Tenants {
		r.setTenant(t)
	}
	for _, s := range r.model.Services {
		r.setAccount(s)
	}
	for name, was := range before.of {
		if was.here && !m.shares.of[name].here {
			m.shares.left[name] = true
		}
	}
	for name := range before.left {
		if !m.shares.of[name].here {
			m.shares.left[name] = true
		}
	}
	r.dropAccounts(now)
}

// adoptAccountsOf does the same where nothing but these services differs. It looks at
// no other service.
func (r *reconciler) adoptAccountsOf(d difference, now time.Time) {
	m := r.spending
	tenants := map[polder.TenantName]bool{}
	for _, s := range d.before {
		if tenant, had := m.shares.remove(s.Name); had {
			tenants[tenant] = true
		}
	}
	for _, s := range d.after {
		if stake, may := r.stakeOf(s); may {
			m.shares.put(s.Name, stake)
			tenants[s.Tenant] = true
		}
	}
	for name := range tenants {
		if t, ok := r.model.Tenant(name); ok {
			r.setTenant(t)
		}
	}
	again := m.shares.again
	m.shares.again = map[polder.ServiceName]bool{}
	for _, s := range d.after {
		delete(again, s.Name)
		r.setAccount(s)
	}
	for name := range again {
		if s, ok := r.model.Service(name); ok {
			r.setAccount(s)
		}
	}
	r.dropAccounts(now)
}

func (r *reconciler) setTenant(t polder.Tenant) {
	m := r.spending
	r.account("", t.Name, m.book.SetTenant(t, len(m.shares.regions[t.Name])*r.sharers()))
}

// setAccount opens the account of a service that may spend here.
func (r *reconciler) setAccount(s polder.Service) {
	m := r.spending
	stake := m.shares.of[s.Name]
	if !stake.here {
		return
	}
	err := m.book.SetService(s, len(stake.regions)*r.sharers())
	if err != nil {
		m.shares.again[s.Name] = true
	}
	r.account(s.Name, "", err)
}

// dropAccounts closes those of services that may not spend here any more, as soon as
// they hold nothing.
func (r *reconciler) dropAccounts(now time.Time) {
	m := r.spending
	for name := range m.shares.left {
		if m.book.Drop(now, name) {
			delete(m.shares.left, name)
		}
	}
}

// account restores what an account that was just opened spent before.
func (r *reconciler) account(service polder.ServiceName, tenant polder.TenantName, err error) {
	if err != nil {
		r.log.Error("an account keeps its limits", "service", service, "tenant", tenant, "reason", err)
		return
	}
	key := accountKey(service, tenant)
	saved, ok := r.spending.saved[key]
	if !ok {
		return
	}
	delete(r.spending.saved, key)
	if err := r.spending.book.Restore(saved); err != nil {
		r.log.Error("what was spent before is not known", "service", service, "tenant", tenant, "reason", err)
	}
}
