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
	text, err := json.Marshal(b.Save())
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
	if !reflect.DeepEqual(again.Save(), b.Save()) {
		t.Error("a restored book differs from the saved one")
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
