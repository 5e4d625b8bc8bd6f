package cold

import (
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
)

// The plot: two bars for each program, on a logarithmic scale from 1 ms.
const (
	plotWidth, plotLeft = 760, 150
	barHeight, barGap   = 14, 18
)

// WriteHTML writes the report as one page that needs nothing else.
func (r Report) WriteHTML(w io.Writer) error {
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		return err
	}
	return pageTemplate.Execute(w, map[string]any{"Report": r, "Text": text.String(), "Plot": template.HTML(r.svg())})
}

var pageTemplate = template.Must(template.New("cold").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Polder: cold starts</title>
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em}pre{overflow-x:auto;font-size:13px}</style>
<h1>Cold starts</h1>
<p>{{.Report.Began.Format "2006-01-02 15:04 UTC"}}, {{.Report.Processors}} processors. Each program was started bare and through Polder in turn, so that a busy machine slows both:
compare the bars of one pair, not their lengths with those of another machine.</p>
{{.Plot}}
<pre>{{.Text}}</pre>
</html>
`))

// svg draws the medians of the starts, with a thin line to their p99.
func (r Report) svg() string {
	most := int64(10_000)
	for _, s := range r.Starts {
		most = max(most, s.Bare.P99, s.Through.P99)
	}
	decades := math.Log10(float64(most) / 1000)
	x := func(us int64) float64 {
		at := math.Log10(math.Max(float64(us), 1000)/1000) / decades
		return plotLeft + at*(plotWidth-plotLeft-20)
	}
	var b strings.Builder
	height := len(r.Starts)*(2*barHeight+barGap) + 40
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" width="%d" role="img" aria-label="bare and cold starts" font-family="system-ui" font-size="12">`, plotWidth, height, plotWidth)
	for us := int64(1000); us <= most; us *= 10 {
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="0" y2="%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%d ms</text>`,
			x(us), x(us), height-24, x(us), height-8, us/1000)
	}
	y := 6
	for _, s := range r.Starts {
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, plotLeft-8, y+barHeight+4, template.HTMLEscapeString(s.Program))
		for _, bar := range []struct {
			spread Spread
			color  string
			title  string
		}{{s.Bare, "#7f8c8d", "bare"}, {s.Through, "#2980b9", "through Polder"}} {
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"><title>%s: p50 %s ms, p99 %s ms</title></rect><line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="%s"/>`,
				plotLeft, y, math.Max(x(bar.spread.P50)-plotLeft, 1), barHeight-1, bar.color, bar.title, ms(bar.spread.P50), ms(bar.spread.P99),
				x(bar.spread.P50), x(bar.spread.P99), y+barHeight/2, y+barHeight/2, bar.color)
			y += barHeight
		}
		y += barGap
	}
	b.WriteString(`</svg><p><span style="color:#7f8c8d">■</span> bare start to the first 200, <span style="color:#2980b9">■</span> first request through Envoy and Polder; medians, with a line to p99.</p>`)
	return b.String()
}
