package budget

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/polder/polder"
)

func TestSaveAndRestore(t *testing.T) {
	acme := polder.Tenant{Name: "acme", Budget: euros(10 * minute)}
	services := []polder.Service{gib("a", "acme", euros(5*minute)), gib("b", "acme", nil)}
	b := book(t, acme, services...)
	for _, name := range []polder.ServiceName{"a", "b"} {
		if err := b.Reserve(noon, name, polder.InstanceID(name)); err != nil {
			t.Fatal(err)
		}
		b.Release(noon.Add(time.Minute), polder.InstanceID(name))
	}
	before, _, _ := b.Unsaved()
	text, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	var saved []Saved
	if err := json.Unmarshal(text, &saved); err != nil {
		t.Fatal(err)
	}
	again := book(t, acme, services...)
	for _, s := range saved {
		if err := again.Restore(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []polder.ServiceName{"a", "b"} {
		was, _ := b.Service(noon.Add(time.Hour), name)
		is, _ := again.Service(noon.Add(time.Hour), name)
		if !reflect.DeepEqual(is, was) {
			t.Errorf("a restored account is %+v, the saved one %+v", is, was)
		}
	}
	if accounts, _, _ := b.Unsaved(); len(accounts) > 0 {
		t.Errorf("nothing changed, and %d accounts are unsaved", len(accounts))
	}
	if s, _ := again.Tenant(noon, "acme"); s.Spent != 2*minute {
		t.Errorf("tenant: got %d spent, want two minutes", s.Spent)
	}
	if err := again.Restore(saved[0]); err == nil {
		t.Error("an account in use was overwritten")
	}
	damaged := saved[1]
	damaged.Hours = damaged.Hours[1:]
	if err := book(t, acme, services...).Restore(damaged); err == nil {
		t.Error("damaged bytes were restored")
	}
	if err := book(t, acme).Restore(saved[1]); err == nil {
		t.Error("a service without an account was restored")
	}
}

// TestLeasesSurvive: what ran while nobody looked is metered, to the minute if
// it runs still, and at what was set aside if it does not.
func TestLeasesSurvive(t *testing.T) {
	b := book(t, polder.Tenant{Name: "acme"}, gib("a", "acme", nil))
	for _, id := range []polder.InstanceID{"runs", "ended"} {
		if err := b.Reserve(noon, "a", "reserved"); err != nil {
			t.Fatal(err)
		}
		b.Named("reserved", id)
	}
	b.Settle(noon.Add(65 * time.Second))
	accounts, leases, moved := b.Unsaved()
	if !moved || len(leases) != 2 {
		t.Fatalf("got %d leases, want both", len(leases))
	}
	again := book(t, polder.Tenant{Name: "acme"}, gib("a", "acme", nil))
	for _, s := range accounts {
		if err := again.Restore(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range leases {
		again.RestoreLease(l)
	}
	now := noon.Add(10 * time.Minute)
	if err := again.Adopt(now, "a", "runs", noon.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	again.Close(now)
	again.Settle(now)
	again.Release(now, "runs")
	// Ten minutes of the one; of the other the minute that was booked and the
	// one that was set aside.
	if s, _ := again.Service(now, "a"); s.Spent != 12*minute || s.Running != 0 || s.Reserved != 0 {
		t.Errorf("got %+v, want twelve minutes spent and nothing else", s)
	}
}

// TestUnknownLease: an instance that no store knows is metered from its start.
func TestUnknownLease(t *testing.T) {
	b := book(t, polder.Tenant{Name: "acme"}, gib("a", "acme", nil))
	if err := b.Adopt(noon, "a", "1", noon.Add(-3*time.Minute)); err != nil {
		t.Fatal(err)
	}
	b.Release(noon, "1")
	if s, _ := b.Service(noon, "a"); s.Spent != 3*minute || s.Used.Memory != 180 || s.Used.Instances != 180 {
		t.Errorf("got %+v, want three minutes of one GiB", s)
	}
}

func TestMonthsAreFiled(t *testing.T) {
	b := book(t, polder.Tenant{Name: "acme"}, gib("a", "acme", nil))
	for m := range 20 {
		b.Requests(noon.AddDate(0, m, 0), "a", 7)
		b.CPU(noon.AddDate(0, m, 0), "a", time.Second)
	}
	s, _ := b.Service(noon.AddDate(0, 20, 0), "a")
	if len(s.Past) != pastMonths || s.Past[pastMonths-1] != (Bill{"2027-10", 70, Usage{Requests: 7, CPU: 1}}) || s.Spent != 0 {
		t.Errorf("got %+v, want the last %d months", s, pastMonths)
	}
}

func TestSharesOfRegions(t *testing.T) {
	b := NewBook(prices)
	if err := b.SetService(gib("a", "", euros(10*minute)), 3); err != nil {
		t.Fatal(err)
	}
	if s, _ := b.Service(noon, "a"); *s.Limit != 200_000 {
		t.Errorf("got %d of 600,000 over three regions, want 200,000", *s.Limit)
	}
	unlimited := gib("b", "", nil)
	unlimited.Run.Memory = 0
	if err := b.SetService(unlimited, 1); err != nil {
		t.Fatal(err)
	}
	if err := b.Reserve(noon, "b", "1"); err != nil {
		t.Fatal(err)
	}
	if s, _ := b.Service(noon, "b"); s.Reserved != 2*minute/4 {
		t.Errorf("without a memory limit: got %d set aside, want two minutes of %s", s.Reserved, AssumedMemory)
	}
}
