package instance

import (
	"errors"
	"testing"
	"time"

	"github.com/polder/polder"
)

// TestPagingIsTold: some time after an instance was paused its memory is paged out, and
// an event tells what that left in RAM, all of it where it cannot be done. Nothing is told
// of an instance that went on before, or that is asked to end.
func TestPagingIsTold(t *testing.T) {
	for _, c := range []struct {
		name   string
		paging Paging
		locked error
		share  float64 // negative: nothing is told
	}{
		{"paged out", Paging{Before: 40 << 20, After: 10 << 20}, nil, 0.25},
		{"no right to", Paging{Before: 40 << 20, After: 40 << 20}, errors.New("operation not permitted"), 1},
		{"grew meanwhile", Paging{Before: 40 << 20, After: 41 << 20}, nil, 1},
		{"ended meanwhile", Paging{}, nil, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			inFakeTime(t, nil, func(w *world) {
				id, h := w.ready(sample("billing"))
				h.paging, h.locked = c.paging, c.locked
				w.told()
				if err := w.Pause(id, "idle"); err != nil {
					t.Fatal(err)
				}
				pass(pageOutAfter - time.Second)
				if before := w.states(id, polder.Paused); before[0].Paging != (Paging{}) {
					t.Errorf("told of paging before its time: %+v", before[0])
				}
				pass(2 * time.Second)
				if c.share < 0 {
					w.states(id)
					return
				}
				if share, known := w.states(id, polder.Paused)[0].Paging.Left(); !known || share != c.share {
					t.Errorf("left %v, %v; want %v", share, known, c.share)
				}
			})
		})
	}
	t.Run("went on", func(t *testing.T) {
		inFakeTime(t, nil, func(w *world) {
			id, h := w.ready(sample("billing"))
			h.paging = Paging{Before: 2, After: 1}
			w.told()
			if err := w.Pause(id, "idle"); err != nil {
				t.Fatal(err)
			}
			pass(time.Second)
			if err := w.Resume(id); err != nil {
				t.Fatal(err)
			}
			pass(2 * pageOutAfter)
			w.states(id, polder.Paused, polder.Ready)
		})
	})
}
