package main

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/lipgloss"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/regions/law"
)

// Bounds of what is drawn, in cells and lines.
const (
	nameWidth   = 16 // of a service
	leastCell   = 7  // of what happens to a service in a region
	mostCell    = 16
	totalsWidth = 34 // of a service's totals
	leastLog    = 5  // lines of log that services leave room for
	mostTrouble = 4
)

// View implements tea.Model: never more lines than the terminal has, and none
// that is wider, so that nothing wraps or scrolls.
func (o overview) View() string {
	p := newPalette()
	lines := []string{o.title(p), ""}
	lines = append(lines, o.regionLines(p)...)
	lines = append(lines, o.troubleLines(p)...)
	lines = append(lines, "")
	room := o.height - len(lines) - 1 // for the keys
	if o.curl {
		lines = append(lines, o.curlPane(p, room)...)
	} else {
		lines = append(lines, o.serviceLines(p, room-1-min(leastLog, len(o.lines)))...)
	}
	lines = append(lines, "")
	room = o.height - len(lines) - 1
	for _, l := range o.lines[max(0, len(o.lines)-max(room, 0)):] {
		lines = append(lines, o.logLine(p, l))
	}
	for len(lines) < o.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:max(0, o.height-1)], p.faint.Render("q stop everything · c curl lines · ↑↓ services   ● warm ○ starting → passed on"))
	for i, line := range lines {
		lines[i] = lipgloss.NewStyle().MaxWidth(max(1, o.width)).Render(line)
	}
	return strings.Join(lines, "\n")
}

func (o overview) title(p palette) string {
	var sum gateway.Totals
	warm := 0
	for _, s := range o.statuses {
		for _, service := range s.Services {
			sum.Requests += service.Totals.Requests
			sum.Cold += service.Totals.Cold
			warm += ready(service)
		}
	}
	return p.title.Render("polder up") + p.faint.Render(fmt.Sprintf("  %d regions · %d services · %d warm · %d requests · %d cold starts",
		len(o.members), len(o.services), warm, sum.Requests, sum.Cold))
}

func (o overview) regionLines(p palette) []string {
	lines := []string{p.faint.Render(fmt.Sprintf("%-8s %-21s %-11s %-8s %9s %8s %8s", "REGION", "HTTPS", "ENVOY", "PEERS", "REQUESTS", "A SECOND", "REJECTED"))}
	for i, m := range o.members {
		s := o.statuses[i]
		state, style := s.Envoy.State, p.good
		switch {
		case s.PID == 0:
			state, style = "not there", p.bad
		case !s.Serving():
			style = p.warn
		}
		rejected := 0
		for _, n := range s.Nodes {
			rejected += len(n.Rejections)
		}
		count := p.plain
		if rejected > 0 {
			count = p.bad
		}
		lines = append(lines, fmt.Sprintf("%s %-21s %s %-8s %9d %8.1f ", pad(m.Layout.Name(), 8), m.Listen.HTTPS,
			style.Render(pad(state, 11)), peersOf(s), requests(s), o.rates[i])+count.Render(fmt.Sprintf("%8d", rejected)))
	}
	return lines
}

func (o overview) troubleLines(p palette) []string {
	var lines []string
	all := troubles(o.statuses)
	for i, t := range all {
		if i == mostTrouble {
			lines = append(lines, p.warn.Render(fmt.Sprintf("! %d more: see polder status", len(all)-i)))
			break
		}
		lines = append(lines, p.warn.Render("! "+t.where+": "+strings.Join(strings.Fields(t.text), " ")))
	}
	if len(lines) > 0 {
		lines = append([]string{""}, lines...)
	}
	return lines
}

// serviceLines draws a row per service and a column per region: what happens
// to callers there. If room does not do, it shows the services around the
// chosen one. The last line is why it is as it is.
func (o overview) serviceLines(p palette, room int) []string {
	width := leastCell
	if len(o.members) > 0 {
		width = max(leastCell, min(mostCell, (o.width-nameWidth-totalsWidth)/len(o.members)-1))
	}
	rows := max(1, min(room-2, len(o.services)))
	first := max(0, min(o.chosen-rows/2, len(o.services)-rows))
	head := "SERVICE"
	if rows < len(o.services) {
		head = fmt.Sprintf("%d–%d OF %d", first+1, first+rows, len(o.services))
	}
	header := pad(head, nameWidth)
	for _, m := range o.members {
		header += " " + pad(m.Layout.Name(), width)
	}
	lines := []string{p.faint.Render(header + fmt.Sprintf(" %9s %7s %7s %7s", "REQUESTS", "COLD", "STARTS", "FAILED"))}
	for i := first; i < first+rows && i < len(o.services); i++ {
		lines = append(lines, o.serviceRow(p, i, width))
	}
	if why := o.why(); why != "" {
		lines = append(lines, p.faint.Render(why))
	}
	return lines
}

func (o overview) serviceRow(p palette, i, width int) string {
	name := o.services[i]
	var totals gateway.Totals
	style := p.plain
	if i == o.chosen {
		style = p.chosen
	}
	row := style.Render(pad(string(name), nameWidth))
	for _, s := range o.statuses {
		service, known := find(s, name)
		totals.Requests += service.Totals.Requests
		totals.Cold += service.Totals.Cold
		totals.Starts += service.Totals.Starts
		totals.Failed += service.Totals.Failed
		text, style := cell(p, service, known, width)
		row += " " + style.Render(pad(text, width))
	}
	failed := p.plain
	if totals.Failed > 0 {
		failed = p.bad
	}
	return row + fmt.Sprintf(" %9d %7d %7d ", totals.Requests, totals.Cold, totals.Starts) + failed.Render(fmt.Sprintf("%7d", totals.Failed))
}

// cell says in a few letters what happens to a service's callers in a region:
// a dot for each ready instance, a ring for each that starts or ends.
func cell(p palette, s gateway.ServiceStatus, known bool, width int) (string, lipgloss.Style) {
	switch {
	case !known:
		return "-", p.faint
	case s.Verdict == law.Pass:
		return "→ " + string(s.Targets[0]), p.faint
	case s.Verdict == law.Forbidden:
		return "refused", p.faint
	case s.Verdict == law.Unavailable:
		return "unavailable", p.bad
	case len(s.Instances) == 0 && s.Failure != "":
		return "failing", p.bad
	case len(s.Instances) == 0 && s.Waiting == 0 && s.Decision == "":
		return "routed", p.faint // its endpoints are not ours to start
	case len(s.Instances) == 0 && s.Waiting == 0:
		return "asleep", p.faint
	}
	n := ready(s)
	text := strings.Repeat("●", n) + strings.Repeat("○", len(s.Instances)-n)
	if len(s.Instances) > width-4 {
		text = fmt.Sprintf("● × %d", n)
	}
	if s.Waiting > 0 {
		text += fmt.Sprintf(" %d wait", s.Waiting)
	}
	if n == 0 || s.Saturated != "" {
		return text, p.warn
	}
	return text, p.good
}

func ready(s gateway.ServiceStatus) (n int) {
	for _, i := range s.Instances {
		if i.State == polder.Ready {
			n++
		}
	}
	return n
}

// why is the reason for the state of the chosen service, where it is served.
func (o overview) why() string {
	if o.chosen >= len(o.services) {
		return ""
	}
	name := o.services[o.chosen]
	for _, s := range o.statuses {
		service, _ := find(s, name)
		reason := service.Decision
		if service.Saturated != "" {
			reason = "busy: " + service.Saturated
		}
		if service.Failure != "" {
			reason = service.Failure
		}
		if reason != "" {
			return fmt.Sprintf("%s in %s: %s", name, s.Region, firstLine(reason))
		}
	}
	return ""
}

// curlPane gives the lines to call the chosen service with, each broken where
// a shell lets it be, so that it can be copied from a narrow terminal.
func (o overview) curlPane(p palette, room int) []string {
	if o.chosen >= len(o.services) {
		return []string{p.faint.Render("no region answers yet")}
	}
	name := o.services[o.chosen]
	lines := []string{p.faint.Render(fmt.Sprintf("Lines for a second terminal that call %s (↑↓ for other services, c for all of them)", name)), ""}
	for i, m := range o.members {
		service, known := find(o.statuses[i], name)
		if !known || len(service.Hosts) == 0 {
			continue
		}
		more := append([]string{p.faint.Render("# " + expectation(o.statuses[i], name))},
			broken(m.Curl(shortest(o.root), callable(service.Hosts[0])), o.width)...)
		if len(lines)+len(more) > room {
			return append(lines, p.faint.Render("# more lines than fit here: make the window larger"))
		}
		lines = append(lines, more...)
	}
	return lines
}

// broken breaks a shell's command at blanks into lines of a width.
func broken(command string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(command) {
		switch {
		case line == "":
			line = word
		case lipgloss.Width(line)+1+lipgloss.Width(word)+2 <= width:
			line += " " + word
		default:
			lines, line = append(lines, line+" \\"), "  "+word
		}
	}
	return append(lines, line)
}

func (o overview) logLine(p palette, l logLine) string {
	style := p.plain
	switch l.level {
	case "WARN":
		style = p.warn
	case "ERROR":
		style = p.bad
	case "DEBUG":
		style = p.faint
	}
	return p.faint.Render(pad(l.clock, 8)+" "+pad(string(l.region), 4)) + " " + style.Render(l.text)
}

// pad makes a text exactly so many cells wide.
func pad(text string, width int) string {
	if lipgloss.Width(text) > width {
		runes := []rune(text)
		for lipgloss.Width(string(runes)) > width-1 {
			runes = runes[:len(runes)-1]
		}
		text = string(runes) + "…"
	}
	return text + strings.Repeat(" ", width-lipgloss.Width(text))
}
