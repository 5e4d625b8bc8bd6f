package cold

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// Report is what was measured. Times are in microseconds.
type Report struct {
	Began      time.Time `json:"began"`
	Processors int       `json:"processors"`
	LoadBefore string    `json:"load_before"` // load average of the machine
	LoadAfter  string    `json:"load_after"`
	Starts     []Start   `json:"starts"`
	Warm       *Warm     `json:"warm,omitempty"`
	Hellos     []Hello   `json:"hellos"`
	Crowds     []Crowd   `json:"crowds"`
}

// Spread is how samples lie: nearest-rank quantiles.
type Spread struct {
	P50 int64 `json:"p50_us"`
	P99 int64 `json:"p99_us"`
}

// Start compares a program's bare start to its first 200 with the first request
// of the sleeping service.
type Start struct {
	Program string `json:"program"`
	Samples int    `json:"samples"`
	Bare    Spread `json:"bare"`    // start → first 200
	Through Spread `json:"through"` // request → answer, through Envoy and Polder
	Share   Spread `json:"share"`   // Through less Bare, quantile by quantile
	Outside Spread `json:"outside"` // of each request: its time less that from asking the provider to ready
	Warm    Spread `json:"warm"`    // the next request, through Envoy alone
}

// Warm compares Envoy's processor time for warm requests with that of a bare
// Envoy: the same listener, routes and cluster, told by a file, and no control
// plane. The two take turns.
type Warm struct {
	Requests int     `json:"requests"`  // through each, in all
	Polder   int64   `json:"polder_ns"` // processor time of one request, the median turn
	Bare     int64   `json:"bare_ns"`
	More     float64 `json:"more"` // the median turn's, over the bare one's beside it, less 1
	From     float64 `json:"from"` // 95 % confidence interval of More
	To       float64 `json:"to"`
	Turns    []Turn  `json:"turns"`
}

// Turn is the processor time of some requests through each Envoy, one after the
// other, in nanoseconds for one request.
type Turn struct {
	Polder int64 `json:"polder_ns"`
	Bare   int64 `json:"bare_ns"`
}

// Hello compares a new connection's first answer with and without the wake-up
// at the ClientHello.
type Hello struct {
	Keys    string  `json:"keys"` // keysOnDemand or keysResident
	RTT     int64   `json:"rtt_us"`
	Samples int     `json:"samples"` // of each
	With    Spread  `json:"with"`
	Without Spread  `json:"without"`
	Hidden  int64   `json:"hidden_us"` // Without less With, at the median
	Share   float64 `json:"share"`     // of what the round trip could hide; 0 without a round trip
}

// Crowd is what many callers saw.
type Crowd struct {
	Name     string         `json:"name"`
	Services int            `json:"services"`
	Answered int            `json:"answered"`
	Failed   int            `json:"failed"`
	Errors   map[string]int `json:"errors,omitempty"`
	Took     Spread         `json:"took"`
	Cold     uint64         `json:"cold"`   // requests that waited for a start
	Wakes    uint64         `json:"wakes"`  // times that somebody came and the service slept; for inherited sockets at most so many
	Starts   uint64         `json:"starts"` // one for each of these, however many came
	Crashes  uint64         `json:"crashes"`
}

// spread sorts the samples.
func spread(samples []time.Duration) Spread {
	if len(samples) == 0 {
		return Spread{}
	}
	slices.Sort(samples)
	rank := func(percent int) int64 { return microseconds(samples[(percent*len(samples)+99)/100-1]) }
	return Spread{rank(50), rank(99)}
}

func microseconds(d time.Duration) int64 { return d.Microseconds() }

func ms(us int64) string { return fmt.Sprintf("%.1f", float64(us)/1000) }

// Failed counts the requests that were not answered with 200.
func (r Report) Failed() int {
	n := 0
	for _, c := range r.Crowds {
		n += c.Failed
	}
	return n
}

// Faults are what no machine is too slow for: errors that callers got, and starts
// that nobody waited for.
func (r Report) Faults() error {
	var faults []error
	if n := r.Failed(); n > 0 {
		faults = append(faults, fmt.Errorf("%d requests were not answered as they should", n))
	}
	for _, c := range r.Crowds {
		if c.Starts > c.Wakes {
			faults = append(faults, fmt.Errorf("%s: %d starts for %d wake-ups", c.Name, c.Starts, c.Wakes))
		}
	}
	return errors.Join(faults...)
}

// WriteText writes the report for people.
func (r Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%d processors, load average %s before and %s after; times in ms, p50/p99\n\n", r.Processors, r.LoadBefore, r.LoadAfter)
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	both := func(s Spread) string { return ms(s.P50) + "/" + ms(s.P99) }
	if len(r.Starts) > 0 {
		fmt.Fprintln(table, "program\tn\tbare start\tcold request\tPolder's share\toutside the start\twarm request\t")
		for _, s := range r.Starts {
			fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t\n", s.Program, s.Samples, both(s.Bare), both(s.Through), both(s.Share), both(s.Outside), both(s.Warm))
		}
		fmt.Fprintln(table)
	}
	if w := r.Warm; w != nil {
		us := func(ns int64) string { return fmt.Sprintf("%.1f", float64(ns)/1000) }
		fmt.Fprintln(table, "warm requests\tturns\tprocessor time of Envoy, µs\tof a bare one, µs\tmore\t95 % confidence\t")
		fmt.Fprintf(table, "%d\t%d\t%s\t%s\t%.1f %%\t%.1f to %.1f %%\t\n\n", w.Requests, len(w.Turns), us(w.Polder), us(w.Bare), 100*w.More, 100*w.From, 100*w.To)
	}
	if len(r.Hellos) > 0 {
		fmt.Fprintln(table, "keys\tround trip\tn\twoken by the request\tby the ClientHello\thidden\tof what could be\t")
		for _, h := range r.Hellos {
			share := "-"
			if h.RTT > 0 {
				share = fmt.Sprintf("%.0f %%", 100*h.Share)
			}
			fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t\n", h.Keys, ms(h.RTT), h.Samples, both(h.Without), both(h.With), ms(h.Hidden), share)
		}
		fmt.Fprintln(table)
	}
	if len(r.Crowds) > 0 {
		fmt.Fprintln(table, "crowd\tanswered\tfailed\tcold\twake-ups\tstarts\tcrashes\ttook\t")
		for _, c := range r.Crowds {
			fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t\n", c.Name, c.Answered, c.Failed, c.Cold, c.Wakes, c.Starts, c.Crashes, both(c.Took))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, c := range r.Crowds {
		for _, e := range slices.Sorted(maps.Keys(c.Errors)) {
			fmt.Fprintf(w, "%s: %d times: %s\n", c.Name, c.Errors[e], e)
		}
	}
	return nil
}
