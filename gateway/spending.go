package gateway

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/gateway/books"
	"github.com/polder/polder/prewarm"
	"github.com/polder/polder/prewarm/budget"
	"github.com/polder/polder/regions/law"
)

const (
	// settleTick is how often the meter runs; budget.SettleEvery is the most.
	settleTick = time.Second
	// holdForRoom is how long a caller waits for money or quota to become free
	// before it is told that there is none.
	holdForRoom = 10 * time.Second
	// maxUnwritten bounds the minutes of calls that wait for the disk.
	maxUnwritten = 1 << 16
)

// spending is what the reconciler knows of money. Only its goroutine touches it.
type spending struct {
	book     *budget.Book
	saved    map[string]budget.Saved // by account, until it is opened
	settled  time.Time
	reserved int    // counts reservations
	shares   shares // who may spend where
	open     map[polder.ServiceName]*books.Calls
	closed   []books.Calls // minutes that nobody can add to any more
}

func newSpending() *spending {
	return &spending{book: budget.NewBook(prewarm.Prices{}), shares: newShares(), saved: map[string]budget.Saved{}, open: map[polder.ServiceName]*books.Calls{}}
}

// restore remembers what an earlier Polder wrote, until the accounts are opened.
func (m *spending) restore(accounts []budget.Saved, leases []budget.SavedLease) {
	for _, a := range accounts {
		m.saved[accountKey(a.Service, a.Tenant)] = a
	}
	for _, l := range leases {
		m.book.RestoreLease(l)
	}
}

func accountKey(service polder.ServiceName, tenant polder.TenantName) string {
	if tenant != "" {
		return "tenant/" + string(tenant)
	}
	return "service/" + string(service)
}

// called notes calls for the record.
func (m *spending) called(name polder.ServiceName, n int, now time.Time) {
	minute := now.Unix() / 60
	c := m.open[name]
	if n <= 0 {
		return
	}
	if c != nil && c.Minute != minute {
		m.close(c)
		c = nil
	}
	if c == nil {
		c = &books.Calls{Service: name, Minute: minute}
		m.open[name] = c
	}
	c.Number += uint32(min(n, int(^uint32(0)-c.Number)))
}

func (m *spending) close(c *books.Calls) {
	delete(m.open, c.Service)
	if len(m.closed) < maxUnwritten {
		m.closed = append(m.closed, *c)
	}
}

// unwritten takes what is to be written: all, or without the open minutes.
func (m *spending) unwritten(now time.Time, all bool) books.Entry {
	for _, c := range m.open {
		if all || c.Minute < now.Unix()/60 {
			m.close(c)
		}
	}
	var e books.Entry
	e.Accounts, e.Leases, e.Moved = m.book.Unsaved()
	e.Calls, m.closed = m.closed, nil
	return e
}

// failed takes back what could not be written.
func (m *spending) failed(e books.Entry) {
	m.book.Touch()
	m.closed = append(e.Calls, m.closed...)
	m.closed = m.closed[:min(len(m.closed), maxUnwritten)]
}

// planned is how many peers the region is to have, at most.
func (r *reconciler) planned() int {
	region, _ := r.model.Region(r.gateway.Region)
	return max(1, region.Peers, r.peers)
}

// sharers is among how many peers the region's share of each budget is split: as
// many as were planned, so that it holds when they do not hear of each other. If more
// were ever seen it is among those, which is the best that can be done.
func (r *reconciler) sharers() int { return max(r.planned(), r.mostPeers) }

// countPeers looks how many peers the region has, and tells whether there are more
// than budgets are split among.
func (r *reconciler) countPeers() bool {
	n := len(r.around.known[r.gateway.Region])
	if n <= r.mostPeers {
		return false
	}
	before := r.sharers()
	if r.mostPeers = n; n <= before {
		return false
	}
	r.log.Warn("the region has more peers than it says, each of which kept a share by what it says until it saw the others: set peers to how many it has",
		"region", r.gateway.Region, "peers", n, "planned", r.planned())
	return true
}

// prices are the region's.
func (r *reconciler) prices() prewarm.Prices {
	price, ok := r.model.Prices.In(r.gateway.Region)
	if !ok {
		return prewarm.Prices{}
	}
	return prewarm.Prices{
		Currency: r.model.Prices.Currency, GiBSecond: prewarm.Nanos(price.GiBSecond),
		VCPUSecond: prewarm.Nanos(price.VCPUSecond), Request: prewarm.Nanos(price.Request),
	}
}

// terms are what price list and budget make of a decision.
func (r *reconciler) terms(s *service, now time.Time) prewarm.Terms {
	rung, standing := r.spending.book.Standing(now, s.spec.Name)
	if rung != s.rung {
		r.log.Warn("the service's budget is on another rung", "service", s.spec.Name, "rung", rung.String(), "before", s.rung.String(), "reason", standing)
		s.rung = rung
	}
	prices := r.spending.book.Prices()
	prices.ColdStart = prewarm.Nanos(s.spec.Scale.ColdStart)
	return prewarm.Terms{Pausing: s.pausing(r.pausing), Prices: prices, Footprint: budget.FootprintOf(s.spec), Rung: rung, Standing: standing, Announcer: s.noticed.words()}
}

// reserve sets an instance-minute aside before a start. The name is that of the
// reservation until the instance has one. False means that there is no room.
func (r *reconciler) reserve(s *service, now time.Time) (polder.InstanceID, bool) {
	r.spending.reserved++
	name := polder.InstanceID("reserved/" + strconv.Itoa(r.spending.reserved))
	err := r.spending.book.Reserve(now, s.spec.Name, name)
	if err == nil {
		s.lacking = ""
		return name, true
	}
	s.lacking = activator.OverBudget
	var refusal *budget.Refusal
	if errors.As(err, &refusal) && refusal.What != "money" {
		s.lacking = activator.OverQuota
	}
	if repeats, tell := s.unstarted.tell(err.Error(), now); tell {
		r.log.Warn("no instance was started", "service", s.spec.Name, "reason", err, "repeats", repeats)
	}
	s.failure, s.retryAt = err.Error(), now.Add(time.Second)
	return "", false
}

// refuseBroke answers callers of a service that there is no room for: at once
// if its money is gone, else when they have waited long enough for some to
// become free.
func (r *reconciler) refuseBroke(s *service, now time.Time) {
	if len(s.waiters) == 0 || s.countAll().Warm() > 0 {
		return
	}
	terms := s.decision.Inputs.Terms
	if terms.Rung >= prewarm.RungRefused {
		s.fail(refuse(activator.OverBudget, budget.MonthEnd(now).Sub(now), "%s", terms.Standing))
		return
	}
	lacking, why := s.lacking, s.failure
	if terms.Rung == prewarm.RungHeld {
		lacking, why = activator.OverBudget, terms.Standing
	}
	if lacking == "" {
		return
	}
	kept := s.waiters[:0]
	for _, w := range s.waiters {
		if now.Sub(w.since) < holdForRoom {
			kept = append(kept, w)
			continue
		}
		w.reply <- refuse(lacking, holdForRoom, "%s", why)
	}
	clear(s.waiters[len(kept):])
	s.waiters = kept
}

// meter takes in an instance that ran already.
func (r *reconciler) meter(i polder.Instance, now time.Time) {
	if err := r.spending.book.Adopt(now, i.Service, i.ID, i.Started); err != nil {
		r.log.Error("an instance is not metered", "service", i.Service, "instance", i.ID, "reason", err)
	}
}

// settleAccounts runs the meter, and retires what nobody can pay for.
func (r *reconciler) settleAccounts(now time.Time) {
	if now.Sub(r.spending.settled) < settleTick {
		return
	}
	r.spending.settled = now
	broke := r.spending.book.Settle(now)
	if len(broke) == 0 {
		return
	}
	for _, s := range r.services {
		for _, i := range s.running {
			if !slices.Contains(broke, i.ID) || i.unpaid {
				continue
			}
			i.unpaid = true // nothing brings it back
			_, reason := r.spending.book.Standing(now, s.spec.Name)
			reason = "its next minute cannot be paid: " + reason
			switch i.State {
			case polder.Ready:
				r.retire(s, i, reason)
			case polder.Starting, polder.Paused:
				i.State, i.Reason, i.asked = polder.Draining, reason, true
				r.stopInstance(i.ID, reason)
			}
		}
	}
}

// computed books the processor time that instances have used since it was last told.
func (r *reconciler) computed(now time.Time, used map[polder.InstanceID]time.Duration) {
	for name, s := range r.services {
		for id, i := range s.running {
			total, ok := used[id]
			if !ok {
				continue
			}
			if i.metered && total > i.cpu {
				r.spending.book.CPU(now, name, total-i.cpu)
			}
			i.cpu, i.metered = total, true
		}
	}
}

// mayRecord tells which services' calls may be on record here.
func (r *reconciler) mayRecord() map[polder.ServiceName]bool {
	may := map[polder.ServiceName]bool{}
	for _, s := range r.model.Services {
		if law.Permit(s.Residency, r.model.Regions).Ever(r.gateway.Region) {
			may[s.Name] = true
		}
	}
	return may
}

// accountsOf reports every account. Called in the reconciler's goroutine.
func (r *reconciler) accountsOf(now time.Time) CostReport {
	book := r.spending.book
	report := CostReport{
		Region: r.gateway.Region, Currency: book.Prices().Currency, Now: now, MonthEnds: budget.MonthEnd(now),
		Prices: book.Prices(), Tenants: []Account{}, Services: []Account{},
	}
	for _, t := range r.model.Tenants {
		if statement, ok := book.Tenant(now, t.Name); ok {
			report.Tenants = append(report.Tenants, Account{Tenant: t.Name, Budget: t.Budget, Quota: t.Quota, Statement: statement})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.services)) {
		statement, ok := book.Service(now, name)
		if !ok {
			continue
		}
		spec := r.services[name].spec
		rung, standing := book.Standing(now, name)
		report.Services = append(report.Services, Account{Service: name, Tenant: spec.Tenant, Budget: spec.Scale.Budget,
			Rung: rung.String(), Step: rung, Standing: standing, Statement: statement})
	}
	return report
}
