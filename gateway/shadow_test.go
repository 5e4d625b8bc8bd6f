package gateway

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
)

// shadowedBilling is kept for a minute, and has a shadow that would keep it longer.
func shadowedBilling(longer time.Duration) polder.Service {
	s := started("billing", time.Minute)
	s.Scale.Shadow = &polder.Shadow{KeepAlive: longer, Prewarm: polder.PrewarmOff}
	return s
}

// TestShadowActsOnNothing calls a service every five minutes: it starts each time,
// as without a shadow, and its shadow would have started it once.
func TestShadowActsOnNothing(t *testing.T) {
	store := learned{slog.New(slog.DiscardHandler), filepath.Join(t.TempDir(), "scores.gob")}
	inWorld(t, []polder.Service{shadowedBilling(time.Hour)}, func(w *world) {
		after(time.Until(time.Now().Truncate(time.Minute).Add(time.Minute + 20*time.Second))) // no call near a slot's end
		for range 6 {
			if target, err := w.wake("billing"); err != nil || target.Warm {
				t.Fatalf("warm %t, %v", target.Warm, err)
			}
			after(5 * time.Minute)
		}
		if got := w.started(); got != 6 {
			t.Errorf("%d instances were started, want 6", got)
		}
		w.r.do(w.ctx, func(now time.Time) {
			status := w.r.services["billing"].status(now)
			x := status.Shadow
			if x == nil {
				t.Fatal("no shadow in the status")
			}
			if x.Acting.Active != 6 || x.Acting.Cold != 6 || x.Acting.Starts != 6 || x.Shadow.Active != 6 || x.Shadow.Cold != 1 || x.Shadow.Starts != 1 {
				t.Errorf("acting %+v, shadow %+v", x.Acting, x.Shadow)
			}
			if x.Acting.Idle >= x.Shadow.Idle || x.Acting.Warm >= x.Shadow.Warm {
				t.Errorf("who keeps longer is warm longer: acting %+v, shadow %+v", x.Acting, x.Shadow)
			}
			if line := x.String(); !strings.Contains(line, "6 of 6 minutes") || !strings.Contains(line, "1 of 6 minutes") {
				t.Error(line)
			}
		})
		if err := store.write(w.r.Scored(w.ctx)); err != nil {
			t.Fatal(err)
		}
	})
	for _, c := range []struct {
		longer time.Duration
		cold   uint64
		why    string
	}{{time.Hour, 6, "the same policies go on"}, {2 * time.Hour, 0, "another shadow begins anew"}} {
		inWorld(t, nil, func(w *world) {
			w.r.do(w.ctx, func(time.Time) { w.r.scored = store.read() })
			w.r.SetModel(w.ctx, &polder.Model{Regions: testRegions, Services: []polder.Service{shadowedBilling(c.longer)}})
			after(time.Minute)
			w.r.do(w.ctx, func(time.Time) {
				if got := w.r.services["billing"].shadow.Acting.Cold; got != c.cold {
					t.Errorf("%s: %d cold minutes, want %d", c.why, got, c.cold)
				}
			})
		})
	}
}

// TestShadowOfWhatMayNotBeKept stays where it was seen: a traffic profile that the
// law lets nobody store is scored and not stored.
func TestShadowOfWhatMayNotBeKept(t *testing.T) {
	s := shadowedBilling(time.Hour)
	s.Residency.Telemetry.Profiles = polder.KeptNowhere
	inWorld(t, []polder.Service{s}, func(w *world) {
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		if got := w.r.Scored(w.ctx); len(got) != 0 {
			t.Errorf("%d scores are to be stored", len(got))
		}
	})
}
