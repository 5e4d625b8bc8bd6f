package live

import (
	"fmt"
	"html/template"
	"io"
	"strings"
)

// The plot: minutes to the right, cold minutes so far upwards, two lines for each
// policy.
const (
	plotWidth, plotHeight = 760, 360
	plotLeft, plotRight   = 60, 20
	plotTop, plotBottom   = 20, 40
)

var colors = [...]string{"#2c3e50", "#c0392b"}

// WriteHTML writes the report as one page that needs nothing else.
func (r Report) WriteHTML(w io.Writer) error {
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		return err
	}
	return page.Execute(w, map[string]any{"Report": r, "Text": text.String(), "Plot": template.HTML(r.svg())}) // ours, with every name escaped
}

var page = template.Must(template.New("live").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Polder: simulated and measured</title>
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em}pre{overflow-x:auto;font-size:13px}</style>
<h1>Cold minutes, simulated and measured</h1>
<p>{{.Report.Began.Format "2006-01-02 15:04 UTC"}}, {{.Report.Processors}} processors. The same functions and minutes, in the simulator and over real regions.</p>
{{.Plot}}
<pre>{{.Text}}</pre>
</html>
`))

func (r Report) svg() string {
	most := 1
	for _, p := range r.Policies {
		most = max(most, p.Simulated.Cold, p.Measured.Cold)
	}
	minutes := max(r.To-r.From, 1)
	x := func(m int) float64 {
		return plotLeft + float64(m)/float64(minutes)*(plotWidth-plotLeft-plotRight)
	}
	y := func(n int) float64 {
		return plotHeight - plotBottom - float64(n)/float64(most)*(plotHeight-plotTop-plotBottom)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" width="%d" role="img" aria-label="cold minutes so far" font-family="system-ui" font-size="12">`, plotWidth, plotHeight, plotWidth)
	for i := range 5 {
		n, m := most*i/4, minutes*i/4
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%d</text>`, plotLeft, plotWidth-plotRight, y(n), y(n), plotLeft-6, y(n)+4, n)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`, x(m), plotHeight-plotBottom+16, r.From+m)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">minute of the trace</text>`, plotWidth/2, plotHeight-6)
	for i, p := range r.Policies {
		color := colors[i%len(colors)]
		for _, line := range []struct {
			by   []int
			dash string
			name string
		}{{p.SimulatedBy, "5 4", "simulated"}, {p.MeasuredBy, "none", "measured"}} {
			points := make([]string, len(line.by))
			for m, n := range line.by {
				points[m] = fmt.Sprintf("%.1f,%.1f", x(m+1), y(n))
			}
			fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5" stroke-dasharray="%s"><title>%s, %s</title></polyline>`,
				strings.Join(points, " "), color, line.dash, template.HTMLEscapeString(p.Policy), line.name)
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s: simulated dashed, measured solid</text>`, plotLeft+10, plotTop+14+18*i, color, template.HTMLEscapeString(p.Policy))
	}
	b.WriteString("</svg>")
	return b.String()
}
