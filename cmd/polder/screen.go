package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/fleet"
	"github.com/polder/polder/regions/law"
)

// keptLines is how many lines of log the overview keeps, the newest.
const keptLines = 200

var (
	styleTitle = lipgloss.NewStyle().Bold(true)
	styleFaint = lipgloss.NewStyle().Faint(true)
	styleGood  = lipgloss.NewStyle().Foreground(lipgloss.Color("2"))
	styleBad   = lipgloss.NewStyle().Foreground(lipgloss.Color("1"))
)

// screen is the living overview's link to the rest.
type screen struct{ program *tea.Program }

func (s *screen) event(e upEvent) { go s.program.Send(e) }

// overview is the state of the screen. bubbletea calls it from one goroutine.
type overview struct {
	members  []fleet.Member
	root     string
	statuses []gateway.Status // by member; PID 0 while it does not answer
	rates    []float64        // requests a second, by member
	seen     time.Time
	lines    []string
	curl     bool
	width    int
	height   int
}

// polled is a round of answers.
type polled struct {
	statuses []gateway.Status
	at       time.Time
}

// showLiving draws until ctx ends or the user quits.
func (v *view) showLiving(ctx context.Context, members []fleet.Member, clients []*gateway.Client, root string) error {
	model := overview{members: members, root: root, statuses: make([]gateway.Status, len(members)), rates: make([]float64, len(members))}
	program := tea.NewProgram(model, tea.WithContext(ctx), tea.WithOutput(v.out), tea.WithAltScreen())
	v.mu.Lock()
	v.screen = &screen{program}
	v.mu.Unlock()
	polling, stop := context.WithCancel(ctx)
	defer stop()
	go poll(polling, clients, program)
	_, err := program.Run()
	v.mu.Lock()
	v.screen = nil
	v.mu.Unlock()
	if errors.Is(err, tea.ErrProgramKilled) {
		return nil // ctx ended
	}
	return err
}

func poll(ctx context.Context, clients []*gateway.Client, program *tea.Program) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		round := polled{statuses: make([]gateway.Status, len(clients)), at: time.Now()}
		for i, c := range clients {
			if s, err := c.Status(ctx); err == nil {
				round.statuses[i] = s
			}
		}
		program.Send(round)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// Init implements tea.Model.
func (o overview) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (o overview) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch m := message.(type) {
	case tea.KeyMsg:
		switch m.String() {
		case "q", "ctrl+c":
			return o, tea.Quit
		case "c":
			o.curl = !o.curl
		}
	case tea.WindowSizeMsg:
		o.width, o.height = m.Width, m.Height
	case upEvent:
		o.lines = append(o.lines, strings.TrimSpace(string(m.Region)+" "+m.Line))
		if extra := len(o.lines) - keptLines; extra > 0 {
			o.lines = slices.Clone(o.lines[extra:])
		}
	case polled:
		o = o.take(m)
	}
	return o, nil
}

func (o overview) take(m polled) overview {
	elapsed := m.at.Sub(o.seen).Seconds()
	rates := make([]float64, len(m.statuses))
	for i := range m.statuses {
		before, now := requests(o.statuses[i]), requests(m.statuses[i])
		if !o.seen.IsZero() && now >= before && elapsed > 0 {
			// Load reports come once a second: smooth what would flicker.
			rates[i] = 0.7*o.rates[i] + 0.3*float64(now-before)/elapsed
		}
	}
	o.statuses, o.rates, o.seen = m.statuses, rates, m.at
	return o
}

func requests(s gateway.Status) (n uint64) {
	for _, service := range s.Services {
		n += service.Totals.Requests
	}
	return n
}

// View implements tea.Model.
func (o overview) View() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s\n\n", styleTitle.Render("polder up"), styleFaint.Render("q stops everything · c shows curl lines · root of the local authority: "+shortest(o.root)))
	o.writeRegions(&b)
	if o.curl {
		o.writeCurl(&b)
	} else {
		o.writeServices(&b)
	}
	o.writeLines(&b)
	return b.String()
}

func (o overview) writeRegions(b *strings.Builder) {
	fmt.Fprintln(b, styleFaint.Render(fmt.Sprintf("%-8s %-22s %-12s %9s %10s %8s", "REGION", "HTTPS", "ENVOY", "REQUESTS", "PER SECOND", "REJECTED")))
	for i, m := range o.members {
		s := o.statuses[i]
		state, style := s.Envoy.State, styleGood
		if s.PID == 0 {
			state = "not there"
		}
		if !serving(s) {
			style = styleBad
		}
		rejected := 0
		for _, n := range s.Nodes {
			rejected += len(n.Rejections)
		}
		fmt.Fprintf(b, "%-8s %-22s %s %9d %10.1f %8d\n", m.Region.Name, m.Listen.HTTPS,
			style.Render(fmt.Sprintf("%-12s", state)), requests(s), o.rates[i], rejected)
	}
	b.WriteByte('\n')
}

// writeServices draws a row per service and a column per region: what happens
// there, with a dot for each warm instance.
func (o overview) writeServices(b *strings.Builder) {
	header := fmt.Sprintf("%-16s", "SERVICE")
	for _, m := range o.members {
		header += fmt.Sprintf(" %-16s", m.Region.Name)
	}
	fmt.Fprintln(b, styleFaint.Render(header+fmt.Sprintf(" %9s %6s %6s %6s", "REQUESTS", "COLD", "STARTS", "FAILED")))
	for _, name := range o.services() {
		var totals gateway.Totals
		row := fmt.Sprintf("%-16s", name)
		for i := range o.members {
			service, ok := find(o.statuses[i], name)
			totals.Requests += service.Totals.Requests
			totals.Cold += service.Totals.Cold
			totals.Starts += service.Totals.Starts
			totals.Failed += service.Totals.Failed
			row += " " + cell(service, ok)
		}
		fmt.Fprintf(b, "%s %9d %6d %6d %6d\n", row, totals.Requests, totals.Cold, totals.Starts, totals.Failed)
	}
	b.WriteByte('\n')
}

func (o overview) services() []polder.ServiceName {
	var names []polder.ServiceName
	for _, s := range o.statuses {
		for _, service := range s.Services {
			if !slices.Contains(names, service.Service) {
				names = append(names, service.Service)
			}
		}
	}
	slices.Sort(names)
	return names
}

func find(s gateway.Status, name polder.ServiceName) (gateway.ServiceStatus, bool) {
	for _, service := range s.Services {
		if service.Service == name {
			return service, true
		}
	}
	return gateway.ServiceStatus{}, false
}

func cell(s gateway.ServiceStatus, known bool) string {
	const width = 16
	text, style := "-", styleFaint
	switch {
	case !known:
	case s.Verdict == law.Pass:
		text = "→ " + string(s.Targets[0])
	case s.Verdict == law.Forbidden:
		text = "refused"
	case s.Verdict == law.Unavailable:
		text, style = "unavailable", styleBad
	case len(s.Instances) == 0:
		text = "asleep"
	default:
		text, style = "", styleGood
		for _, i := range s.Instances {
			if i.State == polder.Ready {
				text += "●"
			} else {
				text += "○"
			}
		}
	}
	runes := []rune(text)
	if len(runes) > width {
		text = fmt.Sprintf("● × %d", len(runes))
		runes = []rune(text)
	}
	return style.Render(text + strings.Repeat(" ", width-len(runes)))
}

func (o overview) writeCurl(b *strings.Builder) {
	if len(o.statuses) > 0 {
		for _, line := range curlLines(o.members, o.statuses, o.root) {
			fmt.Fprintln(b, line)
		}
	}
	b.WriteByte('\n')
}

// writeLines fills what is left of the screen with the newest lines of log.
func (o overview) writeLines(b *strings.Builder) {
	room := o.height - strings.Count(b.String(), "\n") - 1
	lines := o.lines[max(0, len(o.lines)-max(room, 0)):]
	for _, line := range lines {
		runes := []rune(line)
		if o.width > 0 && len(runes) > o.width {
			line = string(runes[:o.width-1]) + "…"
		}
		fmt.Fprintln(b, styleFaint.Render(line))
	}
}
