package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/gateway/books"
	"github.com/polder/polder/prewarm"
	"github.com/polder/polder/prewarm/budget"
	"github.com/polder/polder/xds/load"
)

// A minute of one GiB costs 0.00006 EUR.
const minutePrice = prewarm.Nanos(60_000)

// dear is a service of one GiB, whose budget is so many instance-minutes; 0 for
// none.
func dear(name string, tenant polder.TenantName, minutes int) polder.Service {
	s := started(name, time.Minute)
	s.Tenant, s.Run = tenant, &polder.Run{Command: []string{name}, Memory: polder.GiB}
	s.Scale.Max = 20
	if minutes > 0 {
		m := (prewarm.Nanos(minutes) * minutePrice).Money("EUR")
		s.Scale.Budget = &m
	}
	return s
}

// priced brings a model with prices into force.
func (w *world) priced(tenants []polder.Tenant, services ...polder.Service) {
	w.r.SetModel(w.ctx, &polder.Model{Regions: testRegions, Services: services, Tenants: tenants, Prices: &polder.Prices{
		Currency: "EUR", Regions: map[polder.RegionName]polder.Price{"fr": {GiBSecond: 1000}},
	}})
}

func (w *world) spent(name polder.ServiceName) (s budget.Statement) {
	w.r.do(w.ctx, func(now time.Time) { s, _ = w.r.spending.book.Service(now, name) })
	return s
}

func reasonOf(err error) activator.Reason {
	var f *activator.Failure
	if errors.As(err, &f) {
		return f.Reason
	}
	return ""
}

// TestFloodKeepsToTheBudget: whatever callers want, instances never live longer
// together than the budget and one instance-minute pay for, as somebody who
// watches the instances counts, and no start lacks its reservation.
func TestFloodKeepsToTheBudget(t *testing.T) {
	for seed := range uint64(5) {
		random := rand.New(rand.NewPCG(seed, 7))
		minutes := 4 + random.IntN(9)
		inWorld(t, nil, func(w *world) {
			w.startUp, w.ending = time.Duration(random.IntN(3000))*time.Millisecond, time.Duration(random.IntN(10_000))*time.Millisecond
			service := dear("billing", "", minutes)
			service.Scale.Concurrency = 1
			w.priced(nil, service)
			refused := 0
			for range 80 {
				answers := make(chan error, 8)
				for range cap(answers) {
					go func() {
						ctx, stop := context.WithTimeout(w.ctx, 15*time.Second)
						defer stop()
						target, err := w.r.Wake(ctx, "billing", activator.Cause{Kind: activator.CauseRequest})
						if err == nil {
							target.Release()
						}
						answers <- err
					}()
				}
				w.r.LoadReported(w.ctx, []load.Report{{Node: "fr-1", Service: "billing", InProgress: random.IntN(30)}})
				after(time.Duration(random.IntN(15_000)) * time.Millisecond)
				w.r.LoadReported(w.ctx, []load.Report{{Node: "fr-1", Service: "billing"}})
				for range cap(answers) {
					if reasonOf(<-answers) == activator.OverBudget {
						refused++
					}
				}
			}
			after(2 * time.Minute)
			limit := time.Duration(minutes) * time.Minute
			if lived := w.lived(); lived > limit+time.Minute || lived < limit/2 {
				t.Errorf("seed %d: instances lived for %s, the budget pays for %s", seed, lived, limit)
			}
			s := w.spent("billing")
			if s.Spent+s.Reserved > *s.Limit || refused == 0 {
				t.Errorf("seed %d: %d spent and %d set aside of %d; %d callers refused", seed, s.Spent, s.Reserved, *s.Limit, refused)
			}
			if measured := prewarm.Nanos(w.lived().Seconds() * 1000); measured > s.Spent+1000 || measured < s.Spent-1000 {
				t.Errorf("seed %d: the meter says %d, whoever watches the instances %d", seed, s.Spent, measured)
			}
		})
	}
}

// TestWithoutMoneyCallersAreToldWhy and served again when there is some.
func TestWithoutMoneyCallersAreToldWhy(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.priced(nil, dear("billing", "", 2), dear("free", "", 0))
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		after(90 * time.Second)
		_, err := w.wake("billing")
		var f *activator.Failure
		if !errors.As(err, &f) || f.Reason != activator.OverBudget || f.RetryAfter < 24*time.Hour || !strings.Contains(f.Error(), "service billing has spent") {
			t.Fatalf("got %v, want a refusal that names the account and waits for the next month", err)
		}
		w.r.do(w.ctx, func(now time.Time) {
			if reason := w.r.services["billing"].decision.Reason(); !strings.Contains(reason, "service billing has spent") || !strings.Contains(reason, "EUR") {
				t.Errorf("the operator is told %q", reason)
			}
		})
		if _, err := w.wake("free"); err != nil {
			t.Errorf("a service without a budget: %v", err)
		}
		more := dear("billing", "", 4)
		w.priced(nil, more)
		if _, err := w.wake("billing"); err != nil {
			t.Errorf("with a bigger budget: %v", err)
		}
	})
}

// TestQuotaHoldsThenRefuses: at its tenant's quota a caller waits for room, gets
// it if some becomes free, and is told if none does.
func TestQuotaHoldsThenRefuses(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		acme := polder.Tenant{Name: "acme", Quota: polder.Quota{Instances: 1}}
		a, b := dear("a", "acme", 0), dear("b", "acme", 0)
		a.Scale.KeepAlive = 30 * time.Second
		w.priced([]polder.Tenant{acme}, a, b)
		if _, err := w.wake("a"); err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		_, err := w.wake("b")
		if waited := time.Since(before); reasonOf(err) != activator.OverQuota || waited < holdForRoom || waited > 2*holdForRoom {
			t.Fatalf("after %s: %v, want a refusal for the quota", waited, err)
		}
		after(30*time.Second - time.Since(before) - 5*time.Second)
		if _, err := w.wake("b"); err != nil { // a falls asleep meanwhile
			t.Errorf("when there was room: %v", err)
		}
	})
}

// TestLadderShortensTheKeepAlive: with less money an idle service sleeps sooner, and nothing is
// started ahead.
func TestLadderShortensTheKeepAlive(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		s := dear("billing", "", 10)
		s.Scale.KeepAlive = time.Hour
		w.priced(nil, s)
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		after(6 * time.Minute)
		if w.alive.Load() != 1 {
			t.Error("with money for it, it does not keep its instance")
		}
		after(3 * time.Minute)
		if w.alive.Load() != 0 {
			t.Error("with a tenth left, it keeps its instance")
		}
		if s := w.spent("billing"); s.Spent+s.Reserved >= 10*minutePrice {
			t.Errorf("nothing is left for a caller: %+v", s)
		}
	})
}

// TestAdoptedInstancesAreMetered over the time that nobody looked.
func TestAdoptedInstancesAreMetered(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		var entry books.Entry
		w.priced(nil, dear("billing", "", 100))
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		after(30 * time.Second)
		w.r.do(w.ctx, func(now time.Time) { entry = w.r.spending.unwritten(now, true) })
		if len(entry.Accounts) == 0 || len(entry.Leases) != 1 {
			t.Fatalf("to be written: %+v", entry)
		}
		if want := []books.Calls{{Service: "billing", Minute: entry.Calls[0].Minute, Number: 1}}; !slices.Equal(entry.Calls, want) {
			t.Errorf("calls on record: %+v, want %+v", entry.Calls, want)
		}
		after(5 * time.Minute)
		again := newSpending()
		again.restore(entry.Accounts, entry.Leases)
		w.r.do(w.ctx, func(now time.Time) {
			w.r.spending = again
			w.r.adoptAccounts(now)
			w.r.meter(polder.Instance{ID: entry.Leases[0].Instance, Service: "billing", Started: now}, now)
			again.book.Close(now)
			again.book.Release(now, entry.Leases[0].Instance)
		})
		if got, want := w.spent("billing").Spent, prewarm.Nanos(330_000); got < want || got > want+1000 {
			t.Errorf("got %d spent, want five and a half minutes", got)
		}
	})
}

// TestRecordOfCalls: the open minute stays open, unless all is asked for.
func TestRecordOfCalls(t *testing.T) {
	m := newSpending()
	now := time.Unix(600, 0)
	m.called("a", 2, now)
	m.called("b", 1, now.Add(30*time.Second))
	m.called("a", 3, now.Add(59*time.Second))
	if e := m.unwritten(now.Add(59*time.Second), false); len(e.Calls) != 0 {
		t.Errorf("an open minute is written: %+v", e.Calls)
	}
	m.called("a", 1, now.Add(time.Minute))
	first := m.unwritten(now.Add(time.Minute), false)
	m.failed(first)
	all := m.unwritten(now.Add(time.Minute), true).Calls
	slices.SortFunc(all, func(a, b books.Calls) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	if want := []books.Calls{{Service: "a", Minute: 10, Number: 5}, {Service: "a", Minute: 11, Number: 1}, {Service: "b", Minute: 10, Number: 1}}; !slices.Equal(all, want) {
		t.Errorf("got %v, want %v", all, want)
	}
}
