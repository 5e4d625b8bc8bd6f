package cold

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// crowded is the service with many callers.
	crowded = "crowded"
	// streams are the requests of one connection; Envoy allows a hundred.
	streams = 50
)

// crowdOf gathers replies from many goroutines.
type crowdOf struct {
	mu     sync.Mutex
	took   []time.Duration
	cold   int // replies that say so
	errors map[string]int
}

func (c *crowdOf) add(r reply, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		// Without the address, those that are alike are told as one.
		if of := new(url.Error); errors.As(err, &of) {
			err = of.Err
		}
		c.errors[err.Error()]++
		return
	}
	c.took = append(c.took, r.took)
	if r.cold {
		c.cold++
	}
}

// measure calls do, and tells what the services went through meanwhile.
func (s *site) measure(ctx context.Context, name string, services []string, do func(*crowdOf) error) (Crowd, error) {
	before, err := s.totals(ctx, services...)
	if err != nil {
		return Crowd{}, err
	}
	c := &crowdOf{errors: map[string]int{}}
	if err := do(c); err != nil {
		return Crowd{}, fmt.Errorf("%s: %w", name, err)
	}
	if err := ctx.Err(); err != nil {
		return Crowd{}, err
	}
	after, err := s.totals(ctx, services...)
	if err != nil {
		return Crowd{}, err
	}
	out := Crowd{
		Name: name, Services: len(services), Answered: len(c.took), Errors: c.errors, Took: spread(c.took), Wakes: uint64(c.cold),
		Cold: after.Cold - before.Cold, Starts: after.Starts - before.Starts, Crashes: after.Crashes - before.Crashes,
	}
	for _, n := range c.errors {
		out.Failed += n
	}
	return out, nil
}

func burstServices(o Options) []service {
	if o.Callers == 0 {
		return nil
	}
	return []service{{program: o.program("sleeper-1000"), name: crowded}}
}

// burst lets many callers call one sleeper at once, on connections that are open.
func burst(ctx context.Context, s *site, o Options, r *Report) error {
	clients := make([]*http.Client, (o.Callers+streams-1)/streams)
	for i := range clients {
		clients[i] = s.Caller(s.address, true)
		defer clients[i].CloseIdleConnections()
		if _, err := s.call(ctx, clients[i], host(crowded)); err != nil {
			return err
		}
	}
	if err := s.Asleep(ctx, crowded); err != nil {
		return err
	}
	c, err := s.measure(ctx, fmt.Sprintf("%d callers of one sleeper", o.Callers), s.services, func(c *crowdOf) error {
		var calling sync.WaitGroup
		for i := range o.Callers {
			calling.Go(func() { c.add(s.call(ctx, clients[i%len(clients)], host(crowded))) })
		}
		calling.Wait()
		return nil
	})
	if err != nil {
		return err
	}
	c.Wakes = 1
	r.Crowds = append(r.Crowds, c)
	o.progress("%d callers of one sleeper are done", o.Callers)
	return nil
}

// lateComers are sleepers that are called while all others fall asleep, one
// after the other with a pause.
const (
	lateComers = 10
	latePause  = 400 * time.Millisecond
)

func manyServices(o Options) (list []service) {
	if o.Sleepers == 0 {
		return nil
	}
	for i := range o.Sleepers + lateComers {
		list = append(list, service{program: o.program("sleeper-0"), name: fmt.Sprintf("many-%d", i)})
	}
	return list
}

// many calls each of many sleepers once, all at the same time; and some others
// while these fall asleep, also at the same time.
func many(ctx context.Context, s *site, o Options, r *Report) error {
	crowd, late := s.services[:o.Sleepers], s.services[o.Sleepers:]
	if err := s.Asleep(ctx, s.services...); err != nil {
		return err
	}
	all, err := s.measure(ctx, fmt.Sprintf("%d sleepers at once", o.Sleepers), crowd, func(c *crowdOf) error {
		var calling sync.WaitGroup
		for _, name := range crowd {
			calling.Go(func() { s.callOnce(ctx, name, c) })
		}
		calling.Wait()
		return nil
	})
	if err != nil {
		return err
	}
	all.Wakes = uint64(len(crowd))
	o.progress("%d sleepers at once are done", o.Sleepers)
	few, err := s.measure(ctx, fmt.Sprintf("%d more while these fall asleep", lateComers), late, func(c *crowdOf) error {
		var calling sync.WaitGroup
		calling.Go(func() {
			for _, name := range late {
				s.callOnce(ctx, name, c)
				if !pause(ctx, latePause) {
					return
				}
			}
		})
		err := s.Asleep(ctx, crowd...)
		calling.Wait()
		return err
	})
	if err != nil {
		return err
	}
	few.Wakes = uint64(len(late))
	r.Crowds = append(r.Crowds, all, few)
	o.progress("%d sleepers sleep again", o.Sleepers)
	return nil
}

// callOnce calls a service on a connection of its own.
func (s *site) callOnce(ctx context.Context, name string, c *crowdOf) {
	client := s.Caller(s.address, false)
	defer client.CloseIdleConnections()
	c.add(s.call(ctx, client, host(name)))
}

// pause waits, and tells whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
