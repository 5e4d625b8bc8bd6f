package envoy

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseLine(t *testing.T) {
	at := time.Date(2026, 11, 23, 22, 31, 13, 569e6, time.FixedZone("", 2*60*60))
	const begin = "2026-11-23T22:31:13.569+02:00 "
	for _, c := range []struct {
		text string
		want line
		ok   bool
	}{
		{begin + "info config loading 1 listener(s)", line{at, slog.LevelDebug, "config", "loading 1 listener(s)"}, true},
		{begin + "debug x a", line{at, slog.LevelDebug, "x", "a"}, true},
		{begin + "trace x a", line{at, slog.LevelDebug, "x", "a"}, true},
		{begin + "warning main caught ENVOY_SIGTERM", line{at, slog.LevelWarn, "main", "caught ENVOY_SIGTERM"}, true},
		{begin + `error config listener \'l\' failed\n\tto \"bind\" \\o/`, line{at, slog.LevelError, "config", "listener 'l' failed\n\tto \"bind\" \\o/"}, true},
		{begin + "critical backtrace Caught Segmentation fault", line{at, slog.LevelError, "backtrace", "Caught Segmentation fault"}, true},
		{begin + "info main ", line{at, slog.LevelDebug, "main", ""}, true},
		{begin + "loud main a", line{}, false},
		{begin + "info main", line{}, false},
		{"yesterday info main a", line{}, false},
		{"", line{}, false},
	} {
		got, ok := parseLine(c.text)
		if ok != c.ok || !got.time.Equal(c.want.time) || got.level != c.want.level || got.component != c.want.component || got.text != c.want.text {
			t.Errorf("parseLine(%q) = %+v, %v, want %+v, %v", c.text, got, ok, c.want, c.ok)
		}
	}
}

// TestMergerIsBounded: an Envoy that writes without end does not flood our log,
// and the log tells how much is missing.
func TestMergerIsBounded(t *testing.T) {
	var out journal
	m := &merger{log: out.logger()}
	now := time.Unix(1e9, 0)
	for n := range 3 * mostLines {
		m.merge(t.Context(), fmt.Sprint("line ", n), now)
	}
	if got := strings.Count(out.String(), "msg="); got != mostLines {
		t.Errorf("%d lines in one window, want %d", got, mostLines)
	}
	m.merge(t.Context(), "a line of the next window", now.Add(logWindow))
	for _, want := range []string{fmt.Sprintf("dropped=%d", 2*mostLines), "a line of the next window"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}

// TestMergerKeepsEnvoysTime: lines count from when Envoy wrote them.
func TestMergerKeepsEnvoysTime(t *testing.T) {
	var out journal
	m := &merger{log: out.logger()}
	m.merge(t.Context(), "2001-02-03T04:05:06.789+00:00 warning main text", time.Unix(1e9, 0))
	if want := `time=2001-02-03T04:05:06.789Z level=WARN msg="Envoy: text" component=main`; !strings.Contains(out.String(), want) {
		t.Errorf("logged %s, want %s", &out, want)
	}
}

func TestWords(t *testing.T) {
	began := time.Date(2026, 11, 23, 22, 31, 13, 569_400_000, time.UTC)
	const before, same, after = "2026-11-23T22:31:13.568+00:00 ", "2026-11-23T22:31:13.569+00:00 ", "2026-11-23T22:31:14.000+00:00 "
	long := strings.Repeat("x", 5000)
	for _, c := range []struct {
		name, log, want string
	}{
		{"nothing", "", "it wrote nothing"},
		{"the reason alone", same + `critical main error ` + "`cannot bind \\'1\\'` initializing config \\'goo.gle/debugproto  \\n f.json\\'", "cannot bind '1'"},
		{"the last of several", same + "error a one\n" + after + "critical b two\n" + after + "info c three", "two"},
		{"not of the process before", before + "critical a old\n" + after + "error b new", "new"},
		{"no error: the last line", same + "info a one\ncannot load library", "cannot load library"},
		{"a dump of the configuration", same + "critical main error `" + long + "\\n: value must be less` initializing config f", "value must be less"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Supervisor{Options: Options{Dir: t.TempDir()}}
			if err := os.WriteFile(filepath.Join(s.Dir, "envoy.log"), []byte(c.log), 0o600); err != nil {
				t.Fatal(err)
			}
			got := s.words(began)
			if c.name == "the reason alone" && got != c.want || !strings.Contains(got, c.want) || len(got) > mostWords+10 {
				t.Errorf("words = %q, want %q", got, c.want)
			}
		})
	}
}

// TestPause: an Envoy that keeps ending is started ever more slowly, up to a
// bound; one that was healthy in between is started at once.
func TestPause(t *testing.T) {
	p := newPause()
	var all time.Duration
	for n := range 20 {
		d := p.after(healthyAfter - 1)
		most := min(firstRestart<<n, slowRestart)
		if d < most*6/10 || d > most*14/10 {
			t.Errorf("pause %d is %s, want about %s", n, d, most)
		}
		all += d
	}
	if all < 5*time.Minute {
		t.Errorf("20 starts within %s", all)
	}
	if d := p.after(healthyAfter); d > 2*firstRestart {
		t.Errorf("after a healthy time the pause is %s, want about %s", d, firstRestart)
	}
}
