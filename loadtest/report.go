package loadtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// What the JSON form of a report says of itself. Within one version fields are
// added and never change their meaning.
const (
	ReportFormat  = "polder-load-report"
	ReportVersion = 1
)

// Report is what a run brought. Times are in microseconds.
type Report struct {
	Format      string         `json:"format"`  // ReportFormat
	Version     int            `json:"version"` // ReportVersion
	Description string         `json:"description"`
	Started     time.Time      `json:"started"`
	Elapsed     int64          `json:"elapsed_us"` // until the last reply
	Planned     uint64         `json:"planned"`    // requests that the plan schedules
	Length      int64          `json:"length_us"`  // of the plan
	Stopped     bool           `json:"stopped"`    // the context ended, and cut something of the plan off
	Settings    Settings       `json:"settings"`
	Total       Summary        `json:"total"`
	Targets     []TargetReport `json:"targets"` // in the order of the plan
	Step        int64          `json:"step_us"` // length of a point of Series
	Series      []Point        `json:"series"`
	Curves      Curves         `json:"curves"` // of Total
}

// Settings are the options that a comparison must know.
type Settings struct {
	InProgress  int         `json:"in_progress"`
	Backlog     int         `json:"backlog"`
	Timeout     int64       `json:"timeout_us"`
	Protocol    Protocol    `json:"protocol"`
	Connections Connections `json:"connections"`
}

// TargetReport is a target and what became of its arrivals.
type TargetReport struct {
	URL      string `json:"url"`
	Connect  string `json:"connect,omitempty"`
	Arrivals string `json:"arrivals"` // the schedule in words
	Summary
}

// Curves are distributions of latency, from the quantile 0 to 1.
type Curves struct {
	Latency []CurvePoint `json:"latency"`
	Warm    []CurvePoint `json:"warm"`
	Cold    []CurvePoint `json:"cold"`
}

// CurvePoint is a quantile and its time in µs.
type CurvePoint struct {
	Quantile float64 `json:"q"`
	Latency  int64   `json:"us"`
}

// WriteJSON writes the report for machines and for ReadReport.
func (r Report) WriteJSON(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	if err := out.Encode(r); err != nil {
		return fmt.Errorf("write load report: %w", err)
	}
	return nil
}

// maxReport bounds a report in bytes. Ten thousand targets take some 20 MB.
const maxReport = 256 << 20

// ReadReport reads what WriteJSON wrote. name stands for the file in errors.
func ReadReport(in io.Reader, name string) (Report, error) {
	var r Report
	decoder := json.NewDecoder(io.LimitReader(in, maxReport))
	if err := decoder.Decode(&r); err != nil {
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			return Report{}, fmt.Errorf("read load report %s: byte %d: %w", name, syntax.Offset, err)
		}
		return Report{}, fmt.Errorf("read load report %s: %w", name, err)
	}
	switch {
	case r.Format != ReportFormat:
		return Report{}, fmt.Errorf("read load report %s: it is not a load report: its format is %q, not %q", name, r.Format, ReportFormat)
	case r.Version < 1 || r.Version > ReportVersion:
		return Report{}, fmt.Errorf("read load report %s: it has version %d; this program reads version 1 to %d", name, r.Version, ReportVersion)
	case len(r.Series) > maxPoints:
		return Report{}, fmt.Errorf("read load report %s: its series has %d points; the most is %d", name, len(r.Series), maxPoints)
	case len(r.Series) > 0 && (r.Step <= 0 || r.Step > MaxLength.Microseconds()):
		return Report{}, fmt.Errorf("read load report %s: step_us is %d; it must be above 0 and at most %d", name, r.Step, MaxLength.Microseconds())
	case len(r.Curves.Latency) > maxCurve || len(r.Curves.Warm) > maxCurve || len(r.Curves.Cold) > maxCurve:
		return Report{}, fmt.Errorf("read load report %s: a curve has more than %d points", name, maxCurve)
	}
	return r, nil
}

// recorder makes a report out of results. It belongs to one goroutine.
type recorder struct {
	head    Report // what is known before the first result
	index   map[string]int
	targets []*tally
	total   *tally
	series  *series
}

func newRecorder(p Plan, o Options, started time.Time) *recorder {
	rec := &recorder{
		head: Report{
			Format: ReportFormat, Version: ReportVersion, Description: p.Description, Started: started,
			Planned: p.Count(), Length: p.Length().Microseconds(),
			Settings: Settings{
				InProgress: o.InProgress, Backlog: o.Backlog, Timeout: o.Timeout.Microseconds(),
				Protocol: o.Protocol, Connections: o.Connections,
			},
		},
		index:  make(map[string]int),
		total:  newTally("total"),
		series: newSeries(p.Length()),
	}
	rec.head.Step = rec.series.step.Microseconds()
	for i, t := range p.Targets {
		rec.index[t.Name] = i
		rec.targets = append(rec.targets, newTally(t.Name))
		rec.head.Targets = append(rec.head.Targets, TargetReport{URL: t.URL, Connect: t.Connect, Arrivals: t.Arrivals.String()})
	}
	return rec
}

func (rec *recorder) add(r Result) {
	rec.targets[rec.index[r.Target]].add(r)
	rec.total.add(r)
	rec.series.add(r)
}

// report sums up what was added.
func (rec *recorder) report(elapsed time.Duration, stopped bool) Report {
	r := rec.head
	r.Elapsed, r.Stopped = elapsed.Microseconds(), stopped
	r.Total = rec.total.summary()
	r.Targets = make([]TargetReport, len(rec.targets))
	for i, t := range rec.targets {
		r.Targets[i] = rec.head.Targets[i]
		r.Targets[i].Summary = t.summary()
	}
	r.Series = rec.series.finish()
	r.Curves = Curves{Latency: rec.total.latency.curve(), Warm: rec.total.warm.curve(), Cold: rec.total.cold.curve()}
	return r
}
