package live

import (
	"errors"
	"fmt"
	"time"

	"github.com/polder/polder/gateway"
)

// Options say what to replay, and how fast.
type Options struct {
	Trace     string // file in the format of Azure Functions 2019 or 2021; "" makes a synthetic one
	Weights   string // file of weights; "" counts every function once
	Functions int    // how many of the trace's
	Seed      uint64 // of their choice, and of a synthetic trace
	MaxRate   float64

	From, To  int           // counted minutes of the trace: From ≤ m < To
	LeadIn    int           // minutes before From that are played
	KeepAlive time.Duration // of the policy beside auto
	Calls     int           // at most, of one slot
	Speed     float64       // minutes of the trace in a minute
	Regions   int           // that share the functions

	Within float64 // largest difference between both cold shares, relative to the simulator's

	Polder  string // path of the polder command
	Sleeper string // path of the program that instances run
	Tools   string // folder in which make envoy puts Envoy

	// Progress is told what happens, a line each; nil tells nobody.
	Progress func(format string, values ...any)
}

// DefaultOptions are those of the published figures. Polder and Trace are left to
// the caller.
func DefaultOptions() Options {
	return Options{
		Functions: 60, Seed: 1, MaxRate: 1, From: 720, To: 840, LeadIn: 30, KeepAlive: 10 * time.Minute, Calls: 3, Speed: 30, Regions: 3,
		Within: 0.1, Sleeper: "bin/sleeper", Tools: ".tools",
	}
}

// places are the regions of the benchmark.
var places = []struct{ name, settings string }{
	{"fr", "{ jurisdiction: [FR, EU], location: [48.86, 2.35] }"},
	{"nl", "{ jurisdiction: [NL, EU], location: [52.37, 4.90] }"},
	{"pl", "{ jurisdiction: [PL, EU], location: [52.23, 21.01] }"},
}

const (
	maxFunctions = 500     // two services each, on one machine
	maxMinutes   = 1 << 16 // 45 days
	maxCalls     = 20      // of a slot: its second half must hold them
)

// Validate returns all faults of the options.
func (o Options) Validate() error {
	var faults []error
	within := func(what string, n, least, most int) {
		if n < least || n > most {
			faults = append(faults, fmt.Errorf("%d %s: want %d to %d", n, what, least, most))
		}
	}
	within("functions", o.Functions, 1, maxFunctions)
	within("regions", o.Regions, 1, len(places))
	within("calls of a slot", o.Calls, 1, maxCalls)
	within("minutes of lead-in", o.LeadIn, 0, o.From)
	if o.From < 0 || o.To <= o.From || o.To > maxMinutes {
		faults = append(faults, fmt.Errorf("from minute %d to %d: want 0 <= from < to <= %d", o.From, o.To, maxMinutes))
	}
	if o.KeepAlive < time.Minute || o.KeepAlive > 24*time.Hour {
		faults = append(faults, fmt.Errorf("keep-alive of %s: want 1m to 24h", o.KeepAlive))
	}
	if time.Duration(o.LeadIn)*time.Minute < o.KeepAlive {
		faults = append(faults, fmt.Errorf("%d minutes of lead-in: want at least the keep-alive, %s, since the regions begin without an instance", o.LeadIn, o.KeepAlive))
	}
	if !(o.Speed >= 1 && o.Speed <= gateway.MaxSpeed) {
		faults = append(faults, fmt.Errorf("a speed of %g: want 1 to %d", o.Speed, gateway.MaxSpeed))
	}
	if !(o.Within > 0) {
		faults = append(faults, fmt.Errorf("within %g: want more than 0", o.Within))
	}
	if !(o.MaxRate >= 0) {
		faults = append(faults, fmt.Errorf("a rate of %g calls a minute: want 0, for no limit, or more", o.MaxRate))
	}
	return errors.Join(faults...)
}

func (o Options) progress(format string, values ...any) {
	if o.Progress != nil {
		o.Progress(format, values...)
	}
}
