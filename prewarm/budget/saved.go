package budget

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
)

// Saved is what an account must not forget at a restart. Exactly one of Service
// and Tenant is set. What was reserved is in the leases.
type Saved struct {
	Service polder.ServiceName `json:"service,omitempty"`
	Tenant  polder.TenantName  `json:"tenant,omitempty"`
	Month   int                `json:"month"` // months since year 0
	Spent   prewarm.Nanos      `json:"spent"`
	Used    Usage              `json:"used"`
	Past    []Bill             `json:"past,omitempty"`
	Hours   []prewarm.Nanos    `json:"hours"` // booked in each of the last hours, a ring by Unix hour
	Hour    int64              `json:"hour"`  // Unix hour of the newest; 0 before the first
	First   int64              `json:"first"` // Unix hour of the first
}

// SavedLease is an instance that is metered, and up to when it was.
type SavedLease struct {
	Instance polder.InstanceID  `json:"instance"`
	Service  polder.ServiceName `json:"service"`
	From     time.Time          `json:"from"`  // of the minute that is not booked yet
	Aside    prewarm.Nanos      `json:"aside"` // set aside for that minute and the next
}

// Unsaved returns the accounts that changed since the last call, tenants first,
// by name; and all leases, if one of them changed.
func (b *Book) Unsaved() (accounts []Saved, leases []SavedLease, moved bool) {
	for name, a := range b.tenants {
		if a.changed {
			s := a.save()
			s.Tenant = name
			accounts = append(accounts, s)
		}
	}
	for name, a := range b.services {
		if a.changed {
			s := a.save()
			s.Service = name
			accounts = append(accounts, s)
		}
	}
	slices.SortFunc(accounts, func(x, y Saved) int {
		if (x.Tenant != "") != (y.Tenant != "") {
			return cmp.Compare(y.Tenant, x.Tenant)
		}
		return cmp.Or(cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.Service, y.Service))
	})
	if moved = b.moved; moved {
		b.moved = false
		for _, l := range b.sorted() {
			leases = append(leases, SavedLease{l.id, l.service.name, l.from, add(l.cost, l.ahead)})
		}
	}
	return accounts, leases, moved
}

func (a *account) save() Saved {
	a.changed = false
	return Saved{
		Month: a.month, Spent: a.spent, Used: a.used, Past: slices.Clone(a.past),
		Hours: slices.Clone(a.hours[:]), Hour: a.hour, First: a.first,
	}
}

// Restore brings back what was spent, for an account that was set before and
// has not been used since.
func (b *Book) Restore(s Saved) error {
	var a *account
	title := fmt.Sprintf("service %s", s.Service)
	if s.Tenant != "" {
		title = fmt.Sprintf("tenant %s", s.Tenant)
		a = b.tenants[s.Tenant]
	} else if mine := b.services[s.Service]; mine != nil {
		a = &mine.account
	}
	switch {
	case a == nil:
		return fmt.Errorf("restore %s: it has no account: set it first", title)
	case a.running > 0 || a.spent > 0:
		return fmt.Errorf("restore %s: its account is in use: restore before anything starts", title)
	case s.Spent < 0 || s.First < 0 || s.Hour < s.First || len(s.Hours) != historyHours || slices.Min(s.Hours) < 0:
		return fmt.Errorf("restore %s: what was saved is damaged: it counts as nothing spent", title)
	}
	a.month, a.spent, a.used, a.hour, a.first = s.Month, s.Spent, s.Used, s.Hour, s.First
	a.past = s.Past[max(0, len(s.Past)-pastMonths):]
	copy(a.hours[:], s.Hours)
	return nil
}

// RestoreLease remembers an instance of an earlier Polder, until Adopt meets it
// or Close gives it up.
func (b *Book) RestoreLease(l SavedLease) { b.restored[l.Instance] = l }

// Close books the leases that nobody adopted: their instances ended while nobody
// looked, so what was set aside for them is spent, less what had no time to pass.
func (b *Book) Close(now time.Time) {
	for _, l := range b.restored {
		s := b.services[l.Service]
		if s == nil {
			continue
		}
		passed := b.prices.Warm(s.footprint, max(now.Sub(l.From), 0))
		for _, a := range s.accounts() {
			a.book(now, min(passed, max(l.Aside, 0)))
		}
	}
	clear(b.restored)
	b.moved = true
}
