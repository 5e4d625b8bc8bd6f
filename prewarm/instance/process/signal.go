package process

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Signal sends sig to every process of the group, if the group is still ours.
// A group of which nothing is left is syscall.ESRCH.
//
// Linux 6.9 and later address the group by the leader's pidfd, which cannot
// mean anyone else. Before that, the group's number is used only while the
// leader is our own unreaped child, or a pidfd shows it alive just now, or a
// living member carries our key: a number in use is not given away.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case buried:
		return syscall.ESRCH
	case released:
		return ErrReleased
	}
	if !p.byNumber {
		return p.control(func(fd int) error {
			return unix.PidfdSendSignal(fd, sig, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP)
		})
	}
	if !p.pinned() {
		return syscall.ESRCH
	}
	return syscall.Kill(-p.record.PID, sig)
}

// pinned tells whether the number of the group is certainly still ours.
func (p *Process) pinned() bool {
	st, err := readStat(p.record.PID)
	if err == nil && st.start == p.record.StartTime {
		if st.parent == os.Getpid() {
			return true // only we reap it, and mu keeps us from it
		}
		if p.pidfd != nil && p.control(func(fd int) error { return unix.PidfdSendSignal(fd, 0, nil, 0) }) == nil {
			return true
		}
	}
	members, err := processes(func(s stat) bool {
		return s.group == p.record.PID && s.session == p.record.PID && !s.dead() && carries(s.pid, p.record)
	})
	return err == nil && len(members) > 0
}

// control lends the pidfd to f; after Release it is ErrReleased.
func (p *Process) control(f func(fd int) error) error {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return ErrReleased
	}
	var result error
	if err := conn.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		return ErrReleased
	}
	return result
}
