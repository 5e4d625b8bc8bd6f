package process

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// own starts an owner process that starts s, and returns it running or dead.
func own(t *testing.T, s Spec, when string) *exec.Cmd {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	owner := exec.Command(s.Path, "sample", "own", string(data), when)
	log, err := os.Create(filepath.Join(s.Dir, "owner"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	owner.Stdout, owner.Stderr = log, log
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // for a test that failed half-way
		_ = owner.Process.Kill()
		_ = owner.Wait()
		if p, err := Adopt(s.RecordFile); err == nil {
			_ = p.Stop(t.Context(), 0)
		}
	})
	return owner
}

func kill(t *testing.T, owner *exec.Cmd) {
	t.Helper()
	_ = owner.Process.Kill()
	if err := owner.Wait(); err == nil || owner.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		log, _ := os.ReadFile(owner.Stdout.(*os.File).Name())
		t.Fatalf("the owner was to die by SIGKILL: %v\n%s", err, log)
	}
}

func TestKilledOwnersProcessIsAdopted(t *testing.T) {
	for name, what := range map[string]string{"serving": "serve", "with an emptied environment": "hide"} {
		for _, when := range []string{"owning", "forked"} {
			t.Run(name+", killed when "+when, func(t *testing.T) {
				s := spec(t, what)
				owner := own(t, s, when)
				line(t, s, "serving") // it runs, and says so although its owner may be dead
				if when == "owning" {
					line(t, Spec{LogFile: filepath.Join(s.Dir, "owner")}, "owning")
				}
				kill(t, owner)
				r, err := ReadRecord(s.RecordFile)
				if err != nil || (r.PID == 0) != (when == "forked") {
					t.Fatalf("record %+v, %v", r, err)
				}
				p, err := Adopt(s.RecordFile)
				if err != nil {
					t.Fatal(err)
				}
				if r, err = ReadRecord(s.RecordFile); err != nil || r.PID != p.PID() || r.StartTime == 0 {
					t.Errorf("record after adoption %+v, %v", r, err)
				}
				if err := p.Stop(t.Context(), patience); err != nil {
					t.Fatal(err)
				}
				line(t, s, "bye")
				if got := p.Exit(); got.Known && got != (Exit{Known: true}) {
					t.Errorf("exit = %v", got)
				}
				died(t, p.PID())
				noRecord(t, s)
			})
		}
	}
}

// Whenever the owner dies, there is either no process or one that is adopted.
func TestOwnerKilledAtAnyInstant(t *testing.T) {
	adopted := 0
	for i := range 25 {
		s := spec(t, "serve")
		owner := own(t, s, "owning")
		deadline := time.Now().Add(patience)
		for time.Now().Before(deadline) { // spin: the instant is what is tested
			if _, err := os.Stat(s.RecordFile); err == nil {
				break
			}
		}
		for until := time.Now().Add(time.Duration(i) * 40 * time.Microsecond); time.Now().Before(until); {
		}
		kill(t, owner)
		r, err := ReadRecord(s.RecordFile)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Adopt(s.RecordFile)
		switch {
		case err == nil:
			adopted++
			if err := p.Stop(t.Context(), patience); err != nil {
				t.Fatal(err)
			}
		case !errors.Is(err, ErrGone):
			t.Fatal(err)
		}
		left, err := processes(func(s stat) bool { return !s.dead() && carries(s.pid, r) })
		if err != nil || len(left) > 0 {
			t.Fatalf("left behind: %+v, %v", left, err)
		}
		noRecord(t, s)
	}
	t.Logf("adopted %d of 25", adopted)
}

func TestAdoptedProcessThatEndsByItself(t *testing.T) {
	s := spec(t, "stubborn")
	owner := own(t, s, "owning")
	child := childOf(t, s)
	line(t, Spec{LogFile: filepath.Join(s.Dir, "owner")}, "owning")
	kill(t, owner)
	p, err := Adopt(s.RecordFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil { // the leader alone
		t.Fatal(err)
	}
	finished(t, p)
	if got := p.Exit(); got.Known && got.Signal != syscall.SIGKILL {
		t.Errorf("exit = %v", got)
	}
	gone(t, child)
	noRecord(t, s)
}

func TestGroupOfADeadLeaderIsCleared(t *testing.T) {
	s := spec(t, "stubborn")
	owner := own(t, s, "owning")
	child := childOf(t, s)
	line(t, Spec{LogFile: filepath.Join(s.Dir, "owner")}, "owning")
	kill(t, owner)
	r, err := ReadRecord(s.RecordFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	died(t, r.PID)
	if _, err := Adopt(s.RecordFile); !errors.Is(err, ErrGone) {
		t.Fatalf("adopt: %v", err)
	}
	gone(t, child)
	noRecord(t, s)
}

func TestAdoptTakesNoStranger(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"other start time": func(r *Record) { r.StartTime++ },
		"other boot":       func(r *Record) { r.BootID = "another" },
		"other namespace":  func(r *Record) { r.Namespace = "pid:[1]" },
		"intent only":      func(r *Record) { r.PID, r.Key, r.LogFile = 0, "nobody's", "/no/such/log" },
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(t, "serve")
			p := begin(t, s)
			line(t, s, "serving")
			r := p.Record()
			change(&r)
			other := filepath.Join(s.Dir, "other.json")
			if err := writeRecord(other, r); err != nil {
				t.Fatal(err)
			}
			if _, err := Adopt(other); !errors.Is(err, ErrGone) {
				t.Fatalf("adopt: %v", err)
			}
			if _, err := os.Stat(other); !os.IsNotExist(err) {
				t.Errorf("the record is still there: %v", err)
			}
			if st, err := readStat(p.PID()); err != nil || st.dead() {
				t.Errorf("the stranger was killed: %+v, %v", st, err)
			}
		})
	}
}

func TestAdoptRefusesDamagedRecords(t *testing.T) {
	for _, text := range []string{"", "{", `{"pid":1,"key":"k"}`, `{"pid":-5,"key":"k"}`, `{"pid":5}`} {
		file := filepath.Join(t.TempDir(), "record")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Adopt(file); err == nil || errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Adopt("/no/such/record"); !errors.Is(err, ErrGone) {
		t.Errorf("no record: %v", err)
	}
}
