package loadtest

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// WriteText writes the report for a terminal of at least 80 columns, with plots
// of block characters. Targets beyond the busiest twenty are summed up in a line.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	r.writeHead(&b)
	r.writeCounts(&b)
	writeLatencies(&b, r.Total)
	r.writeBars(&b)
	r.writeTimeline(&b)
	r.writeTargets(&b)
	r.writeReasons(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Report) writeHead(b *strings.Builder) {
	if r.Description != "" {
		fmt.Fprintf(b, "%s\n", r.Description)
	}
	fmt.Fprintf(b, "%d requests to %d targets in %s, from %s\n",
		r.Total.Sent, len(r.Targets), micros(r.Elapsed), r.Started.Format("2006-01-02 15:04:05 MST"))
	if r.Stopped {
		fmt.Fprintf(b, "stopped before the plan of %d requests in %s was over\n", r.Planned, micros(r.Length))
	}
	b.WriteByte('\n')
}

func (r Report) writeCounts(b *strings.Builder) {
	t := r.Total
	line := func(title string, format string, args ...any) {
		fmt.Fprintf(b, "  %-12s "+format+"\n", append([]any{title}, args...)...)
	}
	unsent := ""
	if t.Abandoned > 0 {
		unsent = fmt.Sprintf(", %d abandoned at the stop", t.Abandoned)
	}
	line("sent", "%d of %d scheduled, %d dropped%s; %d late (by more than %v)", t.Sent, t.Scheduled, t.Dropped, unsent, t.Late, LateAfter)
	line("answered", "%d (%s)%s", t.Answered, counted(t.Status), ifAny(", %d interrupted at the stop", t.Interrupted))
	line("errors", "%d (%s of those sent), of which %d without an answer", t.Errors, percentText(t.Errors, t.Sent), t.Failed)
	line("cold starts", "%d (%s of answers)", t.ColdStarts, percentText(t.ColdStarts, t.Answered))
	line("connections", "%d opened, %d requests sent again; %s", t.Connections, t.Retries, counted(t.Protocols))
	b.WriteByte('\n')
}

func ifAny(format string, n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(format, n)
}

// counted lists a map of counts by key: "2xx 10, 5xx 1".
func counted(counts map[string]uint64) string {
	var parts []string
	for key, n := range counts {
		parts = append(parts, fmt.Sprintf("%s %d", key, n))
	}
	if len(parts) == 0 {
		return "none"
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func percentText(part, of uint64) string { return fmt.Sprintf("%.3g %%", percent(part, of)) }

func writeLatencies(b *strings.Builder, t Summary) {
	rows := [][]string{{"", "count", "p50", "p90", "p99", "p99.9", "max"}}
	for _, kind := range []struct {
		name string
		q    Quantiles
	}{{"latency", t.Latency}, {"  warm", t.Warm}, {"  cold", t.Cold}, {"failures", t.Failure}, {"lag", t.Lag}} {
		if kind.q.Count == 0 {
			continue
		}
		row := []string{kind.name, fmt.Sprint(kind.q.Count), "", "", "", "", micros(kind.q.Max)}
		figures := kind.q.figures(kind.q.Count)
		for i, q := range figures[:len(figures)-1] {
			row[2+i] = micros(q.us)
		}
		rows = append(rows, row)
	}
	if len(rows) == 1 {
		return
	}
	writeTable(b, rows, "lrrrrrr", "  ")
	b.WriteString("  latency counts from the intended time; lag is how late requests left\n\n")
}

// barWidth is the length of the longest bar in characters.
const barWidth = 40

// writeBars plots warm and cold quantiles on a common logarithmic scale.
func (r Report) writeBars(b *strings.Builder) {
	type bar struct {
		name string
		us   int64
	}
	var bars []bar
	for _, kind := range []struct {
		name string
		q    Quantiles
	}{{"warm", r.Total.Warm}, {"cold", r.Total.Cold}} {
		if kind.q.Count == 0 {
			continue
		}
		for _, q := range kind.q.figures(kind.q.Count) {
			bars = append(bars, bar{kind.name + " " + q.name, q.us})
		}
	}
	if len(bars) == 0 {
		return
	}
	low, high := int64(math.MaxInt64), int64(1)
	for _, bar := range bars {
		low, high = min(low, max(bar.us, 1)), max(high, bar.us)
	}
	// The scale begins half a decade below the least, so that no bar is empty.
	bottom := math.Log10(float64(low)) - 0.5
	for _, bar := range bars {
		share := (math.Log10(float64(max(bar.us, 1))) - bottom) / (math.Log10(float64(high)) - bottom)
		fmt.Fprintf(b, "  %-10s %9s %s\n", bar.name, micros(bar.us), blocks(share, barWidth))
	}
	b.WriteString("  (logarithmic)\n\n")
}

// blocks draws a horizontal bar in eighths of a character.
func blocks(share float64, width int) string {
	const eighths = " ▏▎▍▌▋▊▉█"
	n := int(math.Round(min(max(share, 0), 1) * float64(8*width)))
	bar := strings.Repeat("█", n/8)
	if rest := n % 8; rest > 0 {
		bar += string([]rune(eighths)[rest])
	}
	return bar
}

// writeTimeline draws rates, latency and trouble over the time of the run.
func (r Report) writeTimeline(b *strings.Builder) {
	if len(r.Series) < 2 {
		return
	}
	const width = 60
	for _, row := range []struct {
		name  string
		value func(Point) float64
		text  func(float64) string
	}{
		{"requests", func(p Point) float64 { return float64(p.Scheduled) / micro(r.Step).Seconds() }, rateText},
		{"p50", func(p Point) float64 { return float64(p.P50) }, func(v float64) string { return micros(int64(v)) }},
		{"p99", func(p Point) float64 { return float64(p.P99) }, func(v float64) string { return micros(int64(v)) }},
		{"cold starts", func(p Point) float64 { return float64(p.Cold) }, func(v float64) string { return fmt.Sprintf("%.0f", v) }},
		{"errors, dropped", func(p Point) float64 { return float64(p.Errors + p.Dropped) }, func(v float64) string { return fmt.Sprintf("%.0f", v) }},
	} {
		values := make([]float64, len(r.Series))
		for i, p := range r.Series {
			values[i] = row.value(p)
		}
		if most := slices.Max(values); most > 0 {
			fmt.Fprintf(b, "  %-15s %s  up to %s\n", row.name, sparkline(values, width), row.text(most))
		}
	}
	fmt.Fprintf(b, "  %-15s %s in steps of %s\n\n", "", micros(r.Length), micros(r.Step))
}

// sparkline draws values as columns; where there are more values than columns a
// column shows the largest of its values. A value above 0 is never drawn as 0.
func sparkline(values []float64, width int) string {
	columns := []rune(" ▁▂▃▄▅▆▇█")
	width = min(width, len(values))
	most := slices.Max(values)
	var line strings.Builder
	for i := range width {
		v := slices.Max(values[i*len(values)/width : (i+1)*len(values)/width])
		level := 0
		if v > 0 {
			level = max(1, int(math.Round(v/most*8)))
		}
		line.WriteRune(columns[level])
	}
	return line.String()
}

// shownTargets bounds the table of targets.
const shownTargets = 20

func (r Report) writeTargets(b *strings.Builder) {
	if len(r.Targets) < 2 {
		return
	}
	targets := slices.Clone(r.Targets)
	slices.SortStableFunc(targets, func(a, b TargetReport) int {
		return int(int64(b.Scheduled) - int64(a.Scheduled))
	})
	rows := [][]string{{"target", "sent", "errors", "cold", "p50", "p99", "max"}}
	for _, t := range targets[:min(len(targets), shownTargets)] {
		row := []string{t.Name, fmt.Sprint(t.Sent), fmt.Sprint(t.Errors), fmt.Sprint(t.ColdStarts)}
		if t.Latency.Count > 0 {
			row = append(row, micros(t.Latency.P50), micros(t.Latency.P99), micros(t.Latency.Max))
		}
		rows = append(rows, row)
	}
	writeTable(b, rows, "lrrrrrr", "  ")
	if rest := len(targets) - shownTargets; rest > 0 {
		fmt.Fprintf(b, "  and %d targets with fewer requests\n", rest)
	}
	b.WriteByte('\n')
}

func (r Report) writeReasons(b *strings.Builder) {
	for i, reason := range r.Total.Reasons {
		if i == 10 {
			fmt.Fprintf(b, "  and %d other reasons of failures\n", len(r.Total.Reasons)-i)
			break
		}
		fmt.Fprintf(b, "  %d × %s\n", reason.Count, reason.Text)
	}
}

// writeTable writes rows in columns, each aligned to the left or the right as
// the letters l and r say.
func writeTable(b *strings.Builder, rows [][]string, align, indent string) {
	widths := make([]int, len(align))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				line.WriteString("  ")
			}
			if align[i] == 'r' {
				line.WriteString(gap + cell)
			} else {
				line.WriteString(cell + gap)
			}
		}
		b.WriteString(indent + strings.TrimRight(line.String(), " ") + "\n")
	}
}

// micro turns microseconds into a duration.
func micro(us int64) time.Duration { return time.Duration(us) * time.Microsecond }

// micros writes microseconds to three digits, in the unit that suits them.
func micros(us int64) string {
	d := micro(us)
	switch {
	case us < 1000:
		return fmt.Sprintf("%d µs", us)
	case d < time.Second:
		return three(float64(us)/1e3) + " ms"
	case d < 2*time.Minute:
		return three(d.Seconds()) + " s"
	}
	return d.Round(time.Second).String()
}

// three writes a number of 1 to 999 to three digits.
func three(v float64) string {
	switch {
	case v < 9.995:
		return fmt.Sprintf("%.2f", v)
	case v < 99.95:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
