package cold

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// Sizes of a chart, in pixels.
const (
	chartWidth, chartLeft, chartRight = 860, 260, 30
	barHeight, rowGap                 = 14, 12
	cloudHeight                       = 60
)

// scale places values on a chart's axis.
type scale struct {
	part  func(float64) float64 // 0 at the left end, 1 at the right
	ticks []float64
	label func(float64) string
}

// logarithmic is for microseconds, in decades.
func logarithmic(from, to int64) scale {
	decades := math.Log10(float64(to) / float64(from))
	s := scale{
		part:  func(v float64) float64 { return math.Log10(math.Max(v, float64(from))/float64(from)) / decades },
		label: func(v float64) string { return fmt.Sprintf("%.0f ms", v/1000) },
	}
	for at := from; at <= to; at *= 10 {
		s.ticks = append(s.ticks, float64(at))
	}
	return s
}

// linear is for shares.
func linear(from, to, step float64) scale {
	s := scale{
		part:  func(v float64) float64 { return (math.Min(math.Max(v, from), to) - from) / (to - from) },
		label: func(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) },
	}
	for i := 0; from+float64(i)*step <= to+step/2; i++ {
		s.ticks = append(s.ticks, from+float64(i)*step)
	}
	return s
}

// chart is a picture with rows below each other and one axis.
type chart struct {
	name  string
	scale scale
	below strings.Builder // drawn first, as tall as the chart
	rows  strings.Builder
	y     int
}

// bar reaches from 0 to its value, with a thin line on to another one.
type bar struct {
	title, colour string
	value, to     float64
}

// dot is one of many values.
type dot struct {
	at     float64
	colour string
}

func newChart(name string, s scale) *chart { return &chart{name: name, scale: s, y: 6} }

func (c *chart) x(v float64) float64 {
	return chartLeft + c.scale.part(v)*(chartWidth-chartLeft-chartRight)
}

func (c *chart) quantiles(what, colour string, s Spread) bar {
	return bar{title: fmt.Sprintf("%s: p50 %s ms, p99 %s ms", what, ms(s.P50), ms(s.P99)), colour: colour, value: float64(s.P50), to: float64(s.P99)}
}

// row adds bars with one label.
func (c *chart) row(label string, bars ...bar) {
	fmt.Fprintf(&c.rows, `<text x="%d" y="%d" text-anchor="end">%s</text>`, chartLeft-8, c.y+len(bars)*barHeight/2+4, template.HTMLEscapeString(label))
	for _, b := range bars {
		fmt.Fprintf(&c.rows, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"><title>%s</title></rect><line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="%s"/>`,
			chartLeft, c.y, math.Max(c.x(b.value)-chartLeft, 1), barHeight-1, b.colour, template.HTMLEscapeString(b.title),
			c.x(b.value), c.x(b.to), c.y+barHeight/2, c.y+barHeight/2, b.colour)
		c.y += barHeight
	}
	c.y += rowGap
}

// cloud adds dots, spread over some height so that they can be told apart.
func (c *chart) cloud(label string, dots []dot) {
	fmt.Fprintf(&c.rows, `<text x="%d" y="%d" text-anchor="end">%s</text>`, chartLeft-8, c.y+cloudHeight/2, template.HTMLEscapeString(label))
	for i, d := range dots {
		// Neighbours in time lie apart: multiples of the golden ratio fill a line evenly.
		_, part := math.Modf(float64(i) * math.Phi)
		fmt.Fprintf(&c.rows, `<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s" fill-opacity="0.6"/>`, c.x(d.at), float64(c.y)+part*cloudHeight, d.colour)
	}
	c.y += cloudHeight + rowGap
}

// mark draws a line at a value that is to be reached, or not to be passed.
func (c *chart) mark(v float64) {
	fmt.Fprintf(&c.below, `<line x1="%.1f" x2="%.1f" y1="0" y2="HEIGHT" stroke="#c0392b" stroke-dasharray="4 3"/>`, c.x(v), c.x(v))
}

// band shades what lies between two values.
func (c *chart) band(from, to float64) {
	fmt.Fprintf(&c.below, `<rect x="%.1f" y="0" width="%.1f" height="HEIGHT" fill="%s" fill-opacity="0.2"/>`, c.x(from), math.Max(c.x(to)-c.x(from), 1), blue)
}

// end is the whole picture.
func (c *chart) end() template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" width="%d" role="img" aria-label="%s" font-family="system-ui" font-size="12">`,
		chartWidth, c.y+22, chartWidth, template.HTMLEscapeString(c.name))
	for _, v := range c.scale.ticks {
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="0" y2="%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`,
			c.x(v), c.x(v), c.y, c.x(v), c.y+16, c.scale.label(v))
	}
	b.WriteString(strings.ReplaceAll(c.below.String(), "HEIGHT", fmt.Sprint(c.y)))
	b.WriteString(c.rows.String())
	b.WriteString("</svg>")
	return template.HTML(b.String())
}
