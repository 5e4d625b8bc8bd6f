package process

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
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

// Resident is the memory of the leader and its group that is in RAM, in bytes.
func (p *Process) Resident() (bytes int64) {
	members, _ := p.members()
	for _, pid := range append(members, p.record.PID) {
		if words, err := readWords(fmt.Sprintf("/proc/%d", pid), "statm"); err == nil && len(words) > 1 {
			pages, _ := strconv.ParseInt(words[1], 10, 64)
			bytes += pages * int64(os.Getpagesize())
		}
	}
	return bytes
}

// PageOut asks the kernel to take the memory of a paused group out of RAM: what
// comes from files at once, the rest where there is swap. It does so for the cgroup
// of v2 that limits the group's memory, if there is one, else for each process. It
// returns as it was and as it is, in bytes. Without the right to do so (to the
// cgroup, or CAP_SYS_NICE) it is an error, and nothing has changed.
func (p *Process) PageOut() (before, after int64, err error) {
	before = p.Resident()
	if slices.ContainsFunc(p.cgroups(), reclaim) {
		return before, p.Resident(), nil
	}
	members, err := p.members()
	for _, pid := range append(members, p.record.PID) {
		err = errors.Join(err, pageOut(pid))
	}
	if err != nil {
		err = fmt.Errorf("page out %s (pid %d): %w", p.record.Label, p.record.PID, err)
	}
	return before, p.Resident(), err
}

// reclaim asks the kernel to take all of a cgroup's memory out of RAM, with page
// cache and what the kernel keeps for it, which needs no right beyond that to the
// cgroup (memory.reclaim, since Linux 5.19). It takes what it can, and says so when
// that is not all. False means that there is no such cgroup, or no such file.
func reclaim(dir string) bool {
	current, err := readWords(dir, "memory.current")
	if err != nil || len(current) != 1 {
		return false
	}
	err = writeFile(dir, "memory.reclaim", current[0])
	return err == nil || errors.Is(err, unix.EAGAIN)
}

func pageOut(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return err
	}
	defer maps.Close()
	rows := bufio.NewScanner(maps)
	for rows.Scan() {
		// START-END permissions offset device inode path
		span, rest, _ := strings.Cut(rows.Text(), " ")
		low, high, ok := strings.Cut(span, "-")
		from, err1 := strconv.ParseUint(low, 16, 64)
		to, err2 := strconv.ParseUint(high, 16, 64)
		if !ok || err1 != nil || err2 != nil || strings.HasPrefix(rest, "---p") || strings.HasSuffix(rest, "[vsyscall]") {
			continue // nothing, or the kernel's own
		}
		one := unix.RemoteIovec{Base: uintptr(from), Len: int(to - from)}
		_, _, errno := unix.Syscall6(unix.SYS_PROCESS_MADVISE, uintptr(fd), uintptr(unsafe.Pointer(&one)), 1, unix.MADV_PAGEOUT, 0, 0)
		if errno != 0 && errno != unix.EINVAL && errno != unix.ENOMEM { // what the kernel keeps there itself, or what is locked
			return fmt.Errorf("process_madvise: %w", errno)
		}
	}
	return rows.Err()
}
