package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
)

// TestReasonsAreWrittenOnDemand asks nothing of a service's decision for its words
// while nothing starts or stops by it: a step of an idle service allocates nothing
// for them.
func TestReasonsAreWrittenOnDemand(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", time.Hour)}, func(w *world) {
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		w.r.do(w.ctx, func(now time.Time) {
			s := w.r.services["billing"]
			if n := testing.AllocsPerRun(100, func() { w.r.aim(s, now) }); n != 0 {
				t.Errorf("to aim allocates %g times", n)
			}
			if _, detour := w.r.aim(s, now); !strings.Contains(s.because(detour), "keep-alive") || s.because("drains") != "drains" {
				t.Errorf("because: %q and %q", s.because(detour), s.because("drains"))
			}
		})
	})
}
