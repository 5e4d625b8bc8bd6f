package loadtest

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Verdict says what a change means to callers.
type Verdict string

// The verdicts.
const (
	Same   Verdict = "same"   // within Noise, or both 0
	Better Verdict = "better" // lower: every compared figure is one that should be low
	Worse  Verdict = "worse"
)

// Noise is the relative change of a time below which two runs are called the
// same. Two runs of one build on a quiet machine differ by about as much.
const Noise = 0.05

// Change is one figure in two runs.
type Change struct {
	Target  string  `json:"target"` // "total" or a target of both runs
	Figure  string  `json:"figure"`
	Unit    string  `json:"unit"` // "µs", or "%" of requests
	Before  float64 `json:"before"`
	After   float64 `json:"after"`
	Verdict Verdict `json:"verdict"`
}

// Comparison holds two runs against each other.
type Comparison struct {
	// Differences say why the runs are not alike, so that a change may be due to
	// the load and not to what was loaded. Empty means that both ran the same
	// plan to its end.
	Differences []string `json:"differences"`
	Changes     []Change `json:"changes"` // of the total first, then of each target of both
}

// Compare holds a later report against an earlier one.
func Compare(before, after Report) Comparison {
	c := Comparison{Differences: differences(before, after), Changes: changes(before.Total, after.Total)}
	for _, b := range before.Targets {
		i := slices.IndexFunc(after.Targets, func(a TargetReport) bool { return a.Name == b.Name })
		if i >= 0 {
			c.Changes = append(c.Changes, changes(b.Summary, after.Targets[i].Summary)...)
		}
	}
	return c
}

func differences(before, after Report) []string {
	found := []string{}
	differ := func(what string, a, b any) {
		if a != b {
			found = append(found, fmt.Sprintf("%s: %v before, %v after", what, a, b))
		}
	}
	differ("planned requests", before.Planned, after.Planned)
	differ("length of the plan", micros(before.Length), micros(after.Length))
	differ("stopped early", before.Stopped, after.Stopped)
	differ("requests in progress allowed", before.Settings.InProgress, after.Settings.InProgress)
	differ("backlog allowed", before.Settings.Backlog, after.Settings.Backlog)
	differ("timeout", micros(before.Settings.Timeout), micros(after.Settings.Timeout))
	differ("protocol", before.Settings.Protocol, after.Settings.Protocol)
	differ("connections", before.Settings.Connections, after.Settings.Connections)
	known := make(map[string]TargetReport)
	for _, t := range before.Targets {
		known[t.Name] = t
	}
	for _, t := range after.Targets {
		b, both := known[t.Name]
		delete(known, t.Name)
		if !both {
			found = append(found, fmt.Sprintf("target %s: only after", t.Name))
			continue
		}
		differ("URL of target "+t.Name, b.URL, t.URL)
		differ("arrivals of target "+t.Name, b.Arrivals, t.Arrivals)
	}
	for _, t := range before.Targets {
		if _, gone := known[t.Name]; gone {
			found = append(found, fmt.Sprintf("target %s: only before", t.Name))
		}
	}
	return found
}

// changes compares the figures of one summary, of the quantiles those that the
// smaller of both runs supports.
func changes(before, after Summary) []Change {
	var list []Change
	share := func(figure string, b, a, ofB, ofA uint64) {
		list = append(list, compared(before.Name, figure, "%", percent(b, ofB), percent(a, ofA), shareVerdict(b, ofB, a, ofA)))
	}
	share("errors", before.Errors, after.Errors, before.Sent, after.Sent)
	share("dropped", before.Dropped, after.Dropped, before.Scheduled, after.Scheduled)
	share("late", before.Late, after.Late, before.Sent, after.Sent)
	share("cold starts", before.ColdStarts, after.ColdStarts, before.Answered, after.Answered)
	for _, kind := range []struct {
		name string
		b, a Quantiles
	}{{"latency", before.Latency, after.Latency}, {"warm", before.Warm, after.Warm}, {"cold", before.Cold, after.Cold}} {
		n := min(kind.b.Count, kind.a.Count)
		if n == 0 {
			continue
		}
		after := kind.a.figures(n)
		for i, b := range kind.b.figures(n) {
			a := after[i]
			list = append(list, compared(before.Name, kind.name+" "+b.name, "µs", float64(b.us), float64(a.us), timeVerdict(b.us, a.us)))
		}
	}
	return list
}

func compared(target, figure, unit string, before, after float64, v Verdict) Change {
	return Change{Target: target, Figure: figure, Unit: unit, Before: before, After: after, Verdict: v}
}

func percent(part, of uint64) float64 {
	if of == 0 {
		return 0
	}
	return 100 * float64(part) / float64(of)
}

// shareVerdict compares shares with the two-proportion z-test: beyond three
// standard errors they differ. A share that leaves 0, or comes to it, always
// matters: the first error is news.
func shareVerdict(b, ofB, a, ofA uint64) Verdict {
	before, after := percent(b, ofB)/100, percent(a, ofA)/100
	if before == after {
		return Same
	}
	if b != 0 && a != 0 {
		pooled := float64(b+a) / float64(ofB+ofA)
		standard := math.Sqrt(pooled * (1 - pooled) * (1/float64(ofB) + 1/float64(ofA)))
		if math.Abs(after-before) <= 3*standard {
			return Same
		}
	}
	return direction(cmp.Compare(after, before))
}

func timeVerdict(before, after int64) Verdict {
	if after == before || math.Abs(float64(after-before)) <= Noise*float64(max(before, after)) {
		return Same
	}
	return direction(cmp.Compare(after, before))
}

func direction(sign int) Verdict {
	if sign > 0 {
		return Worse
	}
	return Better
}

// WriteText writes the comparison for people: the total, and of the targets
// only what changed.
func (c Comparison) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, d := range c.Differences {
		fmt.Fprintf(&b, "not alike: %s\n", d)
	}
	if len(c.Differences) > 0 {
		b.WriteByte('\n')
	}
	rows := [][]string{{"target", "figure", "before", "after", "change", ""}}
	for _, change := range c.Changes {
		if change.Target != "total" && change.Verdict == Same {
			continue
		}
		verdict := string(change.Verdict)
		if change.Verdict == Same {
			verdict = ""
		}
		rows = append(rows, []string{change.Target, change.Figure, change.text(change.Before), change.text(change.After), change.delta(), verdict})
	}
	writeTable(&b, rows, "llrrrl", "")
	_, err := io.WriteString(w, b.String())
	return err
}

// text writes a figure with its unit.
func (c Change) text(v float64) string {
	if c.Unit == "%" {
		return fmt.Sprintf("%.3g %%", v)
	}
	return micros(int64(v))
}

// delta writes the relative change of a time, or the difference of shares.
func (c Change) delta() string {
	switch {
	case c.Before == c.After:
		return "="
	case c.Unit == "%":
		return fmt.Sprintf("%+.3g", c.After-c.Before)
	case c.Before == 0:
		return "new"
	}
	return fmt.Sprintf("%+.1f %%", 100*(c.After-c.Before)/c.Before)
}
