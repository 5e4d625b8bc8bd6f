package gateway

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/polder/polder"
)

// SetModel changes the model alone, and sorts its services as a file's are.
func (r *reconciler) SetModel(ctx context.Context, m *polder.Model) {
	sorted := *m
	sorted.Services = slices.SortedFunc(slices.Values(m.Services), func(a, b polder.Service) int { return cmp.Compare(a.Name, b.Name) })
	m = &sorted
	var around surroundings
	r.do(ctx, func(time.Time) { around = r.around })
	r.SetWorld(ctx, m, around)
}

// SetSurroundings changes what is around the model alone.
func (r *reconciler) SetSurroundings(ctx context.Context, s surroundings) {
	var m *polder.Model
	r.do(ctx, func(time.Time) { m = r.model })
	r.SetWorld(ctx, m, s)
}
