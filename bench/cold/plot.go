package cold

import (
	"fmt"
	"html/template"
	"io"
	"strings"
)

// Colours of the plots: what is compared with, what Polder does, and what it does
// in a second way.
const (
	grey  = "#7f8c8d"
	blue  = "#2980b9"
	green = "#27ae60"
)

// WriteHTML writes the report as one page that needs nothing else.
func (r Report) WriteHTML(w io.Writer) error {
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		return err
	}
	return pageTemplate.Execute(w, map[string]any{"Report": r, "Text": text.String(), "Plots": r.plots()})
}

var pageTemplate = template.Must(template.New("cold").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Polder: cold starts</title>
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em}pre{overflow-x:auto;font-size:13px}h2{font-size:1.1em;margin:1.6em 0 .4em}</style>
<h1>Cold starts</h1>
<p>{{.Report.Began.Format "2006-01-02 15:04 UTC"}}, {{.Report.Processors}} processors, load average {{.Report.LoadBefore}} before and {{.Report.LoadAfter}} after. What is compared was measured
in turn, so that a busy machine slows both: compare the bars of one pair, not their lengths with those of another machine.</p>
{{range .Plots}}<h2>{{.Title}}</h2>
{{.SVG}}
<p>{{.Legend}}</p>
{{end}}<pre>{{.Text}}</pre>
</html>
`))

// plot is one picture of the page.
type plot struct {
	Title, Legend string
	SVG           template.HTML
}

// plots draws what was measured; what was left out has no picture.
func (r Report) plots() []plot {
	var list []plot
	if len(r.Starts) > 0 {
		list = append(list, plot{"A start, and the first request of a sleeping service",
			"Grey: a bare start to the first 200. Blue: the first request through Envoy and Polder. Medians, with a line to the 99th percentile; the scale is logarithmic.", r.startPlot()})
	}
	if len(r.Hellos) > 0 {
		list = append(list, plot{"How much of a start the ClientHello hides",
			"The part of the round trip, or of the start if that is shorter, that a caller did not wait because the ClientHello woke the service. Blue: keys on demand. Green: resident keys. The dashed line is at 80 %.", r.helloPlot()})
	}
	if len(r.Crowds) > 0 {
		list = append(list, plot{"Crowds, and calls around falling asleep",
			"What a caller waited: median, with a line to the 99th percentile; the scale is logarithmic.", r.crowdPlot()})
	}
	if r.Warm != nil {
		list = append(list, plot{"Processor time of a warm request, over a bare Envoy's",
			"A dot for each turn. The band is the 95 % confidence interval of the median. The dashed line is at 3 %.", r.warmPlot()})
	}
	return list
}

func (r Report) startPlot() template.HTML {
	var most int64 = 10_000
	for _, s := range r.Starts {
		most = max(most, s.Bare.P99, s.Through.P99)
	}
	c := newChart("bare and cold starts", logarithmic(1000, most))
	for _, s := range r.Starts {
		c.row(s.Program, c.quantiles("bare", grey, s.Bare), c.quantiles("through Polder", blue, s.Through))
	}
	return c.end()
}

func (r Report) crowdPlot() template.HTML {
	var most int64 = 10_000
	for _, w := range r.Crowds {
		most = max(most, w.Took.P99)
	}
	c := newChart("crowds", logarithmic(1000, most))
	for _, w := range r.Crowds {
		c.row(fmt.Sprintf("%s: %d failed", w.Name, w.Failed), c.quantiles(w.Name, blue, w.Took))
	}
	return c.end()
}

func (r Report) helloPlot() template.HTML {
	c := newChart("hidden part of a start", linear(0, 1.2, 0.2))
	c.mark(0.8)
	for i, h := range r.Hellos {
		if h.RTT == 0 {
			continue
		}
		label, colour := "", green
		if h.Keys == keysOnDemand {
			colour = blue
		}
		if i == 0 || r.Hellos[i-1].RTT != h.RTT {
			label = ms(h.RTT) + " ms away"
		}
		title := fmt.Sprintf("keys %s, %s ms away: %.0f %%", h.Keys, ms(h.RTT), 100*h.Share)
		c.row(label, bar{title: title, colour: colour, value: h.Share, to: h.Share})
	}
	return c.end()
}

func (r Report) warmPlot() template.HTML {
	c := newChart("processor time of warm requests", linear(-0.15, 0.15, 0.05))
	c.band(r.Warm.From, r.Warm.To)
	c.mark(0.03)
	var dots []dot
	for _, t := range r.Warm.Turns {
		if t.Bare > 0 {
			dots = append(dots, dot{at: float64(t.Polder)/float64(t.Bare) - 1, colour: blue})
		}
	}
	c.cloud(fmt.Sprintf("%.1f %% more", 100*r.Warm.More), dots)
	return c.end()
}
