package budget

import (
	"fmt"
	"slices"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
)

// Saved is what an account must not forget at a restart. Exactly one of Service
// and Tenant is set. What was reserved is not in it: Adopt takes in what runs.
type Saved struct {
	Service polder.ServiceName `json:"service,omitempty"`
	Tenant  polder.TenantName  `json:"tenant,omitempty"`
	Month   int                `json:"month"` // months since year 0
	Spent   prewarm.Nanos      `json:"spent"`
	Hours   []prewarm.Nanos    `json:"hours"` // booked in each of the last hours, a ring by Unix hour
	Hour    int64              `json:"hour"`  // Unix hour of the newest; 0 before the first
	First   int64              `json:"first"` // Unix hour of the first
}

// Save returns all accounts, tenants first, by name.
func (b *Book) Save() []Saved {
	var all []Saved
	for name, a := range b.tenants {
		s := a.save()
		s.Tenant = name
		all = append(all, s)
	}
	for name, a := range b.services {
		s := a.save()
		s.Service = name
		all = append(all, s)
	}
	slices.SortFunc(all, func(x, y Saved) int {
		if (x.Tenant != "") != (y.Tenant != "") {
			if x.Tenant != "" {
				return -1
			}
			return 1
		}
		if x.Tenant < y.Tenant || x.Service < y.Service {
			return -1
		}
		return 1
	})
	return all
}

func (a *account) save() Saved {
	return Saved{Month: a.month, Spent: a.spent, Hours: slices.Clone(a.hours[:]), Hour: a.hour, First: a.first}
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
	a.month, a.spent, a.hour, a.first = s.Month, s.Spent, s.Hour, s.First
	copy(a.hours[:], s.Hours)
	return nil
}
