package budget

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

// A GiB-second costs 1000 nanos, so a minute of one GiB 60,000.
var prices = prewarm.Prices{Currency: "EUR", GiBSecond: 1000, Request: 10}

const minute = prewarm.Nanos(60_000)

func euros(n prewarm.Nanos) *polder.Money { m := n.Money("EUR"); return &m }

func gib(name polder.ServiceName, tenant polder.TenantName, budget *polder.Money) polder.Service {
	return polder.Service{Name: name, Tenant: tenant, Run: &polder.Run{Memory: 1 << 30}, Scale: polder.Scale{Budget: budget}}
}

func book(t *testing.T, tenant polder.Tenant, services ...polder.Service) *Book {
	t.Helper()
	b := NewBook(prices)
	if err := b.SetTenant(tenant, 1); err != nil {
		t.Fatal(err)
	}
	for _, s := range services {
		if err := b.SetService(s, 1); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestReserve(t *testing.T) {
	acme := polder.Tenant{Name: "acme"}
	tests := []struct {
		name    string
		tenant  polder.Tenant
		budget  *polder.Money
		running int    // instances that fit
		what    string // what the next one lacks
		account string
	}{
		{"its own money", acme, euros(6*minute + 1000), 3, "money", "service a"},
		{"its tenant's money", polder.Tenant{Name: "acme", Budget: euros(5 * minute)}, euros(9 * minute), 2, "money", "tenant acme"},
		{"its tenant's instances", polder.Tenant{Name: "acme", Quota: polder.Quota{Instances: 4}}, nil, 4, "instances", "tenant acme"},
		{"its tenant's memory", polder.Tenant{Name: "acme", Quota: polder.Quota{Memory: 5<<30 + 1}}, nil, 5, "memory", "tenant acme"},
		{"no money at all", acme, euros(0), 0, "money", "service a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := book(t, tt.tenant, gib("a", "acme", tt.budget))
			for i := range tt.running {
				if err := b.Reserve(noon, "a", polder.InstanceID(fmt.Sprint(i))); err != nil {
					t.Fatalf("instance %d: %v", i, err)
				}
			}
			err := b.Reserve(noon, "a", "one more")
			var refusal *Refusal
			if !errors.As(err, &refusal) || refusal.What != tt.what || refusal.Account != tt.account {
				t.Fatalf("one more: got %v, want a refusal for the %s of %s", err, tt.what, tt.account)
			}
			if tt.running > 0 {
				if err := b.Reserve(noon, "a", "0"); err != nil {
					t.Errorf("a reservation that is held already: %v", err)
				}
				b.Release(noon, "0")
				if err := b.Reserve(noon, "a", "one more"); err != nil {
					t.Errorf("after one was released unused: %v", err)
				}
			}
		})
	}
}

func TestMeter(t *testing.T) {
	b := book(t, polder.Tenant{Name: "acme"}, gib("a", "acme", nil), gib("b", "acme", nil))
	if err := b.Reserve(noon, "a", "1"); err != nil {
		t.Fatal(err)
	}
	if stop := b.Settle(noon.Add(150 * time.Second)); stop != nil {
		t.Errorf("without a limit nothing has to stop, got %v", stop)
	}
	b.Release(noon.Add(165*time.Second), "1")
	b.Release(noon.Add(165*time.Second), "1")
	b.Requests(noon.Add(165*time.Second), "b", 7)
	for name, want := range map[polder.ServiceName]prewarm.Nanos{"a": 165_000, "b": 70} {
		if s, _ := b.Service(noon, name); s.Spent != want || s.Reserved != 0 || s.Running != 0 {
			t.Errorf("service %s: got %+v, want %d spent and nothing else", name, s, want)
		}
	}
	if s, _ := b.Tenant(noon, "acme"); s.Spent != 165_070 {
		t.Errorf("tenant: got %d spent, want what both services spent", s.Spent)
	}
	if s, _ := b.Service(noon.AddDate(0, 1, 0), "a"); s.Spent != 0 {
		t.Errorf("next month: got %d spent, want 0", s.Spent)
	}
}

func TestSettleNamesWhatCannotBePaid(t *testing.T) {
	b := book(t, polder.Tenant{Name: "acme"}, gib("a", "acme", euros(5*minute)))
	for _, id := range []polder.InstanceID{"1", "2"} {
		if err := b.Reserve(noon, "a", id); err != nil {
			t.Fatal(err)
		}
	}
	if stop := b.Settle(noon.Add(69 * time.Second)); stop != nil {
		t.Fatalf("at 69 s: got %v to stop, want none", stop)
	}
	stop := b.Settle(noon.Add(70 * time.Second))
	if len(stop) != 1 || stop[0] != "2" {
		t.Fatalf("50 s before the end: got %v, want 2, since 1 took the last minute", stop)
	}
	if r := rung(b, noon.Add(90*time.Second), "a"); r != prewarm.RungHeld {
		t.Errorf("all is set aside: got %q, want held", r)
	}
	b.Release(noon.Add(2*time.Minute), "2")
	if stop := b.Settle(noon.Add(150 * time.Second)); len(stop) != 1 {
		t.Errorf("the last minute: got %v to stop, want 1", stop)
	}
	b.Release(noon.Add(3*time.Minute), "1")
	if s, _ := b.Service(noon, "a"); s.Spent != 5*minute {
		t.Errorf("got %d spent, want the budget to the last nano", s.Spent)
	}
	if r := rung(b, noon, "a"); r != prewarm.RungRefused {
		t.Errorf("all is spent: got %q, want refused", r)
	}
	last := time.Date(2026, 3, 31, 23, 59, 30, 0, time.UTC)
	if r := rung(b, last, "a"); r != prewarm.RungHeld {
		t.Errorf("half a minute before the new month: got %q, want held", r)
	}
	if r := rung(b, last.Add(time.Minute), "a"); r != prewarm.RungFree {
		t.Errorf("in the new month: got %q, want free", r)
	}
}

// TestFlood: callers want as many instances as they can get, of several
// services, and the manager stops what Settle names within StopWithin. No
// account ever spends more than its budget.
func TestFlood(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := NewBook(prewarm.Prices{Currency: "EUR", GiBSecond: 1000})
		budget := prewarm.Nanos(rapid.Int64Range(0, 200*60).Draw(t, "tenant") * 1000)
		if err := b.SetTenant(polder.Tenant{Name: "acme", Budget: euros(budget)}, 1); err != nil {
			t.Fatal(err)
		}
		own := map[polder.ServiceName]prewarm.Nanos{}
		for _, name := range []polder.ServiceName{"a", "b", "c"} {
			own[name] = prewarm.Nanos(rapid.Int64Range(0, 100*60).Draw(t, "service") * 1000)
			s := gib(name, "acme", euros(own[name]))
			s.Run.Memory = polder.Bytes(rapid.Int64Range(1, 4).Draw(t, "memory")) << 29
			if err := b.SetService(s, 1); err != nil {
				t.Fatal(err)
			}
		}
		now, n := noon, 0
		running, deadline := map[polder.InstanceID]bool{}, map[polder.InstanceID]time.Time{}
		for range 60 {
			for _, name := range slices.Sorted(maps.Keys(own)) {
				for range rapid.IntRange(0, 4).Draw(t, "starts") {
					n++
					id := polder.InstanceID(fmt.Sprint(n))
					rung, _ := b.Standing(now, name)
					err := b.Reserve(now, name, id)
					if err == nil {
						running[id] = true
					}
					if err == nil && rung >= prewarm.RungHeld {
						t.Fatalf("on rung %q an instance of %s could start", rung, name)
					}
				}
			}
			for _, id := range b.Settle(now) {
				if _, named := deadline[id]; !named {
					deadline[id] = now.Add(time.Duration(rapid.Int64Range(0, int64(StopWithin)).Draw(t, "stop")))
				}
			}
			next := now.Add(time.Duration(rapid.Int64Range(0, int64(SettleEvery)).Draw(t, "dt")))
			for id, at := range deadline {
				if !at.After(next) {
					b.Release(at, id)
					delete(running, id)
					delete(deadline, id)
				}
			}
			now = next
			for _, id := range slices.Sorted(maps.Keys(running)) {
				if rapid.IntRange(0, 9).Draw(t, "ends") == 0 {
					b.Release(now, id)
					delete(running, id)
					delete(deadline, id)
				}
			}
			check(t, b, now, budget, own)
		}
		for _, id := range slices.Sorted(maps.Keys(running)) {
			b.Release(now, id)
		}
		s, _ := b.Tenant(now, "acme")
		if s.Reserved != 0 || s.Running != 0 || s.Memory != 0 {
			t.Fatalf("all is released, yet the tenant's account says %+v", s)
		}
	})
}

func check(t *rapid.T, b *Book, now time.Time, budget prewarm.Nanos, own map[polder.ServiceName]prewarm.Nanos) {
	tenant, _ := b.Tenant(now, "acme")
	if tenant.Spent+tenant.Reserved > budget {
		t.Fatalf("tenant: %d spent and %d reserved of %d", tenant.Spent, tenant.Reserved, budget)
	}
	var spent, reserved prewarm.Nanos
	for name, limit := range own {
		s, _ := b.Service(now, name)
		if s.Spent+s.Reserved > limit {
			t.Fatalf("service %s: %d spent and %d reserved of %d", name, s.Spent, s.Reserved, limit)
		}
		spent, reserved = spent+s.Spent, reserved+s.Reserved
	}
	if spent != tenant.Spent || reserved != tenant.Reserved {
		t.Fatalf("the services' %d and %d are not the tenant's %d and %d", spent, reserved, tenant.Spent, tenant.Reserved)
	}
}

// TestSlowStop: an instance that runs a minute longer than it is paid overshoots
// by one instance-minute, and nothing starts meanwhile.
func TestSlowStop(t *testing.T) {
	b := book(t, polder.Tenant{Name: "acme"}, gib("a", "acme", euros(2*minute)))
	if err := b.Reserve(noon, "a", "1"); err != nil {
		t.Fatal(err)
	}
	for d := time.Minute + notice; d < 3*time.Minute; d += notice {
		if stop := b.Settle(noon.Add(d)); len(stop) != 1 {
			t.Fatalf("at %v: got %v to stop, want the one", d, stop)
		}
		if err := b.Reserve(noon.Add(d), "a", "2"); err == nil {
			t.Fatalf("at %v another one could start", d)
		}
	}
	b.Release(noon.Add(3*time.Minute), "1")
	if s, _ := b.Service(noon, "a"); s.Spent != 3*minute {
		t.Errorf("got %d spent, want the budget and one instance-minute", s.Spent)
	}
}

func TestRungNeverFallsWithinAMonth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := NewBook(prices)
		if err := b.SetService(gib("a", "", euros(prewarm.Nanos(rapid.Int64Range(0, 1e6).Draw(t, "budget")*1000))), 1); err != nil {
			t.Fatal(err)
		}
		was := prewarm.RungFree
		for range 100 {
			b.Requests(noon, "a", rapid.Uint64Range(0, 1e6).Draw(t, "n"))
			r := rung(b, noon, "a")
			if r < was {
				t.Fatalf("from %q to %q though more is spent", was, r)
			}
			was = r
		}
	})
}

func TestLadder(t *testing.T) {
	limit := 100 * minute
	for _, tt := range []struct {
		spent prewarm.Nanos
		want  prewarm.Rung
	}{
		{0, prewarm.RungFree}, {79 * minute, prewarm.RungFree}, {80 * minute, prewarm.RungPrewarm}, {90 * minute, prewarm.RungShort},
		{97 * minute, prewarm.RungFewer}, {99 * minute, prewarm.RungFewer}, {99*minute + 1, prewarm.RungRefused}, {101 * minute, prewarm.RungRefused},
	} {
		a := account{limit: &limit, spent: tt.spent, month: monthOf(noon)}
		if got := a.rung(noon, minute); got != tt.want {
			t.Errorf("%d of %d spent: got %q, want %q", tt.spent, limit, got, tt.want)
		}
	}
}

func TestForecast(t *testing.T) {
	b := book(t, polder.Tenant{Name: "acme"}, gib("a", "acme", nil))
	start := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	// 1000 nanos an hour on three days, 2000 on the fourth.
	for h := range 96 {
		n := uint64(100)
		if h >= 72 {
			n = 200
		}
		b.Requests(start.Add(time.Duration(h)*time.Hour), "a", n)
	}
	now := start.Add(96 * time.Hour)
	s, _ := b.Service(now, "a")
	days := prewarm.Nanos(26) // 6 March to 1 April
	want := Forecast{Known: true, Low: 120_000 + days*24_000, Likely: 120_000 + days*30_000, High: 120_000 + days*48_000}
	if s.Spent != 120_000 || s.Forecast != want {
		t.Errorf("got %+v, want 120000 spent and %+v", s, want)
	}
	if s, _ := b.Service(now.AddDate(0, 0, 20), "a"); s.Forecast.Likely != s.Spent {
		t.Errorf("after a week of silence: got %+v, want what is spent", s.Forecast)
	}
	fresh := book(t, polder.Tenant{Name: "acme"}, gib("a", "acme", nil))
	fresh.Requests(now, "a", 5)
	if s, _ := fresh.Service(now.Add(23*time.Hour), "a"); s.Forecast.Known || s.Forecast.High != 50 {
		t.Errorf("less than a day: got %+v, want not known", s.Forecast)
	}
}

func TestForecastLowersTheRungEarly(t *testing.T) {
	limit := prewarm.Nanos(1_000_000)
	a := account{limit: &limit}
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	a.book(now, 1)
	for range 24 * 9 {
		now = now.Add(time.Hour)
		a.book(now, 2500)
	}
	if got := a.rung(now, 1); got != prewarm.RungPrewarm {
		t.Errorf("54 %% spent on the 10th of the month: got %q, want %q", got, prewarm.RungPrewarm)
	}
}

func TestFaultsOfSettings(t *testing.T) {
	b := NewBook(prices)
	if err := b.SetService(gib("a", "nobody", nil), 1); err == nil || !strings.Contains(err.Error(), "tenant nobody has no account") {
		t.Errorf("an unknown tenant: %v", err)
	}
	if err := b.SetService(gib("a", "", &polder.Money{Micros: 1, Currency: "PLN"}), 1); err == nil || !strings.Contains(err.Error(), "PLN") {
		t.Errorf("another currency: %v", err)
	}
	if err := NewBook(prewarm.Prices{}).SetService(gib("a", "", euros(1000)), 1); err == nil || !strings.Contains(err.Error(), "price list") {
		t.Errorf("a budget without prices: %v", err)
	}
	if err := b.Reserve(noon, "ghost", "1"); err == nil {
		t.Error("a service without an account could reserve")
	}
	if r := rung(b, noon, "ghost"); r != prewarm.RungRefused {
		t.Errorf("a service without an account: got %q, want refused", r)
	}
}

func TestAdoptMetersWithoutAsking(t *testing.T) {
	b := book(t, polder.Tenant{Name: "acme"}, gib("a", "acme", euros(0)))
	if err := b.Adopt(noon, "a", "1", noon); err != nil {
		t.Fatal(err)
	}
	if stop := b.Settle(noon.Add(time.Second)); len(stop) != 1 {
		t.Errorf("no money for an adopted instance: got %v to stop, want it", stop)
	}
	b.Release(noon.Add(30*time.Second), "1")
	if s, _ := b.Service(noon, "a"); s.Spent != minute/2 {
		t.Errorf("got %d spent, want half a minute", s.Spent)
	}
}

func rung(b *Book, now time.Time, name polder.ServiceName) prewarm.Rung {
	rung, _ := b.Standing(now, name)
	return rung
}
