package cold

import (
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

// Warm compares Envoy's processor time for warm requests with a Polder that runs
// and with one that is stopped: medians of rounds, in turn.
type Warm struct {
	Requests int     `json:"requests"` // of a round
	With     int64   `json:"with_us"`
	Alone    int64   `json:"alone_us"`
	More     float64 `json:"more"` // With over Alone, less 1
}

// Hello compares a new connection's first answer with and without the wake-up
// at the ClientHello.
type Hello struct {
	Keys    string  `json:"keys"` // on-demand or resident
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
	Cold     uint64         `json:"cold"` // requests that waited for a start
	Starts   uint64         `json:"starts"`
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
		fmt.Fprintln(table, "warm requests\tEnvoy's processor time\twith a stopped Polder\tmore\t")
		fmt.Fprintf(table, "%d\t%s\t%s\t%.1f %%\t\n\n", w.Requests, ms(w.With), ms(w.Alone), 100*w.More)
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
		fmt.Fprintln(table, "crowd\tanswered\tfailed\tcold\tstarts\tcrashes\ttook\t")
		for _, c := range r.Crowds {
			fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t\n", c.Name, c.Answered, c.Failed, c.Cold, c.Starts, c.Crashes, both(c.Took))
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
