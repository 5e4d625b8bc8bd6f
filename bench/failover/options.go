package failover

import (
	"errors"
	"fmt"
)

// Options say what to measure. Begin with DefaultOptions.
type Options struct {
	Polder  string  // path of the command
	Tools   string  // folder with Envoy
	Samples string  // folder of the sample services, built
	Peers   int     // of each region, in [1, 9]
	Rounds  int     // of each loss, in [1, 100]
	Rate    float64 // calls a second through one gateway, in (0, 1000]
	Gossip  string  // file with what the membership's benchmark printed; "" for none
	// Progress is told of what is done; never nil.
	Progress func(format string, values ...any)
}

// DefaultOptions are two peers in each region, and three rounds. Polder is still
// to be set.
func DefaultOptions() Options {
	return Options{Tools: ".tools", Samples: "examples", Peers: 2, Rounds: 3, Rate: 50, Progress: func(string, ...any) {}}
}

// Validate reports all that is wrong with the options.
func (o Options) Validate() error {
	var faults []error
	if o.Peers < 1 || o.Peers > 9 {
		faults = append(faults, fmt.Errorf("--peers is %d, want 1 to 9", o.Peers))
	}
	if o.Rounds < 1 || o.Rounds > 100 {
		faults = append(faults, fmt.Errorf("--rounds is %d, want 1 to 100", o.Rounds))
	}
	if !(o.Rate > 0 && o.Rate <= 1000) {
		faults = append(faults, fmt.Errorf("--rate is %v, want more than 0 and at most 1000", o.Rate))
	}
	return errors.Join(faults...)
}
