package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// freezeWithin bounds the wait for the kernel to freeze a group, which takes
// well under a millisecond unless a member sleeps in a device.
const freezeWithin = 2 * time.Second

// Pause stops every process of the group where it is, without its knowledge:
// by the freezer of cgroup v2 where we may make a cgroup, else by SIGSTOP. It
// uses no processor from then on, keeps its memory and its sockets, and dies of
// SIGKILL as ever. Pausing what is paused is no error. After an error the group
// runs.
func (p *Process) Pause() error {
	dir, err := p.freezer()
	if err == nil {
		err = freeze(dir)
	}
	if err != nil { // no cgroups of ours
		err = p.Signal(syscall.SIGSTOP)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("pause %s (pid %d): %w", p.record.Label, p.record.PID, err), p.Resume())
	}
	return nil
}

// Resume lets a paused group go on; one that is not paused does not notice.
func (p *Process) Resume() error {
	var failed error
	for _, dir := range p.cgroups() {
		if err := writeFile(dir, freezeFile, "0"); err != nil && !isGone(err) {
			failed = errors.Join(failed, err)
		}
	}
	if err := p.Signal(syscall.SIGCONT); err != nil && err != syscall.ESRCH {
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		return fmt.Errorf("resume %s (pid %d): %w", p.record.Label, p.record.PID, failed)
	}
	return nil
}

const freezeFile = "cgroup.freeze"

// cgroups are those of the process alone: of its limits and of its rest.
func (p *Process) cgroups() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rest == "" {
		return p.record.Cgroups
	}
	return append(slices.Clone(p.record.Cgroups), p.rest)
}

// freezer returns a cgroup of v2 that has all of the group, and nothing else.
func (p *Process) freezer() (string, error) {
	for _, dir := range p.cgroups() {
		if _, err := os.Stat(filepath.Join(dir, freezeFile)); err == nil {
			return dir, p.gather(dir)
		}
	}
	where, err := ownCgroups()
	if err != nil {
		return "", err
	}
	if where.unified == "" {
		return "", errors.New("no cgroup v2 in our sight")
	}
	home := where.unified
	if filepath.Base(home) == selfLeaf {
		home = filepath.Dir(home)
	}
	dir := filepath.Join(home, "polder-"+p.record.Key+"-rest")
	if err := p.note(dir); err != nil { // before it is there: what has a record is removed
		return "", err
	}
	if err := makeDir(dir); err != nil {
		return "", err
	}
	return dir, p.gather(dir)
}

// note writes a cgroup into the record, and remembers it.
func (p *Process) note(dir string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != held {
		return ErrReleased
	}
	r := p.record
	r.Cgroups = append(slices.Clone(r.Cgroups), dir)
	if err := writeRecord(p.file, r); err != nil {
		return err
	}
	p.rest = dir
	return nil
}

// gather moves the members of the group into the cgroup, until none is left
// outside: one may fork meanwhile.
func (p *Process) gather(dir string) error {
	for {
		inside, err := readWords(dir, "cgroup.procs")
		if err != nil {
			return err
		}
		members, err := p.members()
		if err != nil {
			return err
		}
		moved := false
		for _, pid := range append(members, p.record.PID) {
			if number := strconv.Itoa(pid); !slices.Contains(inside, number) {
				if err := writeFile(dir, "cgroup.procs", number); err != nil && !isGone(err) {
					return err
				}
				moved = true
			}
		}
		if !moved {
			return nil
		}
	}
}

// freeze returns when every process in the cgroup is frozen.
func freeze(dir string) error {
	if err := writeFile(dir, freezeFile, "1"); err != nil {
		return err
	}
	deadline := time.Now().Add(freezeWithin)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		words, err := readWords(dir, "cgroup.events")
		if err != nil {
			return err
		}
		if i := slices.Index(words, "frozen"); i >= 0 && i+1 < len(words) && words[i+1] == "1" {
			return nil
		}
		if time.Now().After(deadline) {
			_ = writeFile(dir, freezeFile, "0")
			return fmt.Errorf("it does not freeze within %s", freezeWithin)
		}
		<-tick.C
	}
}
