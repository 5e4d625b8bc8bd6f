package policy

import (
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
)

// The plot: waste to the right, cold share upwards and logarithmic, one series
// for each policy.
const (
	plotWidth, plotHeight = 760, 460
	plotLeft, plotRight   = 70, 20
	plotTop, plotBottom   = 20, 50
	plotMaxWaste          = 1.6
	plotMinCold           = 0.0002 // a share; what is below sits on the axis
)

var palette = [...]string{"#c0392b", "#2c3e50", "#2980b9", "#8e44ad", "#7f8c8d", "#27ae60", "#d35400", "#16a085"}

// frontier returns the points of one policy that no other point of it beats in
// both waste and cold share, by waste.
func frontier(points []Point) []Point {
	sorted := slices.Clone(points)
	slices.SortStableFunc(sorted, func(a, b Point) int {
		switch {
		case a.Waste != b.Waste:
			return sign(a.Waste - b.Waste)
		default:
			return sign(a.Cold - b.Cold)
		}
	})
	var best []Point
	for _, p := range sorted {
		if len(best) == 0 || p.Cold < best[len(best)-1].Cold {
			best = append(best, p)
		}
	}
	return best
}

func sign(x float64) int {
	switch {
	case x < 0:
		return -1
	case x > 0:
		return 1
	}
	return 0
}

// byPolicy groups the points, in the order in which policies first appear.
func (r Report) byPolicy() (names []string, points map[string][]Point) {
	points = map[string][]Point{}
	for _, p := range r.Points {
		if points[p.Policy] == nil {
			names = append(names, p.Policy)
		}
		points[p.Policy] = append(points[p.Policy], p)
	}
	return names, points
}

// WriteSVG draws cold share against waste. The picture needs nothing else.
func (r Report) WriteSVG(w io.Writer) error {
	var b strings.Builder
	top := 1.0
	x := func(waste float64) float64 {
		return plotLeft + min(waste, plotMaxWaste)/plotMaxWaste*(plotWidth-plotLeft-plotRight)
	}
	y := func(cold float64) float64 {
		span := math.Log(top / plotMinCold)
		return plotTop + math.Log(top/min(max(cold, plotMinCold), top))/span*(plotHeight-plotTop-plotBottom)
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, plotHeight)
	for _, cold := range []float64{1, .3, .1, .03, .01, .003, .001, .0003} {
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g %%</text>`+"\n",
			plotLeft, plotWidth-plotRight, y(cold), y(cold), plotLeft-6, y(cold)+4, 100*cold)
	}
	for waste := 0; waste <= 16; waste += 2 {
		v := float64(waste) / 10
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#eee"/><text x="%.1f" y="%d" text-anchor="middle">%.1f</text>`+"\n",
			x(v), x(v), plotTop, plotHeight-plotBottom, x(v), plotHeight-plotBottom+18, v)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">waste, relative to a keep-alive of ten minutes</text>`+"\n", plotWidth/2, plotHeight-12)
	fmt.Fprintf(&b, `<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">cold share of active minutes</text>`+"\n", plotHeight/2)
	names, points := r.byPolicy()
	for i, name := range names {
		color := palette[i%len(palette)]
		var line []string
		for _, p := range frontier(points[name]) {
			if p.Waste <= plotMaxWaste {
				line = append(line, fmt.Sprintf("%.1f,%.1f", x(p.Waste), y(p.Cold)))
			}
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.Join(line, " "), color)
		for _, p := range points[name] {
			if p.Waste > plotMaxWaste {
				continue
			}
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s</title></circle>`+"\n", x(p.Waste), y(p.Cold), color,
				template.HTMLEscapeString(fmt.Sprintf("%s, %s: waste %.3f, cold %.3f %%, %.4f loads per active minute", p.Policy, p.Setting, p.Waste, 100*p.Cold, p.Loads)))
		}
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="10" height="10" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n",
			plotWidth-190, plotTop+8+i*18, color, plotWidth-174, plotTop+17+i*18, template.HTMLEscapeString(name))
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"percent": func(x float64) string { return fmt.Sprintf("%.3f", 100*x) },
}).Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Policies over {{.Report.Trace}}</title>
<style>
body { font: 14px sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin-top: 1em } td, th { padding: .2em .6em; text-align: right; border-bottom: 1px solid #ddd }
td:nth-child(-n+2), th:nth-child(-n+2) { text-align: left } svg { max-width: 100% }
</style>
<h1>When is an instance warm?</h1>
<p>{{.Report.Functions}} functions ({{.Report.Half}}) of {{.Report.Trace}}, minutes {{.Report.From}} to {{.Report.To}} counted{{if .Report.Weights}}, weighted by {{.Report.Weights}}{{end}}.
A cold minute is one with calls that began without a warm instance; waste is warm minutes without calls, relative to a keep-alive of ten minutes.</p>
{{.Plot}}
<table><tr><th>policy<th>setting<th>waste<th>cold %<th>mean %<th>p75 %<th>per call %<th>loads / active minute<th>{{.Report.Currency}}<th>regular %<th>irregular %</tr>
{{range .Report.Points}}<tr><td>{{.Policy}}<td>{{.Setting}}<td>{{printf "%.3f" .Waste}}<td>{{percent .Cold}}<td>{{percent .ColdMean}}<td>{{percent .ColdP75}}<td>{{percent .ColdInvocation}}<td>{{printf "%.4f" .Loads}}<td>{{printf "%.2f" .Euros}}<td>{{percent .Regular.Cold}}<td>{{percent .Irregular.Cold}}</tr>
{{end}}</table></html>
`))

// WriteHTML writes one self-contained page with the plot and the table.
func (r Report) WriteHTML(w io.Writer) error {
	var plot strings.Builder
	if err := r.WriteSVG(&plot); err != nil {
		return err
	}
	return page.Execute(w, struct {
		Report Report
		Plot   template.HTML // ours, with every name escaped
	}{r, template.HTML(plot.String())})
}
