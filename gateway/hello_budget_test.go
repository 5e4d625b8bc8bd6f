package gateway

import (
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// TestGreetingsAreBoughtLikeCalls: an instance that a ClientHello starts is paid
// from the service's budget, stops when no request follows, and is not started when
// the money is gone, however often somebody greets; who calls then is told why.
func TestGreetingsAreBoughtLikeCalls(t *testing.T) {
	const minutes = 3
	inWorld(t, nil, func(w *world) {
		billing := dear("billing", "", minutes)
		billing.Scale.Prewarm = polder.PrewarmAuto
		w.priced(nil, billing)
		after(2 * time.Minute) // its keep-alive does not count from its beginning any more
		w.r.Hello(w.ctx, "billing")
		after(time.Second)
		if s := w.spent("billing"); w.started() != 1 || s.Spent+s.Reserved == 0 {
			t.Fatalf("%d starts, %d spent, %d set aside", w.started(), s.Spent, s.Reserved)
		}
		after(helloGrace + 10*time.Second)
		if w.alive.Load() != 0 {
			t.Fatal("no request followed, and the instance stays")
		}
		for range 24 * 60 { // for a day, once a minute
			w.r.Hello(w.ctx, "billing")
			after(time.Minute)
		}
		starts, s := w.started(), w.spent("billing")
		if s.Spent+s.Reserved > *s.Limit || w.lived() > minutes*time.Minute {
			t.Errorf("instances lived for %s; %d spent and %d set aside of %d", w.lived(), s.Spent, s.Reserved, *s.Limit)
		}
		for range 60 {
			w.r.Hello(w.ctx, "billing")
			after(helloPenaltyMax)
		}
		if w.started() != starts || starts < 2 {
			t.Errorf("without money greetings started %d instances, after %d with it", w.started()-starts, starts)
		}
		if _, err := w.wake("billing"); reasonOf(err) != activator.OverBudget {
			t.Errorf("who calls is told %v, want that the budget is used up", err)
		}
	})
}
