package convergence

import (
	"context"
	"errors"
	"fmt"
)

// floodSize is how many names that nobody owns are called for, each once.
const floodSize = 2_000

// flood calls for names that nobody owns, one connection each, and tells what that
// costs. The first tenth is not counted: buffers and threads have their size after it.
func (r *rig) flood(ctx context.Context) (*Flood, error) {
	call := func(from, to int) error {
		for i := from; i < to; i++ {
			name := fmt.Sprintf("scan%06d.%s", i, domain)
			opened, err := r.callers.connect(ctx, name)
			if err == nil {
				opened.wire.Close()
				return fmt.Errorf("%s is nobody's, and was opened", name)
			}
			if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("%s was not refused: %w", name, err)
			}
		}
		return nil
	}
	const warm = floodSize / 10
	if err := call(0, warm); err != nil {
		return nil, err
	}
	if err := pause(ctx, rest); err != nil {
		return nil, err
	}
	before, err := r.envoy.allocated(ctx)
	if err != nil {
		return nil, err
	}
	bytes, own := r.wire.total(), ownCPU()
	all, err := r.envoy.allCPU()
	if err != nil {
		return nil, err
	}
	if err := call(warm, warm+floodSize); err != nil {
		return nil, err
	}
	own = ownCPU() - own
	if all, err = since(all, r.envoy.allCPU); err != nil {
		return nil, err
	}
	if err := pause(ctx, rest); err != nil {
		return nil, err
	}
	after, err := r.envoy.allocated(ctx)
	if err != nil {
		return nil, err
	}
	f := &Flood{
		Connections: floodSize, CPU: own / floodSize, EnvoyCPU: all / floodSize,
		Bytes: float64(r.wire.total()-bytes) / floodSize, EnvoyGrowth: after - before,
	}
	r.o.progress("       names that nobody owns: %d connections, %.3f ms of Envoy each, %.1f bytes of discovery, %d kB more in Envoy",
		f.Connections, ms(f.EnvoyCPU), f.Bytes, f.EnvoyGrowth/1000)
	return f, nil
}
