package cold

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Run measures everything that the options ask for. On an error it returns what
// was measured until then.
func Run(ctx context.Context, o Options) (Report, error) {
	r := Report{Processors: runtime.NumCPU(), LoadBefore: load(), Began: time.Now().UTC()}
	if err := o.prepare(); err != nil {
		return r, err
	}
	for _, stage := range stages {
		services := stage.services(o)
		if len(services) == 0 {
			continue
		}
		err := at(ctx, o, services, func(ctx context.Context, s *site) error { return stage.measure(ctx, s, o, &r) })
		if err != nil {
			return r, err
		}
	}
	r.LoadAfter = load()
	return r, nil
}

// stages are measured one after the other, each in a region of its own. Who needs
// no services is left out.
var stages = []struct {
	services func(Options) []service
	measure  func(context.Context, *site, Options, *Report) error
}{
	{startServices, starts}, {warmServices, warm}, {helloServices, hellos}, {burstServices, burst}, {manyServices, many}, {cycleServices, cycles},
}

// prepare makes paths absolute, and finds what is missing.
func (o *Options) prepare() error {
	if err := o.Validate(); err != nil {
		return err
	}
	for _, p := range []*string{&o.Samples, &o.Sleeper, &o.Tools} {
		absolute, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = absolute
	}
	var faults []error
	if _, err := os.Stat(o.Sleeper); err != nil {
		faults = append(faults, fmt.Errorf("the artificial program: %w; make bench-cold builds it, or name it with --sleeper", err))
	}
	for _, p := range programs(*o) {
		if !slices.Contains(o.Programs, p.name) || p.command[0] == o.Sleeper {
			continue
		}
		path := p.command[0]
		if strings.HasPrefix(path, "./") {
			path = filepath.Join(p.dir, path)
		}
		if _, err := exec.LookPath(path); err != nil {
			faults = append(faults, fmt.Errorf("program %s: %w; make samples builds the one in Go; leave others out with --programs", p.name, err))
		}
	}
	return errors.Join(faults...)
}

// startCopies are the services of each program, so that one is asleep again while
// the others are measured.
const startCopies = 2

func startName(program string, round int) string {
	return fmt.Sprintf("%s-%d", program, round%startCopies)
}

func startServices(o Options) (list []service) {
	for _, name := range o.Programs {
		for n := range startCopies {
			list = append(list, service{program: o.program(name), name: startName(name, n)})
		}
	}
	return list
}

// starts measures each program's bare and cold starts, in turn.
func starts(ctx context.Context, s *site, o Options, r *Report) error {
	clients := map[string]*http.Client{}
	for _, name := range s.services {
		clients[name] = s.Caller(s.address, false)
		defer clients[name].CloseIdleConnections()
		if _, err := s.call(ctx, clients[name], host(name)); err != nil { // opens the connection
			return fmt.Errorf("first call of %s: %w", name, err)
		}
	}
	samples := make([]startSamples, len(o.Programs))
	for round := range o.Rounds {
		for i, program := range o.Programs {
			name := startName(program, round)
			if err := samples[i].take(ctx, s, o.program(program), name, clients[name]); err != nil {
				return err
			}
		}
		if (round+1)%5 == 0 || round+1 == o.Rounds {
			o.progress("cold starts: round %d of %d", round+1, o.Rounds)
		}
	}
	for i, program := range o.Programs {
		r.Starts = append(r.Starts, samples[i].summary(program))
	}
	return nil
}

// startSamples are one program's.
type startSamples struct {
	bare, through, outside, warm []time.Duration
}

func (x *startSamples) take(ctx context.Context, s *site, p program, name string, client *http.Client) error {
	if err := s.Asleep(ctx, name); err != nil {
		return err
	}
	bare, err := p.bare(ctx)
	if err != nil {
		return err
	}
	before, err := s.totals(ctx, name)
	if err != nil {
		return err
	}
	answer, err := s.call(ctx, client, host(name))
	if err != nil {
		return fmt.Errorf("cold start of %s: %w", name, err)
	}
	if p.inherit { // its request never passes the activator, which could mark it
		after, err := s.totals(ctx, name)
		if err != nil {
			return err
		}
		answer.cold = after.Starts == before.Starts+1
	}
	warm, err := s.call(ctx, client, host(name))
	if err != nil {
		return fmt.Errorf("warm request of %s: %w", name, err)
	}
	// An inherited socket takes the request itself, and nobody calls it cold.
	if !answer.reused || !answer.cold && !p.inherit {
		return nil // it was awake, or the connection was lost: this is no sample
	}
	x.bare = append(x.bare, bare)
	x.through = append(x.through, answer.took)
	if answer.cold {
		x.outside = append(x.outside, answer.took-answer.start)
	}
	x.warm = append(x.warm, warm.took)
	return nil
}

func (x *startSamples) summary(name string) Start {
	start := Start{Program: name, Samples: len(x.bare), Bare: spread(x.bare), Through: spread(x.through), Outside: spread(x.outside), Warm: spread(x.warm)}
	start.Share = Spread{P50: start.Through.P50 - start.Bare.P50, P99: start.Through.P99 - start.Bare.P99}
	return start
}

// load is the machine's load average, in words.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
