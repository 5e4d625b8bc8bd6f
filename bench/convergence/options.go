package convergence

import (
	"errors"
	"fmt"
	"runtime"
)

// Options say what to measure.
type Options struct {
	Services []int  // how many services, one point for each, ascending
	Changes  int    // of each kind and point, at most
	Workers  int    // of Envoy
	Usual    bool   // measure the usual shape as well
	Envoys   int    // fake ones of the fan-out; 0 leaves it out
	FanOut   int    // services of the fan-out
	Tools    string // folder in which `make envoy` puts Envoy

	// Progress is told what happens, a line each; nil tells nobody.
	Progress func(format string, values ...any)
}

// DefaultOptions are those of the published figures.
func DefaultOptions() Options {
	return Options{
		Services: []int{10, 100, 1_000, 10_000}, Changes: 100, Workers: min(2, runtime.NumCPU()),
		Usual: true, Envoys: 300, FanOut: 1_000, Tools: ".tools",
	}
}

// maxServices bounds the services of a point: ports and memory of one machine.
const maxServices = 100_000

// Validate returns all faults of the options.
func (o Options) Validate() error {
	var faults []error
	add := func(format string, values ...any) { faults = append(faults, fmt.Errorf(format, values...)) }
	if len(o.Services) == 0 {
		add("no number of services is given: want one or more")
	}
	for i, n := range o.Services {
		if n < 2 || n > maxServices {
			add("%d services: want 2 to %d", n, maxServices)
		}
		if i > 0 && n <= o.Services[i-1] {
			add("%d services after %d: want ascending numbers", n, o.Services[i-1])
		}
	}
	if o.Changes < 1 || o.Changes > 100_000 {
		add("%d changes: want 1 to 100000", o.Changes)
	}
	if o.Workers < 1 || o.Workers > 64 {
		add("%d workers: want 1 to 64", o.Workers)
	}
	if o.Envoys < 0 || o.Envoys > 2_000 {
		add("a fan-out to %d Envoys: want 0 to 2000", o.Envoys)
	}
	if o.Envoys > 0 && (o.FanOut < 1 || o.FanOut > maxServices) {
		add("a fan-out of %d services: want 1 to %d", o.FanOut, maxServices)
	}
	return errors.Join(faults...)
}

func (o Options) progress(format string, values ...any) {
	if o.Progress != nil {
		o.Progress(format, values...)
	}
}
