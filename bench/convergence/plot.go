package convergence

import (
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"time"
)

// The plot has one panel for each figure: services to the right, the figure
// upwards, both logarithmic, and a line for each shape and kind of change.
const (
	panelWidth, panelHeight = 420, 300
	panelLeft, panelRight   = 56, 14
	panelTop, panelBottom   = 34, 40
	panels                  = 2 // in a row
	legendHeight            = 80
)

// figure is what one panel shows. Values that are not above zero are left out.
type figure struct {
	title string
	value func(Change) float64
}

var figures = []figure{
	{"until callers on every worker see it, ms", func(c Change) float64 { return ms(c.ToEffect.P50) }},
	{"until Envoy acknowledged it, ms", func(c Change) float64 { return ms(c.ToACK.P50) }},
	{"bytes on the wire", func(c Change) float64 { return c.Bytes }},
	{"CPU of the control plane, ms", func(c Change) float64 { return ms(c.CPU) }},
}

// series is one line of a panel.
type series struct {
	shape, kind string
	x, y        []float64
}

var (
	colors = map[string]string{"polder": "#1a6e8e", "usual": "#c0392b"}
	dashes = map[string]string{"endpoints": "", "route": "6 3", "host": "2 3", "removed": "8 2 2 2", "passed": "1 2", "refused": "10 4", "permitted": "10 2 2 2", "shut": "4 4", "home": "6 2 2 2"}
)

func (r Report) series(f figure) []series {
	var list []series
	for _, shape := range []string{"polder", "usual"} {
		for _, kind := range r.kinds() {
			s := series{shape: shape, kind: kind}
			for _, p := range r.Points {
				for _, c := range p.Changes {
					if p.Shape == shape && c.Kind == kind && f.value(c) > 0 {
						s.x, s.y = append(s.x, float64(p.Services)), append(s.y, f.value(c))
					}
				}
			}
			if len(s.x) > 0 {
				list = append(list, s)
			}
		}
	}
	return list
}

// decades are the powers of ten around all values.
func decades(values []float64) (low, high int) {
	if len(values) == 0 {
		return 0, 1
	}
	least, most := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		least, most = min(least, math.Log10(v)), max(most, math.Log10(v))
	}
	low, high = int(math.Floor(least)), int(math.Ceil(most))
	if low == high {
		high++
	}
	return low, high
}

// WriteSVG draws all panels. The picture needs nothing else.
func (r Report) WriteSVG(w io.Writer) error {
	var b strings.Builder
	rows := (len(figures) + panels - 1) / panels
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		panels*panelWidth, rows*panelHeight+legendHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	for i, f := range figures {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", i%panels*panelWidth, i/panels*panelHeight)
		r.panel(&b, f)
		b.WriteString("</g>\n")
	}
	r.legend(&b, rows*panelHeight+18)
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Report) panel(b *strings.Builder, f figure) {
	lines := r.series(f)
	var xs, ys []float64
	for _, s := range lines {
		xs, ys = append(xs, s.x...), append(ys, s.y...)
	}
	left, right := decades(xs)
	low, high := decades(ys)
	x := func(v float64) float64 {
		return panelLeft + (math.Log10(v)-float64(left))/float64(right-left)*(panelWidth-panelLeft-panelRight)
	}
	y := func(v float64) float64 {
		return panelHeight - panelBottom - (math.Log10(v)-float64(low))/float64(high-low)*(panelHeight-panelTop-panelBottom)
	}
	fmt.Fprintf(b, `<text x="%d" y="20" font-weight="bold">%s</text>`+"\n", panelLeft, template.HTMLEscapeString(f.title))
	for d := left; d <= right; d++ {
		at := x(math.Pow10(d))
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#eee"/><text x="%.1f" y="%d" text-anchor="middle">%g</text>`+"\n",
			at, at, panelTop, panelHeight-panelBottom, at, panelHeight-panelBottom+16, math.Pow10(d))
	}
	for d := low; d <= high; d++ {
		at := y(math.Pow10(d))
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g</text>`+"\n",
			panelLeft, panelWidth-panelRight, at, at, panelLeft-6, at+4, math.Pow10(d))
	}
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle">services</text>`+"\n", (panelLeft+panelWidth-panelRight)/2, panelHeight-8)
	for _, s := range lines {
		var points []string
		for i := range s.x {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(s.x[i]), y(s.y[i])))
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.8" stroke-dasharray="%s"/>`+"\n",
			strings.Join(points, " "), colors[s.shape], dashes[s.kind])
		for i := range s.x {
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s, %s, %.0f services: %.3g</title></circle>`+"\n",
				x(s.x[i]), y(s.y[i]), colors[s.shape], s.shape, s.kind, s.x[i], s.y[i])
		}
	}
}

func (r Report) legend(b *strings.Builder, top int) {
	for i, s := range r.series(figures[1]) { // every kind is acknowledged
		left, y := panelLeft+i%3*190, top+i/3*20
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%d" y2="%d" stroke="%s" stroke-width="1.8" stroke-dasharray="%s"/><text x="%d" y="%d">%s, %s</text>`+"\n",
			left, left+34, y, y, colors[s.shape], dashes[s.kind], left+42, y+4, s.shape, s.kind)
	}
}

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"ms":    func(d time.Duration) string { return fmt.Sprintf("%.2f", ms(d)) },
	"s":     func(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) },
	"mb":    func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) },
	"kb":    func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e3) },
	"round": func(x float64) string { return fmt.Sprintf("%.0f", x) },
	"ratio": func(x float64) string { return fmt.Sprintf("%.2f", x) },
}).Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>From a change to its effect</title>
<style>
body { font: 14px sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin-top: 1em } td, th { padding: .2em .6em; text-align: right; border-bottom: 1px solid #ddd }
svg { max-width: 100% }
</style>
<h1>From a change to its effect</h1>
<p>Envoy {{.Report.Envoy}} with {{.Report.Workers}} workers on {{.Report.Processors}} processors; load average {{.Report.LoadBefore}} before and {{.Report.LoadAfter}} after.
One service of many is changed: its endpoints, the service of one of its hosts (route), a service with a new host is added (host) or removed (removed), or a host of another region is passed on (passed), or a host is refused that is new (refused) or was served (shut), or is served after it was refused (permitted), or the home of one moves to another region (home).
"usual" is one route configuration with a virtual host per service, behind go-control-plane's SnapshotCache. Times are medians.</p>
{{.Plot}}
<table><tr><th>change<th>services<th>shape<th>count<th>to ACK, ms<th>p95<th>to effect, ms<th>p95<th>bytes<th>CPU, ms<th>Envoy's main thread, ms<th>all of Envoy, ms</tr>
{{range .Rows}}<tr><td>{{.Change.Kind}}<td>{{.Point.Services}}<td>{{.Point.Shape}}<td>{{.Change.Count}}<td>{{ms .Change.ToACK.P50}}<td>{{ms .Change.ToACK.P95}}<td>{{ms .Change.ToEffect.P50}}<td>{{ms .Change.ToEffect.P95}}<td>{{round .Change.Bytes}}<td>{{ms .Change.CPU}}<td>{{ms .Change.EnvoyCPU}}<td>{{ms .Change.EnvoyAllCPU}}</tr>
{{end}}</table>
<table><tr><th>services<th>shape<th>cold start, s<th>translate, s<th>Envoy, MB<th>control plane, MB<th>kB per service</tr>
{{range .Report.Points}}<tr><td>{{.Services}}<td>{{.Shape}}<td>{{s .ColdStart}}<td>{{s .Translate}}<td>{{mb .EnvoyResident}}<td>{{mb .PolderBytes}}<td>{{kb .PerService}}</tr>
{{end}}</table>
{{range .Report.Points}}{{with .Unknown}}<p>A connection for a name that nobody owns takes {{ms .EnvoyCPU}} ms of Envoy and {{round .Bytes}} bytes of discovery; after {{.Connections}} of them Envoy has {{kb .EnvoyGrowth}} kB more.</p>
{{end}}{{end}}<table><tr><th>shape<th>change<th>services<th>against<th>to ACK, times<th>to effect, times</tr>
{{range .Report.Ratios}}<tr><td>{{.Shape}}<td>{{.Kind}}<td>{{.To}}<td>{{.From}}<td>{{ratio .ToACK}}<td>{{ratio .ToEffect}}</tr>
{{end}}</table>
{{with .Report.FanOut}}<p>Fan-out: {{.Envoys}} fake Envoys with {{.Services}} services each acknowledge a change after {{ms .ToACK.P50}} ms (p95 {{ms .ToACK.P95}}),
for {{round .Bytes}} bytes and {{ms .CPU}} ms of CPU each, the fake's own share included. All start with nothing and have everything after {{s .ColdStart}} s.</p>{{end}}
</html>
`))

// row is one line of the page's first table.
type row struct {
	Point  Point
	Change Change
}

// WriteHTML writes one self-contained page with the plot and the tables.
func (r Report) WriteHTML(w io.Writer) error {
	var plot strings.Builder
	if err := r.WriteSVG(&plot); err != nil {
		return err
	}
	var rows []row
	for _, kind := range r.kinds() {
		for _, p := range r.Points {
			for _, c := range p.Changes {
				if c.Kind == kind {
					rows = append(rows, row{p, c})
				}
			}
		}
	}
	return page.Execute(w, struct {
		Report Report
		Rows   []row
		Plot   template.HTML // ours, with every name escaped
	}{r, rows, template.HTML(plot.String())})
}
