package policy

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/polder/polder/prewarm"
)

// Report is the outcome of a run; its JSON is stable enough to compare two.
type Report struct {
	Trace     string   `json:"trace"`
	Weights   string   `json:"weights,omitempty"`
	Half      Half     `json:"half"`
	From      int      `json:"from"`
	To        int      `json:"to"`
	Functions int      `json:"functions"`
	Active    float64  `json:"active_minutes"`     // counted, weighted
	Calls     float64  `json:"calls"`              // counted, weighted
	Reference float64  `json:"reference_minutes"`  // idle warm minutes of the keep-alive of ten minutes
	Seconds   float64  `json:"seconds,omitempty"`  // that the simulation took
	Currency  string   `json:"currency,omitempty"` // of Euros
	Points    []Point  `json:"points"`
	Singles   *Singles `json:"singles,omitempty"` // of a trace of single calls
}

// Point is one policy at one setting.
type Point struct {
	Policy  string `json:"policy"`
	Setting string `json:"setting"`
	Score
	Regular   Score `json:"regular"`   // functions of which three quarters of the gaps are equal
	Irregular Score `json:"irregular"` // the others
}

// Score is what a policy reached. Shares are between 0 and 1.
type Score struct {
	Functions      float64 `json:"functions"`
	Waste          float64 `json:"waste"`               // relative to a keep-alive of ten minutes, on all functions
	Cold           float64 `json:"cold"`                // of active minutes
	ColdMean       float64 `json:"cold_mean"`           // over functions
	ColdP75        float64 `json:"cold_p75"`            // over functions
	ColdInvocation float64 `json:"cold_per_invocation"` // of calls
	Loads          float64 `json:"loads_per_active_minute"`
	LoadsPerCall   float64 `json:"loads_per_call"`
	Euros          float64 `json:"euros"` // of warm and active minutes
}

// totals adds results up.
type totals struct {
	families  []family
	sums      [][][classes]sum // by family and setting
	greedySum [][classes]sum   // by room
	spells    []*spell
	functions int
}

func newTotals(all []family) *totals {
	t := &totals{families: all, greedySum: make([][classes]sum, len(greedyRooms))}
	for _, f := range all {
		t.sums = append(t.sums, make([][classes]sum, len(f.settings)))
	}
	return t
}

func (t *totals) add(r result, weight float64) {
	for f, tallies := range r.tallies {
		for s := range tallies {
			t.sums[f][s][r.class].add(tallies[s], weight)
		}
	}
	r.spell.index, r.spell.weight, r.spell.class = t.functions, weight, r.class
	t.spells = append(t.spells, r.spell)
	t.functions++
}

func (t *totals) greedy(ctx context.Context, o Options) error {
	for i, room := range greedyRooms {
		err := greedyDual(ctx, t.spells, room, o.From, o.To, func(s *spell) {
			t.greedySum[i][s.class].add(s.tally, s.weight)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *totals) report(o Options, took time.Duration) Report {
	reference := merge(t.sums[0][0])
	r := Report{
		Trace: o.Trace, Weights: o.Weights, Half: o.Half, From: o.From, To: o.To,
		Functions: t.functions, Active: reference.active, Calls: reference.calls, Reference: reference.idle,
		Seconds: took.Seconds(), Currency: o.Prices.Currency,
	}
	point := func(policy, setting string, s [classes]sum) {
		all := merge(s)
		r.Points = append(r.Points, Point{
			Policy: policy, Setting: setting,
			Score:   all.score(o, reference.idle),
			Regular: s[regular].score(o, reference.idle), Irregular: s[irregular].score(o, reference.idle),
		})
	}
	for f := 1; f < len(t.families); f++ { // 0 is the reference alone
		for s, setting := range t.families[f].settings {
			point(t.families[f].name, setting, t.sums[f][s])
		}
	}
	for i, room := range greedyRooms {
		point("greedy-dual", greedyName(room), t.greedySum[i])
	}
	return r
}

func merge(s [classes]sum) sum {
	all := sum{}
	for _, c := range s {
		all.active += c.active
		all.cold += c.cold
		all.idle += c.idle
		all.loads += c.loads
		all.calls += c.calls
		all.functions += c.functions
		all.shares = append(all.shares, c.shares...)
	}
	return all
}

func (s *sum) score(o Options, reference float64) Score {
	perMinute := o.Prices.Warm(prewarm.Footprint{Memory: o.Memory}, time.Minute)
	warm := s.idle + s.active // a cold slot has an instance too, once it is started
	return Score{
		Functions: s.functions, Waste: ratio(s.idle, reference),
		Cold: ratio(s.cold, s.active), ColdMean: s.mean(), ColdP75: s.quantile(.75), ColdInvocation: ratio(s.cold, s.calls),
		Loads: ratio(s.loads, s.active), LoadsPerCall: ratio(s.loads, s.calls),
		Euros: warm * float64(perMinute) / 1e9,
	}
}

// WriteText writes the report as a table, without the settings that others of the
// same policy beat.
func (r Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s: %d functions (%s), minutes %d to %d, %.0f active; waste 1.00 is %.0f idle warm minutes; %.1f s\n\n",
		r.Trace, r.Functions, r.Half, r.From, r.To, r.Active, r.Reference, r.Seconds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "policy\tsetting\twaste\tcold %%\tmean %%\tp75 %%\tper call %%\tloads/active\tloads/call\t%s\tregular %%\tirregular %%\t\n", r.Currency)
	left := 0
	for _, p := range r.Points {
		if r.beaten(p) {
			left++
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%.3f\t%.3f\t%.2f\t%.2f\t%.4f\t%.4f\t%.6f\t%.2f\t%.3f\t%.3f\t\n", p.Policy, p.Setting, p.Waste,
			100*p.Cold, 100*p.ColdMean, 100*p.ColdP75, 100*p.ColdInvocation, p.Loads, p.LoadsPerCall, p.Euros,
			100*p.Regular.Cold, 100*p.Irregular.Cold)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if left > 0 {
		fmt.Fprintf(w, "\n%d settings are left out, each beaten by another of its policy in waste and cold share; --output json has them all\n", left)
	}
	if r.Singles == nil {
		return nil
	}
	return r.Singles.writeText(w, r.Currency)
}

// beaten tells whether another setting of the point's policy is better in waste or
// cold share, and worse in neither; where loads are counted, loads included.
func (r Report) beaten(p Point) bool {
	return slices.ContainsFunc(r.Points, func(q Point) bool {
		loads := sign(q.Loads - p.Loads)
		if p.Policy != countsLoads {
			loads = 0
		}
		return q.Policy == p.Policy && q.Waste <= p.Waste && q.Cold <= p.Cold && loads <= 0 &&
			(q.Waste < p.Waste || q.Cold < p.Cold || loads < 0)
	})
}
