package cold

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

const (
	// crowded is the service with many callers.
	crowded = "crowded"
	// streams are the requests of one connection; Envoy allows a hundred.
	streams = 50
	// cyclers are the services that are called just as they fall asleep.
	cyclers = 10
)

// crowds measures many callers of one sleeper, many sleepers, and callers that
// come while a service falls asleep.
func crowds(ctx context.Context, s *site, o Options, r *Report) error {
	if o.Callers > 0 {
		c, err := s.burst(ctx, o.Callers)
		if err != nil {
			return err
		}
		r.Crowds = append(r.Crowds, c)
		o.progress("%d callers of one sleeper are done", o.Callers)
	}
	if o.Sleepers > 0 {
		c, err := s.many(ctx, o.Sleepers)
		if err != nil {
			return err
		}
		r.Crowds = append(r.Crowds, c)
		o.progress("%d sleepers at once are done", o.Sleepers)
	}
	if o.Cycles > 0 {
		c, err := s.cycles(ctx, o)
		if err != nil {
			return err
		}
		r.Crowds = append(r.Crowds, c)
	}
	return nil
}

// crowd gathers replies from many goroutines.
type crowd struct {
	mu     sync.Mutex
	took   []time.Duration
	errors map[string]int
}

func (c *crowd) add(r reply, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.errors[err.Error()]++
		return
	}
	c.took = append(c.took, r.took)
}

// measure calls do, and tells what the services went through meanwhile.
func (s *site) measure(ctx context.Context, name string, services []string, do func(*crowd)) (Crowd, error) {
	before, err := s.totals(ctx, services...)
	if err != nil {
		return Crowd{}, err
	}
	c := &crowd{errors: map[string]int{}}
	do(c)
	if err := ctx.Err(); err != nil {
		return Crowd{}, err
	}
	after, err := s.totals(ctx, services...)
	if err != nil {
		return Crowd{}, err
	}
	out := Crowd{
		Name: name, Services: len(services), Answered: len(c.took), Errors: c.errors, Took: spread(c.took),
		Cold: after.Cold - before.Cold, Starts: after.Starts - before.Starts, Crashes: after.Crashes - before.Crashes,
	}
	for _, n := range c.errors {
		out.Failed += n
	}
	return out, nil
}

// burst lets many callers call one sleeper at once, on connections that are open.
func (s *site) burst(ctx context.Context, callers int) (Crowd, error) {
	clients := make([]*http.Client, (callers+streams-1)/streams)
	for i := range clients {
		clients[i] = s.Caller(s.address, true)
		defer clients[i].CloseIdleConnections()
		if _, err := s.call(ctx, clients[i], host(crowded)); err != nil {
			return Crowd{}, err
		}
	}
	if err := s.Asleep(ctx, crowded); err != nil {
		return Crowd{}, err
	}
	return s.measure(ctx, fmt.Sprintf("%d callers of one sleeper", callers), []string{crowded}, func(c *crowd) {
		var calling sync.WaitGroup
		for i := range callers {
			calling.Go(func() { c.add(s.call(ctx, clients[i%len(clients)], host(crowded))) })
		}
		calling.Wait()
	})
}

// many calls each of many sleepers once, all at the same time.
func (s *site) many(ctx context.Context, n int) (Crowd, error) {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("many-%d", i)
	}
	if err := s.Asleep(ctx, names...); err != nil {
		return Crowd{}, err
	}
	return s.measure(ctx, fmt.Sprintf("%d sleepers at once", n), names, func(c *crowd) {
		var calling sync.WaitGroup
		for _, name := range names {
			calling.Go(func() {
				client := s.Caller(s.address, false)
				defer client.CloseIdleConnections()
				c.add(s.call(ctx, client, host(name)))
			})
		}
		calling.Wait()
	})
}

// cycles calls some services again and again, with pauses about as long as
// they take to fall asleep, so that calls meet every moment of it.
func (s *site) cycles(ctx context.Context, o Options) (Crowd, error) {
	names := make([]string, cyclers)
	for i := range names {
		names[i] = fmt.Sprintf("cycle-%d", i)
	}
	each := (o.Cycles + cyclers - 1) / cyclers
	return s.measure(ctx, fmt.Sprintf("%d calls around falling asleep", each*cyclers), names, func(c *crowd) {
		var calling sync.WaitGroup
		for i, name := range names {
			calling.Go(func() {
				client := s.Caller(s.address, false)
				defer client.CloseIdleConnections()
				chance := rand.New(rand.NewPCG(1, uint64(i)))
				for round := range each {
					c.add(s.call(ctx, client, host(name)))
					if i == 0 && (round+1)%10 == 0 {
						o.progress("sleep and wake: round %d of %d", round+1, each)
					}
					// Falling asleep takes the keep-alive, up to a load report, and a settling time.
					pause := keepAlive/2 + time.Duration(chance.Int64N(int64(1500*time.Millisecond)))
					select {
					case <-time.After(pause):
					case <-ctx.Done():
						return
					}
				}
			})
		}
		calling.Wait()
	})
}
