package main

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/fleet"
)

// keptLines is how many lines of log the overview keeps, the newest.
const keptLines = 200

// smooth is the share of the newest poll in a rate: load reports come once a
// second, and rates should not flicker.
const smooth = 0.3

// overview is the state of the screen. bubbletea calls it from one goroutine.
type overview struct {
	members  []fleet.Member
	root     string
	statuses []gateway.Status // by member; PID 0 while it does not answer
	rates    []float64        // requests a second, by member
	seen     time.Time        // of the newest answers
	services []polder.ServiceName
	chosen   int // of services
	curl     bool
	lines    []logLine
	width    int // of the terminal, in cells
	height   int
}

// logLine is a line of a region's log, taken apart.
type logLine struct {
	region string // of its peer; "" for the fleet's own
	clock  string // "15:04:05"
	level  string
	text   string
}

// polled is a round of answers.
type polled struct {
	statuses []gateway.Status
	at       time.Time
}

func newOverview(members []fleet.Member, root string) overview {
	return overview{
		members: members, root: root, width: 80, height: 24, // until the terminal tells
		statuses: make([]gateway.Status, len(members)), rates: make([]float64, len(members)),
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
		case "esc":
			o.curl = false
		case "up", "k":
			o.choose(o.chosen - 1)
		case "down", "j":
			o.choose(o.chosen + 1)
		case "pgup":
			o.choose(o.chosen - 10)
		case "pgdown":
			o.choose(o.chosen + 10)
		case "home":
			o.choose(0)
		case "end":
			o.choose(len(o.services))
		}
	case tea.WindowSizeMsg:
		o.width, o.height = m.Width, m.Height
	case upEvent:
		o.lines = append(o.lines, parseLogLine(m))
		if extra := len(o.lines) - keptLines; extra > 0 {
			o.lines = slices.Clone(o.lines[extra:])
		}
	case polled:
		o.take(m)
	}
	return o, nil
}

func (o *overview) choose(i int) { o.chosen = max(0, min(i, len(o.services)-1)) }

// take takes a round of answers in. The choice stays on its service.
func (o *overview) take(m polled) {
	elapsed := m.at.Sub(o.seen).Seconds()
	rates := make([]float64, len(m.statuses))
	for i := range m.statuses {
		before, now := requests(o.statuses[i]), requests(m.statuses[i])
		// A region that was started anew counts from 0 again.
		if o.statuses[i].PID != 0 && o.statuses[i].PID == m.statuses[i].PID && now >= before && elapsed > 0 {
			rates[i] = (1-smooth)*o.rates[i] + smooth*float64(now-before)/elapsed
		}
	}
	var chosen polder.ServiceName
	if o.chosen < len(o.services) {
		chosen = o.services[o.chosen]
	}
	o.statuses, o.rates, o.seen = m.statuses, rates, m.at
	o.services = o.services[:0:0]
	for _, name := range namesOf(o.statuses) {
		o.services = append(o.services, polder.ServiceName(name))
	}
	o.choose(max(0, slices.Index(o.services, chosen)))
}

func requests(s gateway.Status) (n uint64) {
	for _, service := range s.Services {
		n += service.Totals.Requests
	}
	return n
}

func find(s gateway.Status, name polder.ServiceName) (gateway.ServiceStatus, bool) {
	for _, service := range s.Services {
		if service.Service == name {
			return service, true
		}
	}
	return gateway.ServiceStatus{}, false
}

// parseLogLine takes slog's "time=… level=… msg=… key=…" apart. Other text is
// shown as it is, but for what would move the cursor.
func parseLogLine(e upEvent) logLine {
	l := logLine{region: e.Region, text: e.Line}
	rest, ok := strings.CutPrefix(e.Line, "time=")
	at, rest, found := strings.Cut(rest, " level=")
	level, rest, more := strings.Cut(rest, " msg=")
	moment, err := time.Parse(time.RFC3339Nano, at)
	if ok && found && more && err == nil {
		l.clock, l.level, l.text = moment.Format(time.TimeOnly), level, rest
		if quoted, err := strconv.QuotedPrefix(rest); err == nil {
			if text, err := strconv.Unquote(quoted); err == nil {
				l.text = text + rest[len(quoted):]
			}
		}
	}
	l.text = strings.Replace(l.text, " region="+string(e.Region)+" ", " ", 1) // it stands before the line
	l.text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, l.text)
	return l
}

// Styles. Without colours nothing is lost: every state is a word or a sign too.
type palette struct{ plain, title, faint, good, bad, warn, chosen lipgloss.Style }

func newPalette() palette {
	p := palette{plain: lipgloss.NewStyle()}
	p.title, p.faint = p.plain.Bold(true), p.plain.Faint(true)
	p.good, p.warn, p.bad = p.plain.Foreground(lipgloss.Color("2")), p.plain.Foreground(lipgloss.Color("3")), p.plain.Foreground(lipgloss.Color("1"))
	p.chosen = p.plain.Reverse(true)
	return p
}
