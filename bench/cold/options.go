package cold

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Options say what to measure.
type Options struct {
	Rounds   int             // cold starts of each program
	Programs []string        // which, of Programs
	RTTs     []time.Duration // distances of the caller, for the ClientHello
	Hellos   int             // connections at each distance, with and without the wake-up
	Callers  int             // of one sleeper at once; 0 leaves them out
	Sleepers int             // called at once; 0 leaves them out
	Warm     int             // warm requests through each of two Envoys, for their processor time; 0 leaves them out
	Cycles   int             // of sleep and wake under load, in all; 0 leaves them out

	Polder  string // path of the polder command
	Samples string // folder of the sample services
	Sleeper string // path of the artificial program
	Tools   string // folder in which `make envoy` puts Envoy

	// Progress is told what happens, a line each; nil tells nobody.
	Progress func(format string, values ...any)
}

// DefaultOptions are those of the published figures. Polder is left to the caller.
func DefaultOptions() Options {
	return Options{
		Rounds: 30, Programs: Programs(), RTTs: []time.Duration{0, 20 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond},
		Hellos: 10, Callers: 1000, Sleepers: 1000, Cycles: 1000, Warm: 25_000, Samples: "examples", Sleeper: "bin/sleeper", Tools: ".tools",
	}
}

// Validate returns all faults of the options.
func (o Options) Validate() error {
	var faults []error
	within := func(what string, n, least, most int) {
		if n < least || n > most {
			faults = append(faults, fmt.Errorf("%d %s: want %d to %d", n, what, least, most))
		}
	}
	within("rounds", o.Rounds, 1, 10_000)
	within("hellos", o.Hellos, 1, 10_000)
	within("callers", o.Callers, 0, 10_000)
	within("sleepers", o.Sleepers, 0, 1_000)
	within("warm requests", o.Warm, 0, 1_000_000)
	within("cycles", o.Cycles, 0, 100_000)
	for _, p := range o.Programs {
		if !slices.Contains(Programs(), p) {
			faults = append(faults, fmt.Errorf("there is no program %q: there are %s", p, strings.Join(Programs(), ", ")))
		}
	}
	for _, rtt := range o.RTTs {
		if rtt < 0 || rtt > 2*time.Second {
			faults = append(faults, fmt.Errorf("a round trip of %s: want 0s to 2s", rtt))
		}
	}
	return errors.Join(faults...)
}

func (o Options) progress(format string, values ...any) {
	if o.Progress != nil {
		o.Progress(format, values...)
	}
}
