package live

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"
)

// Report sets what was measured beside what the simulator says.
type Report struct {
	Began      time.Time `json:"began"`
	Processors int       `json:"processors"`
	Trace      string    `json:"trace"` // "synthetic" for a made-up one
	Weights    string    `json:"weights,omitempty"`
	Functions  int       `json:"functions"`
	Regions    int       `json:"regions"`
	From       int       `json:"from"` // counted minutes
	To         int       `json:"to"`
	LeadIn     int       `json:"lead_in"`
	Speed      float64   `json:"speed"`
	Policies   []Policy  `json:"policies"`

	Calls    int      `json:"calls"`         // all that were made, also in the lead-in
	Cold     int      `json:"cold_calls"`    // of these, that found no warm instance, as their callers saw
	Counted  uint64   `json:"cold_counted"`  // the same, as the regions count
	Late     int      `json:"late_calls"`    // by more than a tenth of a slot
	Failed   int      `json:"failed_calls"`  // not answered with 200
	Faults   []string `json:"faults"`        // of the first that failed of some services
	Reopened int      `json:"reopened"`      // connections, whose ClientHello may have woken a service
	Wanted   float64  `json:"wanted_within"` // largest relative difference of the cold shares
	Within   bool     `json:"within"`        // no policy is further apart
	Seconds  float64  `json:"seconds_played"`
}

// Policy is one policy over all functions, in the counted minutes.
type Policy struct {
	Policy    string `json:"policy"`
	Active    int    `json:"active_minutes"` // of all functions, with calls
	Simulated Share  `json:"simulated"`
	Measured  Share  `json:"measured"`

	Both          int     `json:"cold_in_both"`
	OnlySimulated int     `json:"cold_only_simulated"`
	OnlyMeasured  int     `json:"cold_only_measured"`
	Difference    float64 `json:"difference"` // of the measured share, relative to the simulated one
	Within        bool    `json:"within"`

	// SimulatedBy and MeasuredBy count the cold minutes of all functions up to
	// each counted minute.
	SimulatedBy []int `json:"simulated_by"`
	MeasuredBy  []int `json:"measured_by"`
}

// Share is cold minutes, and their share of the active ones.
type Share struct {
	Cold  int     `json:"cold_minutes"`
	Share float64 `json:"cold"`
}

// maxFaults bounds the faults that a report tells.
const maxFaults = 10

func newReport(o Options, list []part, p played) Report {
	r := Report{
		Trace: o.Trace, Weights: o.Weights, Functions: len(list) / len(policies(o)), Regions: o.Regions,
		From: o.From, To: o.To, LeadIn: o.LeadIn, Speed: o.Speed, Counted: p.counted, Wanted: o.Within, Within: true,
		Seconds: float64(o.To-o.first()) * 60 / o.Speed, Faults: []string{},
	}
	if r.Trace == "" {
		r.Trace = "synthetic"
	}
	for _, k := range policies(o) {
		r.Policies = append(r.Policies, Policy{Policy: k.name, SimulatedBy: make([]int, o.To-o.From), MeasuredBy: make([]int, o.To-o.From)})
	}
	for i, part := range list {
		out := p.outcomes[i]
		r.Calls, r.Cold, r.Late, r.Failed, r.Reopened = r.Calls+out.calls, r.Cold+out.colds, r.Late+out.late, r.Failed+out.failed, r.Reopened+out.reopened
		if out.fault != nil && len(r.Faults) < maxFaults {
			r.Faults = append(r.Faults, out.fault.Error())
		}
		for m := o.From; m < o.To; m++ {
			if part.counts[m] > 0 {
				r.Policies[part.policy].count(m-o.From, !part.warm[m], out.cold[m-o.first()])
			}
		}
	}
	for i := range r.Policies {
		r.Policies[i].close(o.Within)
		r.Within = r.Within && r.Policies[i].Within
	}
	return r
}

// count takes in an active minute.
func (p *Policy) count(minute int, simulated, measured bool) {
	p.Active++
	if simulated {
		p.SimulatedBy[minute]++
	}
	if measured {
		p.MeasuredBy[minute]++
	}
	switch {
	case simulated && measured:
		p.Both++
	case simulated:
		p.OnlySimulated++
	case measured:
		p.OnlyMeasured++
	}
}

// close sums up. Shares are within the bound if they differ by no more than that
// part of the simulated one, or by a single minute: with few cold minutes one is
// more than the bound.
func (p *Policy) close(within float64) {
	sum := func(by []int) {
		for i := 1; i < len(by); i++ {
			by[i] += by[i-1]
		}
	}
	sum(p.SimulatedBy)
	sum(p.MeasuredBy)
	p.Simulated.Cold, p.Measured.Cold = p.Both+p.OnlySimulated, p.Both+p.OnlyMeasured
	if p.Active > 0 {
		p.Simulated.Share = float64(p.Simulated.Cold) / float64(p.Active)
		p.Measured.Share = float64(p.Measured.Cold) / float64(p.Active)
	}
	apart := math.Abs(float64(p.Measured.Cold - p.Simulated.Cold))
	if p.Simulated.Cold > 0 {
		p.Difference = float64(p.Measured.Cold)/float64(p.Simulated.Cold) - 1
	}
	p.Within = apart <= max(1, within*float64(p.Simulated.Cold))
}

// WriteText writes the report for people.
func (r Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s: %d functions in %d regions, minutes %d to %d after %d of lead-in, %g times as fast as they were (%.0f s)\n\n",
		r.Trace, r.Functions, r.Regions, r.From, r.To, r.LeadIn, r.Speed, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "policy\tactive minutes\tcold, simulated\tcold, measured\tsimulated %\tmeasured %\tdifference\tin both\tonly simulated\tonly measured\t")
	for _, p := range r.Policies {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.3f\t%.3f\t%+.1f %%\t%d\t%d\t%d\t\n", p.Policy, p.Active, p.Simulated.Cold, p.Measured.Cold,
			100*p.Simulated.Share, 100*p.Measured.Share, 100*p.Difference, p.Both, p.OnlySimulated, p.OnlyMeasured)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%d calls, %d of them cold as callers saw and %d as the regions count; %d late by more than a tenth of a slot, %d connections reopened, %d calls failed\n",
		r.Calls, r.Cold, r.Counted, r.Late, r.Reopened, r.Failed)
	for _, f := range r.Faults {
		fmt.Fprintf(w, "  %s\n", f)
	}
	verdict := "within"
	if !r.Within {
		verdict = "NOT within"
	}
	_, err := fmt.Fprintf(w, "measured cold shares are %s %.0f %% of the simulated ones\n", verdict, 100*r.Wanted)
	return err
}
