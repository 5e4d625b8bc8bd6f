package gossip

import (
	"bytes"
	"log"
	"log/slog"
	"sync"
	"time"
)

// throttle logs warnings, but never more than a few in a while: a partition or a
// wrong key makes memberlist complain several times a second for as long as it
// lasts. It is safe for concurrent use.
type throttle struct {
	log *slog.Logger

	mu       sync.Mutex
	window   time.Time
	lines    int
	withheld int
}

const (
	throttleWindow = 10 * time.Second
	throttleLines  = 5
)

func (t *throttle) warn(message string, args ...any) {
	t.mu.Lock()
	now := time.Now()
	if now.Sub(t.window) >= throttleWindow {
		t.window, t.lines = now, 0
	}
	t.lines++
	if t.lines > throttleLines {
		t.withheld++
		t.mu.Unlock()
		return
	}
	if t.withheld > 0 {
		args = append(args, "withheld", t.withheld)
		t.withheld = 0
	}
	t.mu.Unlock()
	t.log.Warn(message, args...)
}

// libraryLog turns memberlist's lines into ours. Its errors are warnings here:
// nothing that happens to one packet or stream stops a membership. Lines about
// keys also count, because memberlist tells of them in no other way.
type libraryLog struct {
	log    *slog.Logger
	count  *counters
	report *throttle
}

func (l *libraryLog) logger() *log.Logger { return log.New(l, "", 0) }

// Write takes one line, "[LEVEL] memberlist: text".
func (l *libraryLog) Write(line []byte) (int, error) {
	text := bytes.TrimSpace(line)
	level := []byte("INFO")
	if rest, ok := bytes.CutPrefix(text, []byte("[")); ok {
		if name, after, ok := bytes.Cut(rest, []byte("] ")); ok {
			level, text = name, after
		}
	}
	text = bytes.TrimPrefix(text, []byte("memberlist: "))
	switch {
	case bytes.Contains(text, []byte("could decrypt")) || bytes.Contains(text, []byte("not encrypted")) ||
		bytes.Contains(text, []byte("Decrypt packet failed")):
		l.count.undecryptable.Add(1)
		l.report.warn("a packet or stream with another key, or with none, was dropped; do all peers hold the same keys?",
			"detail", string(text))
	case bytes.HasPrefix(text, []byte("ignoring alive message")):
		// the delegate has said why
	case bytes.Contains(text, []byte("use of closed network connection")):
		l.log.Debug("membership", "detail", string(text)) // its last probes while we stop
	case string(level) == "ERR" || string(level) == "ERROR" || string(level) == "WARN":
		l.report.warn("membership", "detail", string(text))
	default:
		l.log.Debug("membership", "detail", string(text))
	}
	return len(line), nil
}
