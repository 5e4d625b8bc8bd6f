package loadtest

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The size of a plot's drawing area and its margins, in units of the SVG.
const (
	plotWidth, plotHeight  = 860.0, 240.0
	plotLeft, plotTop      = 64.0, 12.0
	plotRight, plotBottom  = 12.0, 28.0
	plotOuterW, plotOuterH = plotLeft + plotWidth + plotRight, plotTop + plotHeight + plotBottom
)

// plot is one diagram, ready for the template.
type plot struct {
	Title, Note    string
	Width, Height  float64 // of the SVG
	Left, Top      float64 // of the drawing area
	Right, Bottom  float64
	Lines          []plotLine
	XTicks, YTicks []tick
	Hover          hover
}

// plotLine is one line of a plot. Class sets its colour and its dashes.
type plotLine struct {
	Name  string
	Class string
	Path  string // of an SVG path; "" draws nothing
}

// tick is a mark on an axis, at a coordinate of the SVG.
type tick struct {
	At   float64
	Text string
}

// hover is what the page shows under the pointer: for each place its label and
// the text of every line there.
type hover struct {
	At     []float64  `json:"at"`
	Labels []string   `json:"labels"`
	Names  []string   `json:"names"`
	Values [][]string `json:"values"` // by line, then by place
}

// curveLine is a line before it is drawn: NaN leaves a gap.
type curveLine struct {
	name, class string
	values      []float64
}

// axis maps values to 0..1.
type axis struct {
	low, high   float64
	logarithmic bool
}

func (a axis) share(v float64) float64 {
	if a.logarithmic {
		return (math.Log10(v) - math.Log10(a.low)) / (math.Log10(a.high) - math.Log10(a.low))
	}
	return (v - a.low) / (a.high - a.low)
}

// newPlot draws lines over common places x in [0, 1]; text writes a value.
func newPlot(title, note string, x []float64, labels []string, lines []curveLine, y axis, text func(float64) string) plot {
	p := plot{
		Title: title, Note: note, Width: plotOuterW, Height: plotOuterH,
		Left: plotLeft, Top: plotTop, Right: plotLeft + plotWidth, Bottom: plotTop + plotHeight,
		Hover: hover{At: []float64{}, Labels: labels, Names: []string{}, Values: [][]string{}},
	}
	for _, v := range x {
		p.Hover.At = append(p.Hover.At, round(plotLeft+v*plotWidth))
	}
	for _, l := range lines {
		texts := make([]string, len(labels))
		var path strings.Builder
		pen := "M"
		for i, v := range l.values {
			if math.IsNaN(v) {
				pen = "M"
				continue
			}
			texts[i] = text(v)
			down := round(plotTop + plotHeight*(1-y.share(v)))
			fmt.Fprintf(&path, "%s%v %v", pen, p.Hover.At[i], down)
			if pen == "M" { // a lone point is drawn by the line's round caps
				path.WriteString("h0")
			}
			pen = "L"
		}
		p.Lines = append(p.Lines, plotLine{l.name, l.class, path.String()})
		p.Hover.Names = append(p.Hover.Names, l.name)
		p.Hover.Values = append(p.Hover.Values, texts)
	}
	for _, v := range y.ticks() {
		p.YTicks = append(p.YTicks, tick{round(plotTop + plotHeight*(1-y.share(v))), text(v)})
	}
	return p
}

func round(v float64) float64 { return math.Round(v*10) / 10 }

// logAxis spans positive values from a power of ten to another.
func logAxis(lines []curveLine) axis {
	low, high := math.Inf(1), 0.0
	for _, l := range lines {
		for _, v := range l.values {
			if v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	if high == 0 {
		low, high = 1, 10
	}
	bottom, top := math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high)))
	if top <= bottom {
		top = bottom * 10
	}
	return axis{bottom, top, true}
}

// linearAxis spans from 0 to a round number at or above all values.
func linearAxis(lines []curveLine) axis {
	high := 0.0
	for _, l := range lines {
		for _, v := range l.values {
			if v > high { // and so no NaN
				high = v
			}
		}
	}
	if high == 0 {
		high = 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(high)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*unit >= high {
			return axis{0, m * unit, false}
		}
	}
	return axis{0, 10 * unit, false}
}

func (a axis) ticks() []float64 {
	var at []float64
	if !a.logarithmic {
		for i := range 6 {
			at = append(at, a.low+(a.high-a.low)*float64(i)/5)
		}
		return at
	}
	fine := math.Log10(a.high)-math.Log10(a.low) < 2.5
	for v := a.low; v <= a.high*1.0001; v *= 10 {
		at = append(at, v)
		if fine && v*5 < a.high {
			at = append(at, v*2, v*5)
		}
	}
	return at
}

// positive turns a figure that is 0 for want of times into a gap.
func positive(us int64) float64 {
	if us <= 0 {
		return math.NaN()
	}
	return float64(us)
}

// latencyPlot shows latency over the time of the run.
func (r Report) latencyPlot() plot {
	x, labels, ticks := r.timeAxis()
	lines := []curveLine{{name: "max", class: "a"}, {name: "p99", class: "b"}, {name: "p50", class: "c"}}
	for _, p := range r.Series {
		for i, us := range []int64{p.Max, p.P99, p.P50} {
			lines[i].values = append(lines[i].values, positive(us))
		}
	}
	p := newPlot("Latency over time", "of answers, from their intended time; at the moment when they were due",
		x, labels, lines, logAxis(lines), func(v float64) string { return micros(int64(v)) })
	p.XTicks = ticks
	return p
}

// ratePlot shows what was due and what became of it over the time of the run.
func (r Report) ratePlot() plot {
	x, labels, ticks := r.timeAxis()
	lines := []curveLine{
		{name: "scheduled", class: "d"}, {name: "answered", class: "c"}, {name: "cold starts", class: "b"}, {name: "errors and dropped", class: "a"},
	}
	seconds := micro(r.Step).Seconds()
	for _, p := range r.Series {
		for i, n := range []uint64{p.Scheduled, p.Answered, p.Cold, p.Errors + p.Dropped} {
			lines[i].values = append(lines[i].values, float64(n)/seconds)
		}
	}
	p := newPlot("Rates", "requests a second, at the moment when they were due", x, labels, lines, linearAxis(lines),
		func(v float64) string { return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64) + "/s" })
	p.XTicks = ticks
	return p
}

// timeAxis places the points of the series at their middles.
func (r Report) timeAxis() (x []float64, labels []string, ticks []tick) {
	whole := float64(int64(len(r.Series)) * r.Step)
	x, labels = []float64{}, []string{}
	for _, p := range r.Series {
		x = append(x, (float64(p.At)+float64(r.Step)/2)/whole)
		labels = append(labels, fmt.Sprintf("%s to %s", micros(p.At), micros(p.At+r.Step)))
	}
	for every, i := tickStep(micro(int64(whole))), 0; ; i++ {
		t := time.Duration(i) * every
		at := float64(t.Microseconds()) / whole
		if !(at < 1) { // also when there is no whole
			break
		}
		ticks = append(ticks, tick{round(plotLeft + plotWidth*at), t.String()})
	}
	return x, labels, ticks
}

// tickStep is a round length of which at most ten fit into the whole.
func tickStep(whole time.Duration) time.Duration {
	for _, s := range steps {
		if whole <= 10*s {
			return s
		}
	}
	day := 24 * time.Hour
	return (whole/(10*day) + 1) * day
}

// curvePlot shows the distributions of latency; the axis of the quantiles gives
// each further nine the same room.
func (r Report) curvePlot() plot {
	lines := []curveLine{{name: "all", class: "d"}, {name: "warm", class: "c"}, {name: "cold", class: "b"}}
	curves := [][]CurvePoint{r.Curves.Latency, r.Curves.Warm, r.Curves.Cold}
	longest := 0
	for i, curve := range curves {
		longest = max(longest, len(curve))
		for _, p := range curve {
			lines[i].values = append(lines[i].values, positive(p.Latency))
		}
	}
	x, labels := []float64{}, []string{}
	var ticks []tick
	for i := range longest {
		at := float64(i) / float64(max(1, longest-1))
		q := quantileText(float64(i) / curvePerDecade)
		x, labels = append(x, at), append(labels, q)
		if i%curvePerDecade == 0 { // 0, 90 %, 99 %, ...
			ticks = append(ticks, tick{round(plotLeft + plotWidth*at), q})
		}
	}
	if median := math.Log10(2) * curvePerDecade / float64(longest-1); median < 1 {
		ticks = append(ticks, tick{round(plotLeft + plotWidth*median), "50 %"})
	}
	p := newPlot("Distribution", "of latency; a line ends at its maximum, which stands for the last of so many answers",
		x, labels, lines, logAxis(lines), func(v float64) string { return micros(int64(v)) })
	p.XTicks = ticks
	return p
}

// quantileText writes 1-10^-x as a percentage with as many digits as it takes.
func quantileText(x float64) string {
	return strconv.FormatFloat(100*(1-tenth(x)), 'f', max(0, int(math.Ceil(x))-2), 64) + " %"
}
