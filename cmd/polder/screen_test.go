package main

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/polder/polder"
)

// What a terminal is told, in the words of xterm's control sequences.
const (
	alternateOn  = "\x1b[?1049h"
	alternateOff = "\x1b[?1049l"
	cursorOff    = "\x1b[?25l"
	cursorOn     = "\x1b[?25h"
	clearAll     = "\x1b[2J"
)

var controls = regexp.MustCompile(`\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07)`)

// terminal is a pseudo terminal with polder up on it.
type terminal struct {
	t    *testing.T
	tty  *os.File
	done chan struct{} // closed when nothing more comes

	mu  sync.Mutex
	out strings.Builder
}

func openTerminal(t *testing.T, u *fleetUnderTest) *terminal {
	t.Helper()
	u.cmd, u.ended = u.command(), make(chan struct{})
	u.cmd.Env = append(u.cmd.Env, "TERM=xterm-256color")
	tty, err := pty.StartWithSize(u.cmd, &pty.Winsize{Rows: 40, Cols: 120})
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, tty: tty, done: make(chan struct{})}
	go func() {
		defer close(term.done)
		buffer := make([]byte, 64<<10)
		for {
			n, err := tty.Read(buffer)
			term.mu.Lock()
			term.out.Write(buffer[:n])
			term.mu.Unlock()
			if err != nil { // EIO: nobody has the other side any more
				return
			}
		}
	}()
	go func() {
		defer close(u.ended)
		u.cmd.Wait()
	}()
	t.Cleanup(func() {
		tty.Close()
		if t.Failed() {
			text := controls.ReplaceAllString(term.said(0), "")
			t.Logf("the end of what the terminal was told:\n%s", text[max(0, len(text)-8000):])
		}
	})
	return term
}

// said is everything that was written from an offset on.
func (term *terminal) said(from int) string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.out.String()[from:]
}

// await waits until all words were written from the offset on, and returns the
// offset behind what there is.
func (term *terminal) await(from int, words ...string) int {
	term.t.Helper()
	eventually(term.t, "the screen shows "+strings.Join(words, ", "), func() bool {
		text := controls.ReplaceAllString(term.said(from), "")
		for _, w := range words {
			if !strings.Contains(text, w) {
				return false
			}
		}
		return true
	})
	return len(term.said(0))
}

func (term *terminal) press(key string) {
	term.t.Helper()
	if _, err := term.tty.WriteString(key); err != nil {
		term.t.Fatal(err)
	}
}

// freshModes are those of a terminal on which nothing ran yet.
func freshModes(t *testing.T) unix.Termios {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer tty.Close()
	return modes(t, tty)
}

func modes(t *testing.T, tty *os.File) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}

// TestScreen looks at the living overview of a real fleet on a pseudo terminal:
// keys, a new size, lines of log, no clearing of the whole screen between two
// pictures, and a terminal that is as it was when all is over.
func TestScreen(t *testing.T) {
	u := newFleet(t, three)
	before := freshModes(t)
	term := openTerminal(t, u)
	term.await(0, "polder up", "running", "3 of 3", "billing", "asleep", "→ fr", "refused", "Envoy is live", "stop everything")
	if !strings.Contains(term.said(0), alternateOn) || !strings.Contains(term.said(0), cursorOff) {
		t.Error("the overview is not on a screen of its own")
	}
	drawn := len(term.said(0))

	at := drawn
	term.press("c")
	at = term.await(at, "Lines for a second terminal that call billing", "curl --cacert")
	term.press("\x1b[B") // down
	at = term.await(at, "call broken")
	term.press("c")
	at = term.await(at, "SERVICE")

	for _, region := range []polder.RegionName{"fr", "nl", "pl"} {
		eventually(t, "region "+string(region)+" is ready", func() bool {
			s, err := u.status(region)
			return err == nil && s.Serving() && together(s, 3)
		})
	}
	if code, _, errs := run(t, "load", "--state", u.state, "--service", "billing", "--rate", "5", "--duration", "1s", "--output", "json"); code != exitDone {
		t.Fatalf("load: exit code %d, %s", code, errs)
	}
	at = term.await(at, "●", "instance ready")
	if n := strings.Count(term.said(0)[drawn:], clearAll); n > 0 {
		t.Errorf("the whole screen was cleared %d times between pictures: it flickers", n)
	}

	if err := pty.Setsize(term.tty, &pty.Winsize{Rows: 20, Cols: 60}); err != nil {
		t.Fatal(err)
	}
	at = term.await(at, "polder up", "REGION", "stop everything")
	for _, line := range strings.Split(controls.ReplaceAllString(term.said(at), ""), "\n") {
		if width := len([]rune(strings.Trim(line, "\r"))); width > 60 {
			t.Errorf("a line of %d cells on a terminal of 60: %q", width, line)
		}
	}

	pids := u.pids()
	term.press("q")
	term.ended(u, at, before)
	if code := u.cmd.ProcessState.ExitCode(); code != exitDone {
		t.Errorf("exit code %d after q, want 0", code)
	}
	u.wantGone(pids)
}

// TestScreenEndsBySignal restores the terminal when somebody else ends polder up.
func TestScreenEndsBySignal(t *testing.T) {
	u := newFleet(t, three)
	before := freshModes(t)
	term := openTerminal(t, u)
	at := term.await(0, "polder up", "REGION")
	if err := u.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	term.ended(u, at, before)
	if code := u.cmd.ProcessState.ExitCode(); code != exitDone {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
}

// ended waits for the end and holds the terminal to what it was before.
func (term *terminal) ended(u *fleetUnderTest, from int, before unix.Termios) {
	t := term.t
	t.Helper()
	term.await(from, "stopping all regions")
	select {
	case <-u.ended:
	case <-time.After(patience):
		t.Fatal("polder up does not end")
	}
	after := modes(t, term.tty)
	if after.Lflag != before.Lflag || after.Iflag != before.Iflag || after.Oflag != before.Oflag {
		t.Errorf("the terminal's modes are %+v, were %+v", after, before)
	}
	text := term.said(0)
	if strings.LastIndex(text, alternateOff) < strings.LastIndex(text, alternateOn) || strings.LastIndex(text, cursorOn) < strings.LastIndex(text, cursorOff) {
		t.Error("the screen or the cursor is not given back")
	}
	if err := term.tty.SetReadDeadline(time.Now()); err != nil && !errors.Is(err, os.ErrNoDeadline) && !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	term.tty.Close()
	<-term.done
}
