package budget

import (
	"fmt"
	"math"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
)

// Usage is what was used in a month, whatever it cost.
type Usage struct {
	Instances float64 `json:"instance_seconds"` // of running instances
	Memory    float64 `json:"gib_seconds"`      // of their memory limits
	CPU       float64 `json:"vcpu_seconds"`     // that they computed
	Requests  uint64  `json:"requests"`
}

// Add adds another use to this one.
func (u *Usage) Add(v Usage) {
	u.Instances += v.Instances
	u.Memory += v.Memory
	u.CPU += v.CPU
	u.Requests += v.Requests
}

func usageOf(memory polder.Bytes, d time.Duration) Usage {
	s := max(d.Seconds(), 0)
	return Usage{Instances: s, Memory: s * float64(memory) / float64(polder.GiB)}
}

// Requests books served requests.
func (b *Book) Requests(now time.Time, name polder.ServiceName, n uint64) {
	s := b.services[name]
	if s == nil || n == 0 {
		return
	}
	var cost prewarm.Nanos
	if b.prices.Request > 0 {
		cost = math.MaxInt64
		if n <= uint64(math.MaxInt64/b.prices.Request) {
			cost = b.prices.Request * prewarm.Nanos(n)
		}
	}
	for _, a := range s.accounts() {
		a.book(now, cost)
		a.used.Requests += n
	}
}

// CPU books the processor time that a service's instances have used.
func (b *Book) CPU(now time.Time, name polder.ServiceName, used time.Duration) {
	s := b.services[name]
	if s == nil || used <= 0 {
		return
	}
	cost := prewarm.Prices{VCPUSecond: b.prices.VCPUSecond}.Warm(prewarm.Footprint{VCPU: 1}, used)
	for _, a := range s.accounts() {
		a.book(now, cost)
		a.used.CPU += used.Seconds()
	}
}

// Standing is the service's step of the ladder, the worse of its own and its
// tenant's, with the account that it comes from, in words; "" while there is
// enough money. A service without an account is refused.
func (b *Book) Standing(now time.Time, name polder.ServiceName) (prewarm.Rung, string) {
	rung, a := b.worst(now, name)
	if rung == prewarm.RungFree || a == nil {
		return rung, ""
	}
	s := b.services[name]
	return rung, fmt.Sprintf("%s has spent %s here this month and set %s aside, of %s",
		s.title(a), a.spent.Format(b.prices.Currency), a.reserved.Format(b.prices.Currency), a.limit.Format(b.prices.Currency))
}

func (b *Book) worst(now time.Time, name polder.ServiceName) (prewarm.Rung, *account) {
	s := b.services[name]
	if s == nil {
		return prewarm.RungRefused, nil
	}
	minute := min(b.prices.Warm(s.footprint, time.Minute), math.MaxInt64/startMinutes)
	worst, of := prewarm.RungFree, (*account)(nil)
	for _, a := range s.accounts() {
		a.turn(now)
		if r := a.rung(now, minute*startMinutes); r > worst {
			worst, of = r, a
		}
	}
	return worst, of
}

// Statement is one account at one instant.
type Statement struct {
	Spent    prewarm.Nanos   `json:"spent"`           // booked this month, in billionths of the currency unit
	Reserved prewarm.Nanos   `json:"reserved"`        // set aside for running instances
	Limit    *prewarm.Nanos  `json:"limit,omitempty"` // of the month, in this region; nil means none
	Running  int             `json:"running"`         // instances
	Memory   polder.Bytes    `json:"memory"`          // of running instances, in bytes
	Used     Usage           `json:"used"`            // this month
	Forecast Forecast        `json:"forecast"`        // of the month's end
	Hours    []prewarm.Nanos `json:"hours,omitempty"` // booked in each of the last hours, oldest first, the present one last
	Past     []Bill          `json:"past,omitempty"`  // months before this one, oldest first
}

// Bill is what one past month came to.
type Bill struct {
	Month string        `json:"month"` // "2026-03"
	Spent prewarm.Nanos `json:"spent"`
	Used  Usage         `json:"used"`
}

func (a *account) statement(now time.Time) Statement {
	a.turn(now)
	return Statement{a.spent, a.reserved, a.limit, a.running, a.held, a.used, a.forecast(now), a.week(), a.past}
}

// week lists the hours since the account was opened, at most a week.
func (a *account) week() []prewarm.Nanos {
	if a.hour == 0 {
		return nil
	}
	n := min(a.hour-a.first+1, historyHours)
	list := make([]prewarm.Nanos, 0, n)
	for h := a.hour - n + 1; h <= a.hour; h++ {
		list = append(list, a.hours[h%historyHours])
	}
	return list
}

// Service returns the statement of a service, and false if it has no account.
func (b *Book) Service(now time.Time, name polder.ServiceName) (Statement, bool) {
	if s := b.services[name]; s != nil {
		return s.statement(now), true
	}
	return Statement{}, false
}

// Tenant returns the statement of a tenant, and false if it has no account.
func (b *Book) Tenant(now time.Time, name polder.TenantName) (Statement, bool) {
	if a := b.tenants[name]; a != nil {
		return a.statement(now), true
	}
	return Statement{}, false
}
