package gateway

import (
	"context"
	"time"

	"github.com/polder/polder"
)

// SetModel changes the model alone.
func (r *reconciler) SetModel(ctx context.Context, m *polder.Model) {
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
