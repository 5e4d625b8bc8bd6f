package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone is returned by Adopt when the recorded process no longer runs.
var ErrGone = errors.New("process is gone")

// adoptWait bounds the waits for another owner's start and for a child that is
// about to execute its program: both take well under a millisecond.
const adoptWait = 2 * time.Second

// Adopt takes over the process that the record describes: the very same one,
// by PID, start time, boot and PID namespace. If it has ended, what is left of
// its group is killed, the record is removed and ErrGone is returned. A
// missing record is ErrGone too. The caller makes sure that a record has one
// owner at a time.
func Adopt(recordFile string) (*Process, error) {
	r, intent, err := openIntent(recordFile, poll)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("adopt by %s: %w", recordFile, ErrGone)
	}
	if err != nil {
		return nil, err
	}
	if intent != nil {
		defer intent.Close()
	}
	p, err := adopt(recordFile, r)
	_ = os.Remove(draftName(recordFile)) // of an owner that was killed while writing
	if err != nil {
		return nil, fmt.Errorf("adopt %s by %s: %w", r.Label, recordFile, err)
	}
	return p, nil
}

func adopt(file string, r Record) (*Process, error) {
	boot, namespace, err := machine()
	if err != nil {
		return nil, err
	}
	if r.BootID != boot || r.Namespace != namespace {
		return nil, discard(file, r)
	}
	if r.PID == 0 {
		found, err := findOrphan(&r)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, discard(file, r)
		}
		if err := writeRecord(file, r); err != nil {
			return nil, err
		}
	}
	pidfd, err := openSame(r)
	if err != nil {
		if !errors.Is(err, ErrGone) {
			return nil, err
		}
		if err := killRemains(r); err != nil {
			return nil, err
		}
		return nil, discard(file, r)
	}
	p := newProcess(r, file, pidfd)
	go p.wait()
	return p, nil
}

// openSame returns a pidfd of the recorded process, and of no other.
func openSame(r Record) (*os.File, error) {
	fd, err := unix.PidfdOpen(r.PID, 0)
	if err != nil {
		if isGone(err) {
			return nil, ErrGone
		}
		return nil, fmt.Errorf("pidfd_open of pid %d (needs Linux 5.4): %w", r.PID, err)
	}
	st, err := readStat(r.PID)
	same := err == nil && st.start == r.StartTime && !st.dead()
	// That the pidfd's process still exists now proves that st was its.
	if !same || unix.PidfdSendSignal(fd, 0, nil, 0) != nil {
		unix.Close(fd)
		if err == nil && st.start == r.StartTime && st.parent == os.Getpid() { // ours, and ended while released
			_, _ = syscall.Wait4(r.PID, nil, syscall.WNOHANG, nil)
		}
		return nil, ErrGone
	}
	return pollable(fd)
}

// discard removes what a process that does not run any more has left.
func discard(file string, r Record) error {
	err := removeCgroups(r.Cgroups)
	if gone := os.Remove(file); gone != nil && !isGone(gone) {
		err = errors.Join(err, gone)
	}
	return errors.Join(ErrGone, err)
}

// findOrphan completes an intent with the process that its dead owner forked.
func findOrphan(r *Record) (found bool, err error) {
	poll(func() bool {
		var starting bool
		var leaders []stat
		leaders, err = processes(func(s stat) bool { return s.session == s.pid && s.start >= r.Asked && !s.dead() })
		for _, s := range leaders {
			if carries(s.pid, *r) {
				r.PID, r.StartTime, found = s.pid, s.start, true
				return true
			}
			starting = starting || !s.environ
		}
		return err != nil || !starting
	})
	return found, err
}

// killRemains kills the members that a dead leader left in its group. While
// one of them lives the group's number cannot be a stranger's.
func killRemains(r Record) error {
	if err := syscall.Kill(-r.PID, 0); err == syscall.ESRCH {
		return nil // the usual case
	}
	if st, err := readStat(r.PID); err == nil && st.start != r.StartTime {
		return nil // the number was given away again, so no member was left
	}
	return (&Process{record: r, byNumber: true}).clear()
}

// poll tries until it succeeds or adoptWait is over. Both things it is used
// for give no event to wait on.
func poll(try func() bool) bool {
	deadline := time.Now().Add(adoptWait)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !try() {
		if time.Now().After(deadline) {
			return false
		}
		<-tick.C
	}
	return true
}
