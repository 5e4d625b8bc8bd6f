package convergence

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// kind is one kind of change. Changes are numbered, and each differs from the
// one before it.
type kind struct {
	name  string
	apply func(number int) error
	host  string // whose answer shows the change; "" for a new one each time
	want  func(number int) (host, answer string)
	begin func(changes int) error // before the first; may be nil
}

// seen tells whether callers can see the change.
func (k kind) seen() bool { return k.want != nil }

// kinds are the changes that are measured. The first one of each kind differs
// from what was there before. What the usual shape has no word for is left out of it.
func (r *rig) kinds() []kind {
	kinds := r.usualKinds()
	if p, ok := r.shape.(*polderShape); ok {
		kinds = append(kinds, r.polderKinds(p)...)
	}
	return kinds
}

// polderKinds are the changes of services that go, and of those that are not opened here.
func (r *rig) polderKinds(p *polderShape) []kind {
	gone := func(i int) string { return fmt.Sprintf("gone%06d", i) }
	closed := func(name string, way polder.Elsewhere) func(int) error {
		return func(i int) error { return p.put(r.fleet.closed(fmt.Sprintf("%s%06d", name, i), way)) }
	}
	return []kind{
		{
			name: "removed",
			begin: func(changes int) error {
				services := make([]polder.Service, changes)
				for i := range services {
					services[i] = r.fleet.named(gone(i))
				}
				return p.put(services...)
			},
			apply: func(i int) error { return p.remove(polder.ServiceName(gone(i))) },
		},
		{
			name:  "passed", // the first one brings the way out, and the table with it
			begin: func(int) error { return p.put(r.fleet.closed("way", polder.PassThrough)) },
			apply: closed("passed", polder.PassThrough),
		},
		{
			name: "refused", apply: closed("refused", polder.Refuse),
			want: func(i int) (string, string) { return refused(i) + "." + domain, accessDenied },
		},
		{
			name: "permitted", // those that were refused, all of them by now
			begin: func(changes int) error {
				services := make([]polder.Service, 2*changes)
				for i := range services {
					services[i] = r.fleet.closed(refused(i), polder.Refuse)
				}
				return p.put(services...)
			},
			apply: func(i int) error { return p.put(r.fleet.named(refused(i))) },
			want:  func(i int) (string, string) { return refused(i) + "." + domain, "first " + refused(i) },
		},
		{
			name: "shut", // those of the table
			begin: func(changes int) error {
				services := make([]polder.Service, changes)
				for i := range services {
					services[i] = r.fleet.named(shut(i))
				}
				if err := p.put(services...); err != nil {
					return err
				}
				p.apply(nil, nil, true)
				return nil
			},
			apply: func(i int) error { return p.put(r.fleet.closed(shut(i), polder.Refuse)) },
		},
		{
			name: "home", // of those in the table; the first one brings the way out
			begin: func(changes int) error {
				services := []polder.Service{r.fleet.anywhere("away")}
				p.homes["away"] = atPeer
				for i := range changes {
					services = append(services, r.fleet.anywhere(homely(i)))
				}
				if err := p.put(services...); err != nil {
					return err
				}
				p.apply(nil, nil, true)
				return nil
			},
			apply: func(i int) error {
				p.homes[polder.ServiceName(homely(i))] = atPeer
				return p.put(r.fleet.anywhere(homely(i)))
			},
		},
	}
}

// atPeer is a home in the other region.
var atPeer = law.Home{Peer: peer, Region: elsewhere}

// accessDenied is what callers hear of the alert for a host whose owner refuses them.
const accessDenied = "remote error: tls: access denied"

func refused(number int) string { return fmt.Sprintf("refused%06d", number) }
func shut(number int) string    { return fmt.Sprintf("shut%06d", number) }
func homely(number int) string  { return fmt.Sprintf("home%06d", number) }

// usualKinds are those that every control plane has.
func (r *rig) usualKinds() []kind {
	subject := r.fleet.service(0)
	subjectHost := string(subject.Hosts[0])
	return []kind{
		{
			name: "endpoints", host: subjectHost,
			apply: func(i int) error { return r.shape.putEndpoints(r.fleet.at(subject, i+1)) },
			want: func(i int) (string, string) {
				return subjectHost, []string{"second ", "first "}[i%2] + string(subject.Name)
			},
		},
		{
			name: "route", host: string(movingHost),
			apply: func(i int) error { return r.shape.put(r.fleet.moved(i + 1)...) },
			want: func(i int) (string, string) {
				return string(movingHost), []string{"first s000001", "first s000000"}[i%2]
			},
		},
		{
			name:  "host",
			apply: func(i int) error { return r.shape.put(r.fleet.named(newService(i))) },
			want: func(i int) (string, string) {
				return newService(i) + "." + domain, "first " + newService(i)
			},
		},
	}
}

func newService(number int) string { return fmt.Sprintf("new%06d", number) }

// changes measures one kind: first what changes cost while nobody calls, then
// how long they take to be seen.
func (r *rig) changes(ctx context.Context, k kind) (Change, error) {
	result := Change{Kind: k.name}
	number, err := r.cost(ctx, k, &result)
	if err != nil {
		return Change{}, err
	}
	if !k.seen() {
		return result, nil
	}
	if number%2 == 1 { // back to where it began
		if err := r.acknowledged(ctx, k, number); err != nil {
			return Change{}, err
		}
		number++
	}
	return result, r.effect(ctx, k, number, &result)
}

// cost makes changes one after the other, each acknowledged.
func (r *rig) cost(ctx context.Context, k kind, result *Change) (int, error) {
	if k.begin != nil {
		if err := k.begin(r.o.Changes + 2); err != nil {
			return 0, err
		}
		if err := r.settle(ctx); err != nil {
			return 0, err
		}
	}
	for number := range 2 { // the first ones are not counted
		if err := r.acknowledged(ctx, k, number); err != nil {
			return 0, err
		}
	}
	if err := pause(ctx, rest); err != nil {
		return 0, err
	}
	var toACK []time.Duration
	began := time.Now()
	bytes, down, own := r.wire.total(), r.wire.down.Load(), ownCPU()
	all, err := r.envoy.allCPU() // read around the main thread's, which it includes
	if err != nil {
		return 0, err
	}
	main, err := r.envoy.mainCPU()
	if err != nil {
		return 0, err
	}
	number := 2
	for len(toACK) < r.o.Changes && (len(toACK) < fewest || time.Since(began) < phaseLimit) {
		start := time.Now()
		if err := r.acknowledged(ctx, k, number); err != nil {
			return 0, err
		}
		toACK = append(toACK, time.Since(start))
		number++
	}
	own = ownCPU() - own
	if main, err = since(main, r.envoy.mainCPU); err != nil {
		return 0, err
	}
	if all, err = since(all, r.envoy.allCPU); err != nil {
		return 0, err
	}
	n := time.Duration(len(toACK))
	result.Count = len(toACK)
	result.ToACK = spread(toACK)
	result.Bytes = float64(r.wire.total()-bytes) / float64(n)
	result.BytesDown = float64(r.wire.down.Load()-down) / float64(n)
	result.CPU, result.EnvoyCPU, result.EnvoyAllCPU = own/n, main/n, all/n
	return number, nil
}

func since(before time.Duration, now func() (time.Duration, error)) (time.Duration, error) {
	after, err := now()
	return after - before, err
}

func (r *rig) acknowledged(ctx context.Context, k kind, number int) error {
	if err := k.apply(number); err != nil {
		return err
	}
	return r.settle(ctx)
}

func (r *rig) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, effectLimit)
	defer cancel()
	return r.shape.settled(ctx)
}

// effect makes changes and waits until callers see each.
func (r *rig) effect(ctx context.Context, k kind, number int, result *Change) error {
	var connections []*connection
	if k.host != "" {
		var err error
		if connections, err = r.callers.everyWorker(ctx, k.host); err != nil {
			return err
		}
		defer closeAll(connections)
	}
	if err := pause(ctx, rest); err != nil {
		return err
	}
	var toEffect []time.Duration
	began := time.Now()
	for len(toEffect) < r.o.Changes && (len(toEffect) < fewest || time.Since(began) < phaseLimit) {
		start, seen, err := r.seen(ctx, k, number, connections)
		if err != nil {
			return err
		}
		toEffect = append(toEffect, seen.Sub(start))
		number++
		if err := r.shape.settled(ctx); err != nil {
			return err
		}
	}
	result.ToEffect = spread(toEffect)
	return nil
}

// seen makes one change while callers ask.
func (r *rig) seen(ctx context.Context, k kind, number int, connections []*connection) (start, end time.Time, err error) {
	host, want := k.want(number)
	if k.host == "" {
		start = time.Now()
		if err := k.apply(number); err != nil {
			return start, end, err
		}
		end, err = r.callers.appears(ctx, host, want)
		return start, end, err
	}
	var failed error
	end, err = watch(ctx, connections, want, func() {
		start = time.Now()
		failed = k.apply(number)
	})
	if failed != nil {
		err = failed
	}
	return start, end, err
}

// spread sorts the times and takes quantiles.
func spread(times []time.Duration) Spread {
	slices.Sort(times)
	at := func(q float64) time.Duration { return times[min(len(times)-1, int(q*float64(len(times))))] }
	return Spread{P50: at(.5), P95: at(.95), Max: times[len(times)-1]}
}
