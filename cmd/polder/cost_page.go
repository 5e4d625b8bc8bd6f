package main

import (
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/polder/polder/gateway"
	"github.com/polder/polder/prewarm"
)

// costPage writes one page that needs nothing else: the tables, and for each
// account the last week by the hour.
func costPage(w io.Writer, a costAnswer) error {
	var text strings.Builder
	if err := writeCost(&text, a); err != nil {
		return err
	}
	type plot struct {
		Region, Account, Most string
		SVG                   template.HTML
	}
	var plots []plot
	for _, r := range a.Regions {
		for _, x := range slices.Concat(r.Tenants, r.Services) {
			if svg, most := hoursPlot(x); svg != "" {
				plots = append(plots, plot{string(r.Region), accountName(x), most.Format(r.Currency), template.HTML(svg)})
			}
		}
	}
	return costTemplate.Execute(w, map[string]any{"Text": text.String(), "Plots": plots})
}

var costTemplate = template.Must(template.New("cost").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Polder: cost</title>
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}pre{overflow-x:auto;font-size:13px}svg{background:#f7f7f7;width:100%}</style>
<h1>What services cost</h1>
<pre>{{.Text}}</pre>
<h2>The last week, by the hour</h2>
{{range .Plots}}<h3>{{.Account}} in {{.Region}}</h3><p>The dearest hour cost {{.Most}}.</p>{{.SVG}}
{{else}}<p>Nothing was spent.</p>{{end}}</html>
`))

// hoursPlot draws a bar for each hour of an account; "" if nothing was spent.
func hoursPlot(a gateway.Account) (string, prewarm.Nanos) {
	const width, height = 1008, 90
	if len(a.Hours) == 0 || slices.Max(a.Hours) == 0 {
		return "", 0
	}
	most := slices.Max(a.Hours)
	step := float64(width) / 168
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="spent by the hour">`, width, height)
	for i, v := range a.Hours {
		h := float64(v) / float64(most) * (height - 4)
		x := width - float64(len(a.Hours)-i)*step
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#2980b9"/>`, x, height-h, step-1, h)
	}
	b.WriteString("</svg>")
	return b.String(), most
}
