package live

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/polder/polder/bench/launch"
	"github.com/polder/polder/bench/policy"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/fleet"
)

const (
	// firstAllowance is how long the regions get to be ready before the first
	// minute begins; it doubles when they were not, up to allowances times.
	firstAllowance = 10 * time.Second
	allowances     = 5
	// opening is how many connections are opened at the same time.
	opening = 8
	// lateShare is the part of a slot by which a call may be late: by more, and its
	// slot may have ended.
	lateShare = 0.1
)

// errTooSlow says that the first minute had begun before the regions were ready.
var errTooSlow = errors.New("the regions were not ready in time")

// Run replays and compares.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := o.prepare(); err != nil {
		return Report{}, err
	}
	list, err := parts(o)
	if err != nil {
		return Report{}, fmt.Errorf("replay a trace: %w", err)
	}
	began := time.Now().UTC()
	allowance := firstAllowance
	for try := 1; ; try++ {
		o.progress("%d services in %d regions; their first minute begins in %s", len(list), o.Regions, allowance)
		played, err := o.play(ctx, list, allowance)
		if errors.Is(err, errTooSlow) && try < allowances {
			allowance *= 2
			continue
		}
		if err != nil {
			return Report{}, fmt.Errorf("replay a trace: %w", err)
		}
		r := newReport(o, list, played)
		r.Began, r.Processors = began, runtime.NumCPU()
		return r, nil
	}
}

// prepare makes paths absolute, and finds what is missing.
func (o *Options) prepare() error {
	if err := o.Validate(); err != nil {
		return err
	}
	for _, p := range []*string{&o.Sleeper, &o.Tools} {
		absolute, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = absolute
	}
	if _, err := os.Stat(o.Sleeper); err != nil {
		return fmt.Errorf("the program that instances run: %w; make bench-live builds it, or name it with --sleeper", err)
	}
	return nil
}

// outcome is what one service's callers saw, by minute from the first that is
// played.
type outcome struct {
	cold     []bool // whether the slot's first call was; false without one
	calls    int
	colds    int // calls that found no warm instance, first or not
	late     int // calls
	failed   int
	reopened int
	fault    error // of the first that failed
}

// played is what all did.
type played struct {
	outcomes []outcome // as parts
	counted  uint64    // cold requests, as the regions count them
}

// play runs the regions and plays the trace over them.
func (o Options) play(ctx context.Context, list []part, allowance time.Duration) (played, error) {
	p := played{outcomes: make([]outcome, len(list))}
	tempo := gateway.Tempo{Speed: o.Speed, Real: time.Now().Add(allowance).Round(time.Millisecond).UTC(), Then: policy.SlotStart(o.first())}
	l := launch.Options{
		Polder: o.Polder, Tools: o.Tools, Configuration: configuration(o, list), Extra: []string{"--tempo", tempo.String()},
		Prepare: func(members []fleet.Member) error {
			for i, m := range members {
				if err := gateway.Teach(m.Layout, learned(o, list, i)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	err := launch.Run(ctx, l, func(ctx context.Context, s *launch.Site) error {
		callers, err := open(ctx, s, list)
		defer func() {
			for _, c := range callers {
				if c != nil {
					c.close()
				}
			}
		}()
		if err != nil {
			return err
		}
		if time.Now().After(tempo.Real) {
			return errTooSlow
		}
		if err := o.callAll(ctx, callers, list, tempo, &p); err != nil {
			return err
		}
		p.counted, err = cold(ctx, s)
		return err
	})
	return p, err
}

// open opens a connection for each service.
func open(ctx context.Context, s *launch.Site, list []part) ([]*caller, error) {
	callers := make([]*caller, len(list))
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(opening)
	for i, p := range list {
		group.Go(func() (err error) {
			callers[i], err = newCaller(within, s, s.Members[p.region].Listen.HTTPS, p.host)
			return err
		})
	}
	return callers, group.Wait()
}

// callAll calls every service as the trace says.
func (o Options) callAll(ctx context.Context, callers []*caller, list []part, tempo gateway.Tempo, p *played) error {
	group, within := errgroup.WithContext(ctx)
	for i := range list {
		group.Go(func() (err error) {
			p.outcomes[i], err = o.callOne(within, callers[i], list[i], tempo)
			return err
		})
	}
	group.Go(func() error {
		for m := o.first(); m < o.To; m++ {
			if err := sleepUntil(within, o.slot(tempo, m, 0)); err != nil {
				return err
			}
			if (m-o.first())%10 == 0 {
				o.progress("minute %d of %d to %d", m, o.first(), o.To)
			}
		}
		return nil
	})
	return group.Wait()
}

// slot is the instant of a phase of a minute of the trace.
func (o Options) slot(t gateway.Tempo, minute int, phase float64) time.Time {
	return t.Real.Add(time.Duration((float64(minute-o.first()) + phase) * float64(time.Minute) / o.Speed))
}

// callOne calls one service. A call that fails is counted and ends nothing.
func (o Options) callOne(ctx context.Context, c *caller, p part, tempo gateway.Tempo) (outcome, error) {
	n := o.To - o.first()
	out := outcome{cold: make([]bool, n)}
	allowed := time.Duration(lateShare * float64(time.Minute) / o.Speed)
	for m := o.first(); m < o.To; m++ {
		for k := range p.counts[m] {
			intended := o.slot(tempo, m, p.phase+callPause*float64(k))
			if err := sleepUntil(ctx, intended); err != nil {
				return out, err
			}
			if time.Since(intended) > allowed {
				out.late++
			}
			cold, err := c.call(ctx)
			if ctx.Err() != nil {
				return out, ctx.Err()
			}
			out.calls++
			if err != nil {
				if out.failed++; out.failed == 1 {
					out.fault = err
				}
			}
			if cold {
				out.colds++
			}
			if k == 0 {
				out.cold[m-o.first()] = cold
			}
		}
	}
	out.reopened = c.reopened()
	return out, nil
}

// cold is how many requests waited for a start, as the regions count them.
func cold(ctx context.Context, s *launch.Site) (uint64, error) {
	var sum uint64
	for _, c := range s.Clients {
		status, err := c.Status(ctx)
		if err != nil {
			return 0, err
		}
		for _, service := range status.Services {
			sum += service.Totals.Cold
		}
	}
	return sum, nil
}
