package loadtest

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
)

//go:embed page.gohtml
var pageText string

// page is what the template shows.
type page struct {
	Report  Report
	Tiles   []tile
	Rows    []row // of quantiles of the total
	Plots   []plot
	Targets []TargetReport
	Hovers  []hover
	Hidden  int // targets beyond Targets
}

// tile is a figure with its name.
type tile struct {
	Name, Value, Note string
	Bad               bool
}

// row is a line of a table.
type row struct {
	Name  string
	Cells []string
}

// pageTargets bounds the table of targets on the page.
const pageTargets = 200

// WriteHTML writes the report as one page that needs nothing else: no network,
// no other file. Plots show their figures under the pointer if scripts may run,
// and stand as they are if not.
func (r Report) WriteHTML(w io.Writer) error {
	t, err := template.New("page").Funcs(template.FuncMap{"micros": micros, "micro": micro, "percent": percentText}).Parse(pageText)
	if err != nil {
		return fmt.Errorf("write load page: %w", err)
	}
	p := page{Report: r, Tiles: r.tiles(), Rows: quantileRows(r.Total), Targets: slices.Clone(r.Targets)}
	slices.SortStableFunc(p.Targets, func(a, b TargetReport) int { return int(int64(b.Scheduled) - int64(a.Scheduled)) })
	if len(p.Targets) > pageTargets {
		p.Hidden, p.Targets = len(p.Targets)-pageTargets, p.Targets[:pageTargets]
	}
	if r.Total.Answered > 0 {
		p.Plots = append(p.Plots, r.latencyPlot())
	}
	if len(r.Series) > 0 {
		p.Plots = append(p.Plots, r.ratePlot())
	}
	if len(r.Curves.Latency) > 0 {
		p.Plots = append(p.Plots, r.curvePlot())
	}
	p.Hovers = []hover{}
	for _, plot := range p.Plots {
		p.Hovers = append(p.Hovers, plot.Hover)
	}
	if err := t.Execute(w, p); err != nil {
		return fmt.Errorf("write load page: %w", err)
	}
	return nil
}

func (r Report) tiles() []tile {
	t := r.Total
	seconds := micro(r.Elapsed).Seconds()
	rate := "0/s"
	if seconds > 0 {
		rate = rateText(float64(t.Answered) / seconds)
	}
	return []tile{
		{"sent", fmt.Sprint(t.Sent), fmt.Sprintf("of %d scheduled", t.Scheduled), false},
		{"answered", fmt.Sprint(t.Answered), rate, false},
		{"errors", fmt.Sprint(t.Errors), percentText(t.Errors, t.Sent) + " of those sent", t.Errors > 0},
		{"dropped", fmt.Sprint(t.Dropped), percentText(t.Dropped, t.Scheduled) + " of those scheduled", t.Dropped > 0},
		{"late", fmt.Sprint(t.Late), fmt.Sprintf("left more than %v late", LateAfter), t.Late > 0},
		{"cold starts", fmt.Sprint(t.ColdStarts), percentText(t.ColdStarts, t.Answered) + " of answers", false},
	}
}

// quantileRows are the distributions of a summary that have times.
func quantileRows(t Summary) []row {
	var rows []row
	for _, kind := range []struct {
		name string
		q    Quantiles
	}{{"latency", t.Latency}, {"warm", t.Warm}, {"cold", t.Cold}, {"failures", t.Failure}, {"lag", t.Lag}} {
		if kind.q.Count == 0 {
			continue
		}
		cells := []string{fmt.Sprint(kind.q.Count), micros(int64(kind.q.Mean)), "", "", "", "", micros(kind.q.Max)}
		figures := kind.q.figures(kind.q.Count)
		for i, q := range figures[:len(figures)-1] {
			cells[2+i] = micros(q.us)
		}
		rows = append(rows, row{kind.name, cells})
	}
	return rows
}
