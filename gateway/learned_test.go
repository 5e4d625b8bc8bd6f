package gateway

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/polder/polder"
)

func TestLearnedSurvivesARestart(t *testing.T) {
	store := learned{slog.New(slog.DiscardHandler), filepath.Join(t.TempDir(), "learned.gob")}
	inWorld(t, []polder.Service{started("billing", time.Minute)}, func(w *world) {
		for range 5 {
			if _, err := w.wake("billing"); err != nil {
				t.Fatal(err)
			}
			after(time.Minute)
		}
		if err := store.write(w.r.Learned(w.ctx)); err != nil {
			t.Fatal(err)
		}
	})
	inWorld(t, nil, func(w *world) {
		w.r.do(w.ctx, func(time.Time) { w.r.remembered = store.read() })
		w.r.SetModel(w.ctx, &polder.Model{Regions: testRegions, Services: []polder.Service{started("billing", time.Minute)}})
		w.r.do(w.ctx, func(time.Time) {
			if calls := w.r.services["billing"].state.Calls(); calls != 5 {
				t.Errorf("%d calls are remembered, want 5", calls)
			}
		})
	})
}

func TestDamagedMemoryIsForgotten(t *testing.T) {
	store := learned{slog.New(slog.DiscardHandler), filepath.Join(t.TempDir(), "learned.gob")}
	if states := store.read(); len(states) != 0 {
		t.Errorf("a missing file has %d states", len(states))
	}
	if err := os.WriteFile(store.file, []byte("not what was written"), 0o600); err != nil {
		t.Fatal(err)
	}
	if states := store.read(); len(states) != 0 {
		t.Errorf("a damaged file has %d states", len(states))
	}
}
