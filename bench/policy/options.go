package policy

import (
	"errors"
	"fmt"
	"hash/fnv"
	"runtime"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
)

// Half says which functions of a trace take part.
type Half string

// The halves. Parameters that ship with the project were fitted on Fitted, so
// only HeldOut says what to expect elsewhere.
const (
	All     Half = "all"
	Fitted  Half = "fitted"
	HeldOut Half = "held-out"
)

// HalfOf tells the half of a function from its name: the parity of the 64-bit
// FNV-1a hash, even for Fitted.
func HalfOf(name string) Half {
	h := fnv.New64a()
	h.Write([]byte(name)) // never fails
	if h.Sum64()&1 == 0 {
		return Fitted
	}
	return HeldOut
}

// Options say what to simulate.
type Options struct {
	Trace   string // file in the format of Azure Functions 2019 or 2021; see loadtest/trace
	Weights string // file of weights; "" counts every function once
	Half    Half

	// From and To are the counted minutes: From ≤ m < To. What comes before
	// From warms up.
	From, To int

	// Thresholds are the chances of a call above which the predictor keeps an
	// instance; one point of the frontier each.
	Thresholds []float64
	// KeepAlives are the fixed keep-alives in minutes.
	KeepAlives []int

	// Concurrency and StartUp are those of instances in the simulation of single
	// calls, for a trace that has them.
	Concurrency int
	StartUp     time.Duration

	Prices  prewarm.Prices
	Memory  polder.Bytes // of one instance
	Workers int
}

// DefaultOptions returns the options of a run as FIELD defines it: the first
// half of a day warms up, the second counts. Trace is left to the caller.
func DefaultOptions() Options {
	return Options{
		Half:       All,
		From:       720,
		To:         1440,
		Thresholds: []float64{.3, .2, .15, .12, .1, .08, .06, .045, .03, .02, .015, .01, .007, .005, .003, .002},
		KeepAlives: []int{1, 2, 5, 10, 20, 60},
		Prices:     prewarm.Prices{Currency: "EUR", GiBSecond: 2_500},
		Memory:     256 << 20,
		Workers:    runtime.GOMAXPROCS(0), Concurrency: 1, StartUp: 500 * time.Millisecond,
	}
}

// Validate returns all faults of the options.
func (o Options) Validate() error {
	var faults []error
	add := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if o.Trace == "" {
		add("no trace is named: give a file of the Azure Functions 2019 or 2021 data set")
	}
	if !slices.Contains([]Half{All, Fitted, HeldOut}, o.Half) {
		add("functions %q: want %s, %s or %s", o.Half, All, Fitted, HeldOut)
	}
	if o.From < 0 || o.To <= o.From || o.To > maxMinutes {
		add("from minute %d to %d: want 0 <= from < to <= %d", o.From, o.To, maxMinutes)
	}
	for _, t := range o.Thresholds {
		if !(t > 0 && t <= 1) {
			add("threshold %g: want a chance above 0 and up to 1", t)
		}
	}
	for _, k := range o.KeepAlives {
		if k < 1 || k > maxMinutes {
			add("keep-alive of %d minutes: want 1 to %d", k, maxMinutes)
		}
	}
	if len(o.Thresholds)+len(o.KeepAlives) > maxPoints {
		add("%d thresholds and keep-alives: at most %d", len(o.Thresholds)+len(o.KeepAlives), maxPoints)
	}
	if o.Memory <= 0 {
		add("memory of %d bytes per instance: want more than 0", o.Memory)
	}
	if o.Concurrency < 1 || o.Concurrency > 100_000 {
		add("a concurrency of %d: want 1 to 100000", o.Concurrency)
	}
	if o.StartUp < 0 || o.StartUp > time.Minute {
		add("a start-up time of %s: want 0s to 1m", o.StartUp)
	}
	if o.Workers < 1 {
		add("%d workers: want at least 1", o.Workers)
	}
	return errors.Join(faults...)
}

const (
	maxMinutes = 1 << 16 // of a trace: 45 days
	maxPoints  = 256
)
