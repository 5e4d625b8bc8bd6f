package gossip

import (
	"bytes"
	"log"
	"log/slog"
	"sync"
	"time"
)

// throttle logs warnings, but never more than a few of one kind in a while: a
// partition or a wrong key makes memberlist complain several times a second for
// as long as it lasts. The message is the kind, so messages must be constants;
// what varies goes into args. It is safe for concurrent use.
type throttle struct {
	log *slog.Logger

	mu    sync.Mutex
	kinds map[string]window
}

type window struct {
	began    time.Time
	lines    int
	withheld int
}

const (
	throttleWindow = 10 * time.Second
	throttleLines  = 3
)

func (t *throttle) warn(message string, args ...any) {
	withheld, ok := t.admit(message, time.Now())
	if !ok {
		return
	}
	if withheld > 0 {
		args = append(args, "withheld", withheld)
	}
	t.log.Warn(message, args...)
}

// admit tells whether a line may be logged now, and how many of its kind were
// not since the last one.
func (t *throttle) admit(kind string, now time.Time) (withheld int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.kinds[kind]
	if now.Sub(w.began) >= throttleWindow {
		w.began, w.lines = now, 0
	}
	w.lines++
	if w.lines > throttleLines {
		w.withheld++
	} else {
		withheld, ok = w.withheld, true
		w.withheld = 0
	}
	if t.kinds == nil {
		t.kinds = map[string]window{}
	}
	t.kinds[kind] = w
	return withheld, ok
}

// libraryLog turns memberlist's lines into ours. Its errors are warnings here:
// nothing that happens to one packet or stream stops a membership. Lines about
// keys also count, because memberlist tells of them in no other way.
type libraryLog struct {
	log     *slog.Logger
	count   *counters
	report  *throttle
	accused func() // called when the own peer was accused, which memberlist tells in no other way
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
	if bytes.HasPrefix(text, []byte("Refuting ")) && l.accused != nil {
		l.accused()
	}
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
