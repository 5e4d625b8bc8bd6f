package process

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// still tells whether the process uses no processor: frozen or stopped.
func still(t *testing.T, p *Process) bool {
	t.Helper()
	for _, dir := range p.cgroups() {
		if words, err := readWords(dir, "cgroup.events"); err == nil {
			if i := slices.Index(words, "frozen"); i >= 0 && words[i+1] == "1" {
				return true
			}
		}
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID()) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "T")
}

// TestPause: a paused process is still, and goes on where it was.
func TestPause(t *testing.T) {
	s := spec(t, "serve")
	p := begin(t, s)
	line(t, s, "serving")
	for range 3 {
		if err := p.Pause(); err != nil {
			t.Fatal(err)
		}
		if err := p.Pause(); err != nil {
			t.Errorf("again: %v", err)
		}
		if !still(t, p) {
			t.Error("a paused process goes on")
		}
		if err := p.Resume(); err != nil {
			t.Fatal(err)
		}
		if still(t, p) {
			t.Error("a resumed process stands still")
		}
	}
	if before := p.Occupied(); before <= 0 {
		t.Errorf("it occupies %d bytes of RAM", before)
	}
	if err := p.Stop(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	line(t, s, "bye")
	for _, dir := range p.cgroups() {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("cgroup %s is left", dir)
		}
	}
}

// TestPausedEnds: whatever ends a process ends a paused one too.
func TestPausedEnds(t *testing.T) {
	pause := map[string]func(*Process) error{
		"frozen":  (*Process).Pause,
		"stopped": func(p *Process) error { return p.Signal(syscall.SIGSTOP) }, // without cgroups of ours
	}
	for how, pause := range pause {
		t.Run(how+", asked to end", func(t *testing.T) {
			s := spec(t, "serve")
			p := begin(t, s)
			line(t, s, "serving")
			if err := pause(p); err != nil {
				t.Fatal(err)
			}
			if err := p.Stop(t.Context(), time.Hour); err != nil {
				t.Fatal(err)
			}
			line(t, s, "bye")
			finished(t, p)
		})
		t.Run(how+", killed by a stranger", func(t *testing.T) {
			s := spec(t, "serve")
			p := begin(t, s)
			line(t, s, "serving")
			if err := pause(p); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			finished(t, p)
			noRecord(t, s)
		})
		t.Run(how+", adopted", func(t *testing.T) {
			s := spec(t, "serve")
			p := begin(t, s)
			line(t, s, "serving")
			if err := pause(p); err != nil {
				t.Fatal(err)
			}
			p.Release()
			next, err := Adopt(s.RecordFile)
			if err != nil {
				t.Fatal(err)
			}
			if err := next.Resume(); err != nil {
				t.Fatal(err)
			}
			if still(t, next) {
				t.Error("the next owner cannot resume it")
			}
			if err := next.Stop(t.Context(), time.Hour); err != nil {
				t.Fatal(err)
			}
			line(t, s, "bye")
			noRecord(t, s)
		})
	}
}

// TestPauseGroup: children are paused with their parent.
func TestPauseGroup(t *testing.T) {
	s := spec(t, "stubborn")
	p := begin(t, s)
	line(t, s, "child ")
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	if dir := p.rest; dir != "" {
		inside, err := readWords(dir, "cgroup.procs")
		if err != nil || len(inside) != 2 {
			t.Errorf("in the cgroup: %v, %v; want both", inside, err)
		}
	}
	if before, after, err := p.PageOut(); err != nil && !strings.Contains(err.Error(), "operation not permitted") || before <= 0 || after > before {
		t.Errorf("paged out: %d became %d, %v", before, after, err)
	}
	if err := p.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	finished(t, p)
}
