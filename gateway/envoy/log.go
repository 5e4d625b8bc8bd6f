package envoy

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/polder/polder/prewarm/instance/process"
)

// logFormat is spdlog's for "TIME LEVEL COMPONENT TEXT", one line each, with
// --log-format-escaped.
const (
	logFormat = "%Y-%m-%dT%T.%e%z %l %n %v"
	logTime   = "2006-01-02T15:04:05.000Z07:00"
)

const (
	mostLog   = 8 << 20          // bytes of the log file before it is rotated
	rotation  = 10 * time.Second // how often that is looked at
	logWindow = 10 * time.Second
	mostLines = 500  // handed on in one window
	mostWords = 1000 // bytes of Envoy's words in an error
)

// line is one line of Envoy's log.
type line struct {
	time      time.Time
	level     slog.Level
	component string
	text      string
}

// parseLine reads a line of logFormat. What Envoy says of its own workings at
// level info is our debug.
func parseLine(text string) (line, bool) {
	parts := strings.SplitN(text, " ", 4)
	if len(parts) < 4 {
		return line{}, false
	}
	at, err := time.Parse(logTime, parts[0])
	if err != nil {
		return line{}, false
	}
	l := line{time: at, component: parts[2], text: unescape(parts[3])}
	switch parts[1] {
	case "trace", "debug", "info":
		l.level = slog.LevelDebug
	case "warning":
		l.level = slog.LevelWarn
	case "error", "critical":
		l.level = slog.LevelError
	default:
		return line{}, false
	}
	return l, true
}

func unescape(text string) string {
	return strings.NewReplacer(`\\`, `\`, `\'`, `'`, `\"`, `"`, `\n`, "\n", `\r`, "\r", `\t`, "\t").Replace(text)
}

// merger hands Envoy's lines on to our log, up to a bound in each window of
// time. One goroutine uses it.
type merger struct {
	log     *slog.Logger
	began   time.Time // of the window
	handed  int
	dropped int
}

func (m *merger) merge(ctx context.Context, text string, now time.Time) {
	if now.Sub(m.began) >= logWindow {
		if m.dropped > 0 {
			m.log.Warn("Envoy wrote more than is merged into this log; its log file has it all", "dropped", m.dropped)
		}
		m.began, m.handed, m.dropped = now, 0, 0
	}
	l, ok := parseLine(text)
	if !ok { // stderr of something beside Envoy's log, or a repetition of its last words
		l = line{time: now, level: slog.LevelDebug, text: text}
	}
	if !m.log.Enabled(ctx, l.level) {
		return
	}
	if m.handed == mostLines {
		m.dropped++
		return
	}
	m.handed++
	record := slog.NewRecord(l.time, l.level, "Envoy: "+l.text, 0)
	if l.component != "" {
		record.AddAttrs(slog.String("component", l.component))
	}
	if err := m.log.Handler().Handle(ctx, record); err != nil {
		m.dropped++
	}
}

// follow merges the log file until ctx ends, from its start or only what is new.
func (s *Supervisor) follow(ctx context.Context, onlyNew bool) {
	m := &merger{log: s.log}
	merge := func(text []byte) { m.merge(context.WithoutCancel(ctx), string(text), time.Now()) }
	var err error
	if onlyNew {
		err = process.TailLast(ctx, s.logFile(), 0, merge)
	} else {
		err = process.Tail(ctx, s.logFile(), merge)
	}
	if err != nil {
		s.log.Warn("Envoy's log is not merged into this one any more: read its file", "file", s.logFile(), "error", err)
	}
}

// words is what Envoy said of its end: its last errors since it began, or, where
// it wrote none, its last line.
func (s *Supervisor) words(began time.Time) string {
	lines, err := process.ReadLast(s.logFile(), 200)
	if err != nil {
		return err.Error()
	}
	var said []string
	for _, text := range lines {
		l, ok := parseLine(text)
		if ok && l.level >= slog.LevelError && !l.time.Before(began.Truncate(time.Millisecond)) {
			said = append(said, reason(l.text))
		}
	}
	switch {
	case len(said) > 0:
		return shorten(said[len(said)-1])
	case len(lines) > 0:
		return shorten(lines[len(lines)-1])
	}
	return fmt.Sprintf("it wrote nothing to %s", s.logFile())
}

// reason cuts the reason out of Envoy's "error `REASON` initializing config
// 'FILE'".
func reason(text string) string {
	_, rest, found := strings.Cut(text, "error `")
	inner, _, closed := strings.Cut(rest, "` initializing config")
	if found && closed {
		text = inner
	}
	return strings.Join(strings.Fields(text), " ")
}

// shorten keeps beginning and end, where Envoy puts what matters around a dump
// of the whole configuration.
func shorten(text string) string {
	if len(text) <= mostWords {
		return text
	}
	return strings.ToValidUTF8(text[:mostWords/3], "") + " … " + strings.ToValidUTF8(text[len(text)-2*mostWords/3:], "")
}
