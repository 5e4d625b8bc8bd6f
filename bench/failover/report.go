package failover

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Report is what was measured. Times are in milliseconds.
type Report struct {
	Began      time.Time `json:"began"`
	Processors int       `json:"processors"`
	LoadBefore string    `json:"load_before"` // load average of the machine
	LoadAfter  string    `json:"load_after"`
	Peers      int       `json:"peers"` // of each region
	Losses     []Loss    `json:"losses"`
	Drains     []Drain   `json:"drains,omitempty"`
	Rest       Traffic   `json:"rest"`
	Sizes      []Size    `json:"sizes,omitempty"` // of memberships, simulated
}

// Loss is one kind of loss, and what callers of a service felt that may also run
// elsewhere, at a gateway that lives.
type Loss struct {
	Name   string  `json:"name"`
	Rounds []Round `json:"rounds"`
}

// Round is one loss.
type Round struct {
	Calls     int     `json:"calls"`
	Errors    int     `json:"errors"`
	LastError int64   `json:"last_error_ms"` // from the loss to the end of the last call that failed; 0 without one
	Slowest   int64   `json:"slowest_ms"`    // of those that were answered
	Moved     int64   `json:"moved_ms"`      // from the loss to the first answer from another region; 0 when it did not come to that
	Reasons   []Count `json:"reasons,omitempty"`
	Points    []Point `json:"points"` // calls around the loss, for the plot
}

// Count is how often callers got an error.
type Count struct {
	Error string `json:"error"`
	N     int    `json:"n"`
}

// Point is one call: when it left, counted from the loss, and how long it took.
type Point struct {
	At     int64 `json:"at_ms"`
	Took   int64 `json:"took_ms"`
	Failed bool  `json:"failed"`
}

// Drain is one region or peer that was drained under load.
type Drain struct {
	What   string `json:"what"`
	Took   int64  `json:"took_ms"`
	Calls  int    `json:"calls"`
	Errors int    `json:"errors"`
}

// Traffic is what the membership sends while nothing happens, each peer.
type Traffic struct {
	Seconds float64 `json:"seconds"` // of observation
	Bytes   float64 `json:"bytes_per_second"`
	Packets float64 `json:"packets_per_second"`
}

// Size is what the simulation says of a membership of so many peers. Times are in
// seconds of the simulation.
type Size struct {
	Peers   int     `json:"peers"`
	Meet    float64 `json:"meet_s"`    // all start at once → all see all
	Spread  float64 `json:"spread_s"`  // a row changes → the last one has it
	Slowest float64 `json:"slowest_s"` // of these
	Death   float64 `json:"death_s"`   // one dies → the last one knows
	Bytes   float64 `json:"bytes_per_second"`
	Packets float64 `json:"packets_per_second"`
}

func milliseconds(d time.Duration) int64 { return d.Milliseconds() }

// middle and most sum rounds up.
func middle(rounds []Round, of func(Round) int64) int64 {
	values := make([]int64, len(rounds))
	for i, r := range rounds {
		values[i] = of(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func most(rounds []Round, of func(Round) int64) int64 {
	top := int64(0)
	for _, r := range rounds {
		top = max(top, of(r))
	}
	return top
}

// WriteText writes the report for people.
func (r Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%d processors, load average %s before and %s after; 3 regions of %d peers; times in ms, median/most\n\n", r.Processors, r.LoadBefore, r.LoadAfter, r.Peers)
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	if len(r.Losses) > 0 {
		fmt.Fprintln(table, "lost\trounds\tcalls\terrors\tlast error after\tanswered elsewhere after\tslowest answer\t")
	}
	for _, l := range r.Losses {
		calls, errors := 0, 0
		for _, round := range l.Rounds {
			calls, errors = calls+round.Calls, errors+round.Errors
		}
		both := func(of func(Round) int64) string {
			return fmt.Sprintf("%d/%d", middle(l.Rounds, of), most(l.Rounds, of))
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%s\t%s\t%s\t\n", l.Name, len(l.Rounds), calls, errors,
			both(func(r Round) int64 { return r.LastError }), both(func(r Round) int64 { return r.Moved }), both(func(r Round) int64 { return r.Slowest }))
	}
	if len(r.Drains) > 0 {
		fmt.Fprintln(table, "\ndrained\ttook\tcalls\terrors\t")
	}
	for _, d := range r.Drains {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t\n", d.What, d.Took, d.Calls, d.Errors)
	}
	fmt.Fprintf(table, "\nat rest, each peer\t%.0f B/s\t%.1f packets/s\t\n", r.Rest.Bytes, r.Rest.Packets)
	if len(r.Sizes) > 0 {
		fmt.Fprintln(table, "\nsimulated peers\tmeet\tchange everywhere\tslowest\tdeath everywhere\tB/s each\tpackets/s each\t")
	}
	for _, s := range r.Sizes {
		fmt.Fprintf(table, "%d\t%.1f s\t%.1f s\t%.1f s\t%.1f s\t%.0f\t%.1f\t\n", s.Peers, s.Meet, s.Spread, s.Slowest, s.Death, s.Bytes, s.Packets)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, l := range r.Losses {
		for i, round := range l.Rounds {
			for _, c := range round.Reasons {
				fmt.Fprintf(w, "%s, round %d: %d times: %s\n", l.Name, i+1, c.N, c.Error)
			}
		}
	}
	return nil
}
