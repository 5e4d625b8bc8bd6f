package failover

import (
	"fmt"
	"html/template"
	"io"
	"strings"
)

// The plots: one for each loss, calls by when they left and how long they took.
const (
	plotWidth, plotHeight, plotLeft, plotFoot = 760, 160, 60, 24
	plotBefore, plotAfter                     = 1000, 10_000 // ms around the loss
)

// WriteHTML writes the report as one page that needs nothing else.
func (r Report) WriteHTML(w io.Writer) error {
	var text, plots strings.Builder
	if err := r.WriteText(&text); err != nil {
		return err
	}
	for _, l := range r.Losses {
		fmt.Fprintf(&plots, "<h2>%s</h2>%s", template.HTMLEscapeString(l.Name), l.svg())
	}
	return page.Execute(w, map[string]any{"Report": r, "Text": text.String(), "Plots": template.HTML(plots.String())})
}

var page = template.Must(template.New("failover").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Polder: regions lost</title>
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em}pre{overflow-x:auto;font-size:13px}</style>
<h1>What callers feel when something is lost</h1>
<p>{{.Report.Began.Format "2006-01-02 15:04 UTC"}}, {{.Report.Processors}} processors for all peers, callers and the network between them. Each dot is a call, by when it left, counted from the loss,
and how long it took; <span style="color:#c0392b">red</span> ones failed.</p>
{{.Plots}}
<pre>{{.Text}}</pre>
</html>
`))

func (l Loss) svg() string {
	tallest := int64(100)
	for _, r := range l.Rounds {
		for _, p := range r.Points {
			tallest = max(tallest, p.Took)
		}
	}
	x := func(at int64) float64 {
		return plotLeft + float64(at+plotBefore)/float64(plotBefore+plotAfter)*(plotWidth-plotLeft-10)
	}
	y := func(took int64) float64 { return (plotHeight - plotFoot) * (1 - float64(took)/float64(tallest)*0.95) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" width="%d" role="img" aria-label="calls around the loss" font-family="system-ui" font-size="12">`, plotWidth, plotHeight, plotWidth)
	for at := int64(0); at <= plotAfter; at += 2000 {
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="0" y2="%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%d s</text>`,
			x(at), x(at), plotHeight-plotFoot, x(at), plotHeight-6, at/1000)
	}
	fmt.Fprintf(&b, `<text x="%d" y="12" text-anchor="end">%d ms</text>`, plotLeft-4, tallest)
	for _, r := range l.Rounds {
		for _, p := range r.Points {
			color := "#2980b9"
			if p.Failed {
				color = "#c0392b"
			}
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="2" fill="%s"/>`, x(p.At), y(p.Took), color)
		}
	}
	b.WriteString("</svg>")
	return b.String()
}
