package process

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestProgramRunsAndEnds(t *testing.T) {
	s := spec(t, "exit", "3")
	p := begin(t, s)
	finished(t, p)
	if got := p.Exit(); got != (Exit{Known: true, Code: 3}) {
		t.Errorf("exit = %v", got)
	}
	log, err := os.ReadFile(s.LogFile)
	if err != nil || string(log) != "hello out\nhello err\n" {
		t.Errorf("log = %q, %v", log, err)
	}
	if info, err := os.Stat(s.LogFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("log mode: %v, %v", info.Mode(), err)
	}
	gone(t, p.PID())
	noRecord(t, s)
	if err := p.Signal(syscall.SIGTERM); err != syscall.ESRCH {
		t.Errorf("signal after the end: %v", err)
	}
	if err := p.Stop(t.Context(), time.Hour); err != nil {
		t.Errorf("stop after the end: %v", err)
	}
}

func TestRecordDescribesTheRunningProcess(t *testing.T) {
	s := spec(t, "serve")
	s.Meta = json.RawMessage(`{"service":"billing"}`)
	p := begin(t, s)
	r, err := ReadRecord(s.RecordFile)
	if err != nil {
		t.Fatal(err)
	}
	st, err := readStat(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	if r.PID != p.PID() || r.StartTime != st.start || r.Label != s.Label || string(r.Meta) != string(s.Meta) || r.Asked > st.start {
		t.Errorf("record %+v of process %+v", r, st)
	}
	if st.session != p.PID() || st.group != p.PID() {
		t.Errorf("not the leader of its own session: %+v", st)
	}
	if info, err := os.Stat(s.RecordFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("record mode: %v, %v", info.Mode(), err)
	}
	if !carries(p.PID(), r) {
		t.Error("the process does not carry its record's key")
	}
}

func TestFilesAndEnvironmentArePassed(t *testing.T) {
	s := spec(t, "cat")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.Files, s.Env = []*os.File{read}, append(s.Env, "GREETING= world")
	p := begin(t, s)
	read.Close()
	if _, err := write.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	write.Close()
	finished(t, p)
	line(t, s, "hello world")
}

func TestStopIsGracefulFirst(t *testing.T) {
	s := spec(t, "serve")
	p := begin(t, s)
	line(t, s, "serving")
	if err := p.Stop(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	line(t, s, "bye")
	if got := p.Exit(); got != (Exit{Known: true}) {
		t.Errorf("exit = %v", got)
	}
	noRecord(t, s)
}

func TestStopWakesAPausedProgram(t *testing.T) {
	s := spec(t, "serve")
	p := begin(t, s)
	line(t, s, "serving")
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	line(t, s, "bye")
}

// ways are the two ways to signal a group: by pidfd, and as kernels before
// 6.9 have it.
var ways = map[string]func(*Process){
	"by pidfd":  func(*Process) {},
	"by number": func(p *Process) { p.byNumber = true },
}

func TestStopKillsTheWholeGroup(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			s := spec(t, "stubborn")
			p, err := start(s, way)
			if err != nil {
				t.Fatal(err)
			}
			child := childOf(t, s)
			if err := p.Stop(t.Context(), time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if got := p.Exit(); got.Signal != syscall.SIGKILL {
				t.Errorf("exit = %v", got)
			}
			gone(t, child)
			gone(t, p.PID())
			noRecord(t, s)
		})
	}
}

func TestGroupEndsWithItsLeader(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			s := spec(t, "orphan")
			p, err := start(s, way)
			if err != nil {
				t.Fatal(err)
			}
			finished(t, p)
			if got := p.Exit(); got != (Exit{Known: true}) {
				t.Errorf("exit = %v", got)
			}
			gone(t, childOf(t, s))
		})
	}
}

func TestProgramThatCannotStart(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("\x7fELF?"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"no such program":      {func(s *Spec) { s.Path = "./missing" }, "no such file"},
		"not on PATH":          {func(s *Spec) { s.Path = "no-such-program-here" }, "not found"},
		"not executable":       {func(s *Spec) { s.Path = text }, "permission denied"},
		"not a program":        {func(s *Spec) { s.Path = garbage }, "exec format error"},
		"no such directory":    {func(s *Spec) { s.Dir = "/no/such/folder" }, "no such file"},
		"no room for the log":  {func(s *Spec) { s.LogFile = "/no/such/log" }, "open its log"},
		"no room for a record": {func(s *Spec) { s.RecordFile = "/no/such/record" }, "write process record"},
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(t, "serve")
			c.change(&s)
			p, err := Start(s)
			if err == nil {
				_ = p.Stop(t.Context(), 0)
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), s.Label) {
				t.Errorf("error %q lacks %q or the label", err, c.want)
			}
			noRecord(t, s)
		})
	}
}

// Signals, stops and the program's own end meet in any order; nobody else is
// hit, nothing hangs, nothing is left.
func TestSignalsMeetTheEnd(t *testing.T) {
	for range 20 {
		s := spec(t, "exit", "0")
		p := begin(t, s)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for p.Signal(syscall.SIGWINCH) == nil {
				}
			})
		}
		all.Go(func() {
			if err := p.Stop(t.Context(), time.Millisecond); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		finished(t, p)
		gone(t, p.PID())
		noRecord(t, s)
	}
}

func TestReleasedProcessGoesOn(t *testing.T) {
	s := spec(t, "serve")
	p, err := Start(s)
	if err != nil {
		t.Fatal(err)
	}
	line(t, s, "serving")
	p.Release()
	p.Release()
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, ErrReleased) {
		t.Errorf("signal: %v", err)
	}
	if err := p.Stop(t.Context(), 0); !errors.Is(err, ErrReleased) {
		t.Errorf("stop: %v", err)
	}
	again, err := Adopt(s.RecordFile)
	if err != nil {
		t.Fatal(err)
	}
	if again.PID() != p.PID() {
		t.Errorf("adopted pid %d instead of %d", again.PID(), p.PID())
	}
	if err := again.Stop(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	if got := again.Exit(); got != (Exit{Known: true}) {
		t.Errorf("exit = %v", got) // it is still our child
	}
	gone(t, p.PID())
}

func TestProcessThatEndsWhileReleasedLeavesNothing(t *testing.T) {
	s := spec(t, "serve")
	p, err := Start(s)
	if err != nil {
		t.Fatal(err)
	}
	line(t, s, "serving")
	p.Release()
	fd, err := unix.PidfdOpen(p.PID(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(fd, unix.POLLIN, patience)
	if _, err := Adopt(s.RecordFile); !errors.Is(err, ErrGone) {
		t.Errorf("adopt: %v", err)
	}
	gone(t, p.PID())
	noRecord(t, s)
}

func childOf(t *testing.T, s Spec) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimPrefix(line(t, s, "child "), "child "))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestComputed: a process that computes has used processor time, and one that is
// gone cannot tell.
func TestComputed(t *testing.T) {
	p := begin(t, spec(t, "compute"))
	deadline := time.Now().Add(patience)
	for {
		used, err := p.Computed()
		if err != nil {
			t.Fatal(err)
		}
		if used >= 50*time.Millisecond {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it computes, and has used %s", used)
		}
		<-time.After(10 * time.Millisecond)
	}
	if err := p.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Computed(); err == nil {
		t.Error("a process that is gone tells its processor time")
	}
	if d, err := parseComputed("7 (a ) b) R 1 7 7 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 5"); err != nil || d != time.Second {
		t.Errorf("got %s, %v, want 1 s", d, err)
	}
	if _, err := parseComputed("7 (a) R 1"); err == nil {
		t.Error("a line that ends early was read")
	}
}
