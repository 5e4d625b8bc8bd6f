package cold

import (
	"context"
	"fmt"
	"time"
)

// Services of the hello measurement: the same program, started at the
// ClientHello or at the request.
const (
	helloAwaited = "hello-awaited"
	helloIgnored = "hello-ignored"
	// helloResident is woken by its ClientHello too, and Envoy has its key already.
	helloResident = "hello-resident"
)

// hellos measures a new connection and its first request, from several
// distances, with and without the wake-up at the ClientHello.
func hellos(ctx context.Context, s *site, o Options, r *Report) error {
	for _, rtt := range o.RTTs {
		with, without, resident := []time.Duration{}, []time.Duration{}, []time.Duration{}
		run := func() error {
			far, stop := context.WithCancel(ctx)
			defer stop()
			relay, err := newRelay(s.address, rtt)
			if err != nil {
				return err
			}
			ended := make(chan struct{})
			go func() { defer close(ended); relay.run(far) }()
			defer func() { stop(); <-ended }()
			for range o.Hellos {
				for name, samples := range map[string]*[]time.Duration{helloAwaited: &with, helloIgnored: &without, helloResident: &resident} {
					took, err := s.hello(ctx, relay.address(), name)
					if err != nil {
						return fmt.Errorf("%s from %s away: %w", name, rtt, err)
					}
					*samples = append(*samples, took)
				}
			}
			return nil
		}
		if err := run(); err != nil {
			return err
		}
		r.Hellos = append(r.Hellos, newHello("on-demand", rtt, with, without), newHello("resident", rtt, resident, without))
		o.progress("ClientHello: callers %s away are done", rtt)
	}
	return nil
}

// hello calls a sleeping service on a new connection.
func (s *site) hello(ctx context.Context, to, name string) (time.Duration, error) {
	if err := s.Asleep(ctx, name); err != nil {
		return 0, err
	}
	if name != helloResident {
		if err := s.keyless(ctx, host(name)); err != nil {
			return 0, err
		}
	}
	client := s.Caller(to, false)
	defer client.CloseIdleConnections()
	answer, err := s.call(ctx, client, host(name))
	return answer.took, err
}

// helloStart is the start-up time of the program that is woken.
const helloStart = 50 * time.Millisecond

func newHello(keys string, rtt time.Duration, with, without []time.Duration) Hello {
	h := Hello{Keys: keys, RTT: microseconds(rtt), Samples: len(with), With: spread(with), Without: spread(without)}
	h.Hidden = h.Without.P50 - h.With.P50
	if possible := microseconds(min(rtt, helloStart)); possible > 0 {
		h.Share = float64(h.Hidden) / float64(possible)
	}
	return h
}
