package budget

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
)

// Book is the accounts of one region. It is not safe for concurrent use.
type Book struct {
	prices   prewarm.Prices
	services map[polder.ServiceName]*service
	tenants  map[polder.TenantName]*account
	leases   map[polder.InstanceID]*lease
	restored map[polder.InstanceID]SavedLease // until Adopt or Close
	moved    bool                             // leases changed since they were last saved
}

// AssumedMemory is what an instance without a memory limit is metered at: its
// cost must be known before it starts, and nothing bounds what it takes.
const AssumedMemory = 256 * polder.MiB

type service struct {
	account
	tenant    *account // nil without one
	name      polder.ServiceName
	owner     polder.TenantName
	footprint prewarm.Footprint
}

// The manager's part of the promise that budgets hold exactly (see the package
// comment), and the notice that follows: how long before a paid minute ends the
// next one is set aside.
const (
	SettleEvery = 5 * time.Second  // at most, between two calls of Settle
	StopWithin  = 45 * time.Second // at most, from Settle's word to Release: its requests may finish
	notice      = SettleEvery + StopWithin
)

// lease is the minutes set aside for one running instance.
type lease struct {
	id      polder.InstanceID
	service *service
	from    time.Time     // of the minute that is not booked yet
	cost    prewarm.Nanos // set aside for it; 0 when there was no money
	ahead   prewarm.Nanos // set aside for the one after it
	minute  prewarm.Nanos // what a minute costs
	memory  polder.Bytes
}

// NewBook returns an empty book with a price list. With the zero list nothing
// costs anything, and only quotas bind.
func NewBook(prices prewarm.Prices) *Book {
	return &Book{
		prices:   prices,
		services: map[polder.ServiceName]*service{},
		tenants:  map[polder.TenantName]*account{},
		leases:   map[polder.InstanceID]*lease{},
		restored: map[polder.InstanceID]SavedLease{},
	}
}

// SetPrices replaces the price list. A minute that was set aside is booked at
// the new price.
func (b *Book) SetPrices(prices prewarm.Prices) {
	if b.prices == prices {
		return
	}
	b.prices = prices
	for _, l := range b.leases {
		l.minute = prices.Warm(l.service.footprint, time.Minute)
	}
}

// Prices returns the price list in force.
func (b *Book) Prices() prewarm.Prices { return b.prices }

// SetTenant opens a tenant's account, or changes its limits. Its budget is
// split evenly over so many books, at least 1, of which this one is one; its
// quota holds in each of them. Money already spent stays spent.
func (b *Book) SetTenant(t polder.Tenant, books int) error {
	limit, err := b.limit(t.Budget, books)
	if err != nil {
		return fmt.Errorf("tenant %s: %w", t.Name, err)
	}
	a := b.tenants[t.Name]
	if a == nil {
		a = &account{}
		b.tenants[t.Name] = a
	}
	a.limit, a.instances, a.memory = limit, t.Quota.Instances, t.Quota.Memory
	return nil
}

// SetService opens a service's account, or changes its limits. Its budget is
// split as a tenant's is. Its tenant must have been set before.
func (b *Book) SetService(s polder.Service, books int) error {
	limit, err := b.limit(s.Scale.Budget, books)
	if err != nil {
		return fmt.Errorf("service %s: %w", s.Name, err)
	}
	var tenant *account
	if s.Tenant != "" {
		if tenant = b.tenants[s.Tenant]; tenant == nil {
			return fmt.Errorf("service %s: tenant %s has no account: set it first", s.Name, s.Tenant)
		}
	}
	mine := b.services[s.Name]
	if mine == nil {
		mine = &service{name: s.Name}
		b.services[s.Name] = mine
	}
	if mine.running > 0 && mine.tenant != tenant {
		return fmt.Errorf("service %s: it moves from tenant %q to %q while %d instances run: stop them first", s.Name, mine.owner, s.Tenant, mine.running)
	}
	mine.limit, mine.tenant, mine.owner = limit, tenant, s.Tenant
	mine.footprint = FootprintOf(s)
	return nil
}

// FootprintOf is what one instance of the service is metered at.
func FootprintOf(s polder.Service) prewarm.Footprint {
	switch {
	case s.Run == nil:
		return prewarm.Footprint{}
	case s.Run.Memory > 0:
		return prewarm.Footprint{Memory: s.Run.Memory}
	}
	return prewarm.Footprint{Memory: AssumedMemory}
}

func (b *Book) limit(m *polder.Money, books int) (*prewarm.Nanos, error) {
	if m == nil {
		return nil, nil
	}
	if b.prices == (prewarm.Prices{}) {
		return nil, errors.New("a budget needs a price list")
	}
	if m.Currency != b.prices.Currency {
		return nil, fmt.Errorf("the budget is in %s and the price list in %s", m.Currency, b.prices.Currency)
	}
	if m.Micros < 0 {
		return nil, fmt.Errorf("a budget of %d millionths is negative", m.Micros)
	}
	n := prewarm.Nanos(min(m.Micros, math.MaxInt64/1000)*1000) / prewarm.Nanos(max(books, 1))
	return &n, nil
}

// Refusal says which account has no room for one more instance.
type Refusal struct {
	Service polder.ServiceName
	Account string // "service billing" or "tenant acme"
	What    string // "money", "instances" or "memory"
	Need    string // in words
	Left    string
}

// Error names the account, what it lacks and what to do.
func (r *Refusal) Error() string {
	remedy := "raise its quota or stop other instances"
	if r.What == "money" {
		remedy = "raise its budget or wait for the next month"
	}
	return fmt.Sprintf("service %s may not start an instance: %s has %s of %s left and one more needs %s: %s",
		r.Service, r.Account, r.Left, r.What, r.Need, remedy)
}

// startMinutes are set aside for a start: the first minute, and the one after it,
// which would otherwise be asked for ten seconds later. An instance that starts
// is thus not named by Settle before its second minute.
const startMinutes = 2

// Reserve sets the first two minutes aside for an instance that is about to
// start, or returns a *Refusal and changes nothing. An instance that has a
// reservation keeps it.
func (b *Book) Reserve(now time.Time, name polder.ServiceName, id polder.InstanceID) error {
	s := b.services[name]
	if s == nil {
		return fmt.Errorf("reserve for instance %s: service %s has no account: set it first", id, name)
	}
	if _, again := b.leases[id]; again {
		return nil
	}
	minute := b.prices.Warm(s.footprint, time.Minute)
	for _, a := range s.accounts() {
		a.turn(now)
		if err := s.refuse(a, b.prices.Currency, minute); err != nil {
			return err
		}
	}
	b.open(now, s, id, minute, minute, minute)
	return nil
}

// Adopt takes in an instance that runs already, whatever the accounts say:
// after a restart what runs must be metered, and from where the earlier Polder
// left off, or else from started on. Settle decides about its next minute.
func (b *Book) Adopt(now time.Time, name polder.ServiceName, id polder.InstanceID, started time.Time) error {
	s := b.services[name]
	if s == nil {
		return fmt.Errorf("adopt instance %s: service %s has no account: set it first", id, name)
	}
	if _, again := b.leases[id]; again {
		return nil
	}
	if saved, ok := b.restored[id]; ok {
		started = saved.From
		delete(b.restored, id)
	}
	if started.After(now) {
		started = now
	}
	b.open(started, s, id, 0, 0, b.prices.Warm(s.footprint, time.Minute))
	return nil
}

// Named gives a reservation the name of the instance that it became.
func (b *Book) Named(reserved, id polder.InstanceID) {
	if l := b.leases[reserved]; l != nil {
		delete(b.leases, reserved)
		l.id = id
		b.leases[id] = l
		b.moved = true
	}
}

func (b *Book) open(from time.Time, s *service, id polder.InstanceID, cost, ahead, minute prewarm.Nanos) {
	b.leases[id] = &lease{id: id, service: s, from: from, cost: cost, ahead: ahead, minute: minute, memory: s.footprint.Memory}
	b.moved = true
	for _, a := range s.accounts() {
		a.turn(from)
		a.reserved = add(a.reserved, cost+ahead)
		a.running++
		a.held += s.footprint.Memory
	}
}

// accounts are those that pay for the service.
func (s *service) accounts() []*account {
	if s.tenant == nil {
		return []*account{&s.account}
	}
	return []*account{&s.account, s.tenant}
}

func (s *service) title(a *account) string {
	if a == s.tenant {
		return "tenant " + string(s.owner)
	}
	return "service " + string(s.name)
}

func (s *service) refuse(a *account, currency string, minute prewarm.Nanos) error {
	title := s.title(a)
	switch left, limited := a.left(); {
	case a.instances > 0 && a.running >= a.instances:
		return &Refusal{s.name, title, "instances", "1", fmt.Sprintf("%d of %d", a.instances-min(a.running, a.instances), a.instances)}
	case a.memory > 0 && a.held > a.memory-min(s.footprint.Memory, a.memory) || a.memory > 0 && s.footprint.Memory > a.memory:
		return &Refusal{s.name, title, "memory", fmt.Sprintf("%d bytes", s.footprint.Memory), fmt.Sprintf("%d bytes", max(a.memory-a.held, 0))}
	case limited && left/startMinutes < minute:
		return &Refusal{s.name, title, "money", minute.Format(currency) + " for each of two minutes", left.Format(currency)}
	case limited && minute == 0 && left == 0:
		return &Refusal{s.name, title, "money", minute.Format(currency), left.Format(currency)}
	}
	return nil
}

// Settle books the minutes that have passed and, in the last 50 s of a minute,
// sets the next one aside for its instance. It returns, sorted, the instances
// whose next minute nobody can pay: they have to stop now, and those that do so
// within StopWithin cost nothing that was not set aside.
func (b *Book) Settle(now time.Time) []polder.InstanceID {
	var stop []polder.InstanceID
	for _, l := range b.sorted() {
		for !now.Before(l.from.Add(time.Minute)) {
			b.bookMinute(l)
		}
		paid := l.minute == 0 || l.cost > 0 || b.pay(now, l, &l.cost)
		if paid && l.minute > 0 && l.ahead == 0 && !now.Before(l.from.Add(time.Minute-notice)) {
			paid = b.pay(now, l, &l.ahead)
		}
		if !paid {
			stop = append(stop, l.id)
		}
	}
	return stop
}

// Drop closes the account of a service, unless it runs something or has spent
// something this month: a service that comes back within the month finds what it has
// spent. It tells whether there is none now.
func (b *Book) Drop(now time.Time, name polder.ServiceName) bool {
	s := b.services[name]
	if s == nil {
		return true
	}
	s.turn(now)
	if s.running > 0 || s.spent > 0 {
		return false
	}
	delete(b.services, name)
	return true
}

// Touch makes the next Unsaved return everything.
func (b *Book) Touch() {
	for _, a := range b.tenants {
		a.changed = true
	}
	for _, s := range b.services {
		s.changed = true
	}
	b.moved = true
}

// sorted lists the leases by instance, so that scarce money goes to the same
// ones whatever the map says.
func (b *Book) sorted() []*lease {
	all := make([]*lease, 0, len(b.leases))
	for _, l := range b.leases {
		all = append(all, l)
	}
	slices.SortFunc(all, func(x, y *lease) int {
		if x.id < y.id {
			return -1
		}
		return 1
	})
	return all
}

// bookMinute turns a passed minute from reserved to spent.
func (b *Book) bookMinute(l *lease) {
	l.from = l.from.Add(time.Minute)
	b.moved = true
	for _, a := range l.service.accounts() {
		a.reserved -= l.cost
		a.book(l.from, l.minute)
		a.used.Add(usageOf(l.memory, time.Minute))
	}
	l.cost, l.ahead = l.ahead, 0
	if l.cost == 0 {
		b.pay(l.from, l, &l.cost) // late, but better than a minute that nobody sees coming
	}
}

// pay sets one of the lease's minutes aside if all its accounts can.
func (b *Book) pay(now time.Time, l *lease, minute *prewarm.Nanos) bool {
	for _, a := range l.service.accounts() {
		a.turn(now)
		if left, limited := a.left(); limited && left < l.minute {
			return false
		}
	}
	for _, a := range l.service.accounts() {
		a.reserved = add(a.reserved, l.minute)
	}
	*minute = l.minute
	return true
}

// Release books what a stopped instance has used of its minute and frees the
// rest. An unknown instance is not an error: it was released before.
func (b *Book) Release(now time.Time, id polder.InstanceID) {
	l := b.leases[id]
	if l == nil {
		return
	}
	for !now.Before(l.from.Add(time.Minute)) {
		b.bookMinute(l)
	}
	used := prewarm.Nanos(math.Ceil(float64(l.minute) * max(now.Sub(l.from), 0).Minutes()))
	for _, a := range l.service.accounts() {
		a.reserved -= l.cost + l.ahead
		a.running--
		a.held -= l.memory
		a.book(now, min(used, l.minute))
		a.used.Add(usageOf(l.memory, now.Sub(l.from)))
	}
	delete(b.leases, id)
	b.moved = true
}
