package cold

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// cyclers are the services of each kind that are called around the moment at
// which they fall asleep, each by one caller.
const cyclers = 40

// A service falls asleep some 2.5 s after a call that woke it, when the load
// reports have told twice that it is idle. Its caller comes back between these
// two, so that calls meet every moment of it.
const (
	backSoonest = 1500 * time.Millisecond
	backLatest  = 4000 * time.Millisecond
)

func cycleServices(o Options) (list []service) {
	if o.Cycles == 0 {
		return nil
	}
	for _, kind := range []string{"sleeper-0", "sleeper-0-inherit"} {
		for i := range cyclers {
			list = append(list, service{program: o.program(kind), name: fmt.Sprintf("cycle-%d-%s", i, kind)})
		}
	}
	return list
}

// cycles calls services again and again until they have been woken as often as
// the options say, half with a port and half with an inherited socket.
func cycles(ctx context.Context, s *site, o Options, r *Report) error {
	calling, enough := context.WithCancel(ctx)
	defer enough()
	var running sync.WaitGroup
	results, faults := make([]Crowd, 2), make([]error, 2)
	for kind, names := range [][]string{s.services[:cyclers], s.services[cyclers:]} {
		running.Go(func() {
			results[kind], faults[kind] = s.measure(ctx, []string{"sleep and wake, by port", "sleep and wake, inherited socket"}[kind], names, func(c *crowdOf) error {
				s.around(ctx, calling, names, c)
				return nil
			})
		})
	}
	err := s.awaitCycles(ctx, o)
	enough()
	running.Wait()
	// What the kernel held says nothing of it: each call may have woken its service.
	results[1].Wakes = uint64(results[1].Answered + results[1].Failed)
	r.Crowds = append(r.Crowds, results...)
	return errors.Join(append(faults, err)...)
}

// around lets one caller for each service come and go until enough is done. A
// call that has begun is waited for.
func (s *site) around(ctx, enough context.Context, names []string, c *crowdOf) {
	var calling sync.WaitGroup
	for i, name := range names {
		calling.Go(func() {
			client := s.Caller(s.address, false)
			defer client.CloseIdleConnections()
			chance := rand.New(rand.NewPCG(1, uint64(i)))
			// Not all at once: a service that was woken together with others falls asleep with them.
			for wait := time.Duration(chance.Int64N(int64(backLatest))); pause(enough, wait); wait = backSoonest + time.Duration(chance.Int64N(int64(backLatest-backSoonest))) {
				c.add(s.call(ctx, client, host(name)))
			}
		})
	}
	calling.Wait()
}

// awaitCycles returns when the services have been woken often enough. They get
// four times as long as they should need.
func (s *site) awaitCycles(ctx context.Context, o Options) error {
	rounds := time.Duration(o.Cycles/len(s.services) + 2)
	ctx, cancel := context.WithTimeout(ctx, 4*rounds*backLatest)
	defer cancel()
	var told uint64
	for pause(ctx, time.Second) {
		totals, err := s.totals(ctx, s.services...)
		if err != nil {
			return err
		}
		if totals.Starts >= uint64(o.Cycles) {
			o.progress("sleep and wake: %d cycles are done", totals.Starts)
			return nil
		}
		if totals.Starts >= told+100 {
			told = totals.Starts
			o.progress("sleep and wake: cycle %d of %d", told, o.Cycles)
		}
	}
	return fmt.Errorf("sleep and wake: not %d cycles in the time that four times as many take", o.Cycles)
}
