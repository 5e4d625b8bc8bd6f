package cold

import (
	"context"
	"fmt"
	"time"
)

// kinds of services of the hello measurement: the same program, started at the
// ClientHello or at the request.
const (
	helloAwaited  = "awaited"  // its ClientHello asks Envoy for the key, which wakes it
	helloResident = "resident" // Envoy has its key, and tells of its ClientHello
	helloIgnored  = "ignored"  // its request wakes it
)

// helloKinds are measured in turn.
var helloKinds = []string{helloAwaited, helloIgnored, helloResident}

// How a service's keys may be held, as its configuration says.
const (
	keysOnDemand = "on-demand"
	keysResident = "resident"
)

// helloCopies are the services of each kind, so that one is asleep again while
// the others are called.
const helloCopies = 6

// helloStart is the start-up time of the program that is woken.
const helloStart = 50 * time.Millisecond

func helloName(kind string, sample int) string {
	return fmt.Sprintf("hello-%s-%d", kind, sample%helloCopies)
}

func helloServices(o Options) (list []service) {
	if len(o.RTTs) == 0 {
		return nil
	}
	sleeper := o.program("sleeper-50")
	for n := range helloCopies {
		list = append(list,
			service{program: sleeper, name: helloName(helloAwaited, n), prewarm: "auto"},
			service{program: sleeper, name: helloName(helloIgnored, n)},
			service{program: sleeper, name: helloName(helloResident, n), prewarm: "auto", keys: keysResident})
	}
	return list
}

// hellos measures a new connection and its first request, from several
// distances, with and without the wake-up at the ClientHello.
func hellos(ctx context.Context, s *site, o Options, r *Report) error {
	for _, rtt := range o.RTTs {
		took, err := s.from(ctx, rtt, o.Hellos)
		if err != nil {
			return err
		}
		r.Hellos = append(r.Hellos, newHello(keysOnDemand, rtt, took[helloAwaited], took[helloIgnored]),
			newHello(keysResident, rtt, took[helloResident], took[helloIgnored]))
		o.progress("ClientHello: callers %s away are done", rtt)
	}
	return nil
}

// from calls sleeping services from some distance, each kind as often as samples
// says, and tells how long each call took.
func (s *site) from(ctx context.Context, rtt time.Duration, samples int) (map[string][]time.Duration, error) {
	far, stop := context.WithCancel(ctx)
	relay, err := newRelay(s.address, rtt)
	if err != nil {
		stop()
		return nil, err
	}
	ended := make(chan struct{})
	go func() { defer close(ended); relay.run(far) }()
	defer func() { stop(); <-ended }()
	took := map[string][]time.Duration{}
	for n := range samples {
		for _, kind := range helloKinds {
			d, err := s.hello(ctx, relay.address(), kind, helloName(kind, n))
			if err != nil {
				return nil, fmt.Errorf("%s from %s away: %w", helloName(kind, n), rtt, err)
			}
			took[kind] = append(took[kind], d)
		}
	}
	return took, nil
}

// hello calls a sleeping service on a new connection.
func (s *site) hello(ctx context.Context, to, kind, name string) (time.Duration, error) {
	if err := s.Asleep(ctx, name); err != nil {
		return 0, err
	}
	if kind != helloResident {
		if err := s.keyless(ctx, host(name)); err != nil {
			return 0, err
		}
	}
	client := s.Caller(to, false)
	defer client.CloseIdleConnections()
	answer, err := s.call(ctx, client, host(name))
	return answer.took, err
}

func newHello(keys string, rtt time.Duration, with, without []time.Duration) Hello {
	h := Hello{Keys: keys, RTT: microseconds(rtt), Samples: len(with), With: spread(with), Without: spread(without)}
	h.Hidden = h.Without.P50 - h.With.P50
	if possible := microseconds(min(rtt, helloStart)); possible > 0 {
		h.Share = float64(h.Hidden) / float64(possible)
	}
	return h
}
