package convergence

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/gateway/envoy"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/load"
)

const (
	// coldLimit bounds the wait for an Envoy that starts with nothing.
	coldLimit = 5 * time.Minute
	// sampleSize is how many services of a cold start are asked for.
	sampleSize = 100
	// phaseLimit bounds the changes of one kind, in time.
	phaseLimit = 20 * time.Second
	// fewest changes are made even if they take longer.
	fewest = 5
	// rest is how long everything is left alone before a measurement.
	rest = 500 * time.Millisecond
)

// Run measures.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := o.Validate(); err != nil {
		return Report{}, fmt.Errorf("measure convergence: %w", err)
	}
	binary, err := envoy.Find(ctx, o.Tools, os.Getenv("PATH"))
	if err != nil {
		return Report{}, err
	}
	report := Report{Envoy: envoy.Version, Processors: runtime.NumCPU(), Workers: o.Workers, LoadBefore: loadAverage()}
	for _, n := range o.Services {
		kinds := []func(context.Context, *rig) (shape, error){makePolder}
		if o.Usual {
			kinds = append(kinds, makeUsual)
		}
		for _, make := range kinds {
			point, err := measure(ctx, o, binary, n, make)
			if err != nil {
				return Report{}, fmt.Errorf("measure %d services: %w", n, err)
			}
			report.Points = append(report.Points, point)
		}
	}
	if o.Envoys > 0 {
		if report.FanOut, err = fanOut(ctx, o); err != nil {
			return Report{}, fmt.Errorf("measure the fan-out: %w", err)
		}
	}
	report.LoadAfter = loadAverage()
	report.derive()
	return report, nil
}

// rig is what one point is measured on.
type rig struct {
	o          Options
	dir        string
	fleet      fleet
	entrypoint netip.AddrPort
	other      [2]netip.AddrPort
	pair       authority.Pair
	shape      shape
	wire       *wire
	envoy      *process
	callers    callers
}

func makePolder(_ context.Context, r *rig) (shape, error) {
	return newPolderShape(r.fleet.gateway, r.entrypoint, r.other, r.pair), nil
}

func makeUsual(ctx context.Context, r *rig) (shape, error) {
	return newUsualShape(ctx, r.fleet.gateway, r.entrypoint)
}

// measure makes one point: one shape with n services.
func measure(ctx context.Context, o Options, binary string, n int, make func(context.Context, *rig) (shape, error)) (point Point, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var origins errgroup.Group
	defer func() { cancel(); origins.Wait() }() //nolint:errcheck // ended by cancel
	r, err := newRig(ctx, o, &origins)
	if err != nil {
		return Point{}, err
	}
	defer os.RemoveAll(r.dir)
	services := r.fleet.services(n)
	heap := liveHeap()
	if r.shape, err = make(ctx, r); err != nil {
		return Point{}, err
	}
	began := time.Now()
	if err := r.shape.put(services...); err != nil {
		return Point{}, err
	}
	point = Point{Shape: r.shape.name(), Services: n, Translate: time.Since(began)}
	socket := filepath.Join(r.dir, "xds.sock")
	w, stop, err := serveControl(socket, r.shape.register, func(g *grpc.Server) { load.New(time.Second, func([]load.Report) {}).Register(g) })
	if err != nil {
		return Point{}, err
	}
	defer stop()
	r.wire = w
	admin := filepath.Join(r.dir, "admin.sock")
	bootstrap, err := xds.Bootstrap{Node: node, Region: region, ControlPlane: socket, Admin: admin, HeapLimit: 16 << 30}.JSON()
	if err != nil {
		return Point{}, err
	}
	if r.envoy, err = startEnvoy(binary, r.dir, bootstrap, admin, o.Workers); err != nil {
		return Point{}, err
	}
	defer func() {
		r.envoy.stop()
		if err != nil {
			err = fmt.Errorf("%s: %w; Envoy said: %s", point.Shape, err, r.envoy.said())
		}
	}()
	r.callers = callers{entrypoint: r.entrypoint, encrypted: r.shape.encrypted(), workers: o.Workers, envoy: r.envoy}
	if point.ColdStart, err = r.coldStart(ctx, services); err != nil {
		return Point{}, err
	}
	o.progress("%6d services, %s: an empty Envoy serves all after %s", n, point.Shape, point.ColdStart.Round(time.Millisecond))
	if err := pause(ctx, rest); err != nil {
		return Point{}, err
	}
	point.PolderBytes = liveHeap() - heap
	if point.EnvoyResident, err = r.envoy.resident(); err != nil {
		return Point{}, err
	}
	if point.EnvoyAllocated, err = r.envoy.allocated(ctx); err != nil {
		return Point{}, err
	}
	for _, kind := range r.kinds() {
		change, err := r.changes(ctx, kind)
		if err != nil {
			return Point{}, fmt.Errorf("change of %s: %w", kind.name, err)
		}
		point.Changes = append(point.Changes, change)
		o.progress("%6d services, %s: %-9s %3d changes, to ACK %6.2f ms, to effect %6.2f ms, %7.0f bytes, CPU %6.2f ms, Envoy's main thread %6.2f ms",
			n, point.Shape, kind.name, change.Count, ms(change.ToACK.P50), ms(change.ToEffect.P50), change.Bytes, ms(change.CPU), ms(change.EnvoyCPU))
	}
	if _, ok := r.shape.(*polderShape); ok {
		if point.Unknown, err = r.flood(ctx); err != nil {
			return Point{}, fmt.Errorf("names that nobody owns: %w", err)
		}
	}
	return point, nil
}

func newRig(ctx context.Context, o Options, origins *errgroup.Group) (*rig, error) {
	dir, err := os.MkdirTemp("", "polder-bench-")
	if err != nil {
		return nil, err
	}
	r := &rig{o: o, dir: dir}
	fail := func(err error) (*rig, error) { os.RemoveAll(dir); return nil, err }
	r.fleet.gateway = xds.Gateway{Region: region, Activator: filepath.Join(dir, "activator.sock")}
	for i, name := range []string{"first", "second"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fail(err)
		}
		r.fleet.origins[i] = netip.MustParseAddrPort(l.Addr().String())
		origins.Go(func() error { return serveOrigin(ctx, l, name) })
	}
	for _, port := range []*netip.AddrPort{&r.entrypoint, &r.other[0], &r.other[1]} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fail(err)
		}
		*port = netip.MustParseAddrPort(l.Addr().String())
		defer l.Close()
	}
	ca, err := authority.Open(filepath.Join(dir, "authority"))
	if err != nil {
		return fail(err)
	}
	issuer, err := ca.Issuer(region, filepath.Join(dir, "certificates"))
	if err != nil {
		return fail(err)
	}
	if r.pair, err = issuer.Leaf([]polder.Host{"*." + domain}); err != nil {
		return fail(err)
	}
	return r, nil
}

// coldStart waits until a sample of the services is served.
func (r *rig) coldStart(ctx context.Context, services []polder.Service) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, coldLimit)
	defer cancel()
	step := max(1, len(services)/sampleSize)
	for i := len(services) - 1; i >= 0; i -= step {
		host := string(services[i].Hosts[0])
		want := "first " + string(services[i].Name)
		for {
			got, err := r.callers.once(ctx, host)
			if err == nil && got == want {
				break
			}
			if err := pause(ctx, time.Millisecond); err != nil {
				return 0, fmt.Errorf("cold start: call %s: got %q %v: %w", host, got, err, ctx.Err())
			}
		}
	}
	return time.Since(r.envoy.started), nil
}

// liveHeap is what is reachable in this process, in bytes.
func liveHeap() int64 {
	debug.FreeOSMemory()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// loadAverage is that of the last minute, or "" where it cannot be read.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
