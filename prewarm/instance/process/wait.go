package process

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pollable hands a pidfd to the runtime's poller.
func pollable(fd int) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("prepare the pidfd: %w", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// wait sees the leader's end, buries its group and then says so. It is the
// Process's only goroutine.
func (p *Process) wait() {
	defer close(p.left)
	if !p.await() {
		p.mu.Lock()
		p.state = released
		p.mu.Unlock()
		p.pidfd.Close()
		return
	}
	p.bury()
	p.pidfd.Close()
	close(p.done)
}

// await blocks until the leader has ended; false means that it was released.
func (p *Process) await() bool {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return false
	}
	return conn.Read(ended) == nil
}

// ended tells whether the process behind a pidfd has ended.
func ended(fd uintptr) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 0)
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
}

// bury kills what is left of the group, reaps what is ours to reap and removes
// the record and the cgroups.
func (p *Process) bury() {
	_ = p.Signal(syscall.SIGKILL) // while an unreaped leader still pins the number
	if !p.byNumber {
		p.mu.Lock()
		p.reap() // the pidfd goes on to name the group
		p.mu.Unlock()
	}
	if p.byNumber || p.Signal(0) != syscall.ESRCH {
		p.fate = p.clear()
	}
	p.mu.Lock()
	p.reap()
	p.state = buried
	p.mu.Unlock()
	p.exit.Memory = outOfMemory(p.cgroups())
	p.fate = errors.Join(p.fate, removeCgroups(p.cgroups()))
	if err := os.Remove(p.file); err != nil && !isGone(err) {
		p.fate = errors.Join(p.fate, err)
	}
	if p.fate != nil {
		p.fate = fmt.Errorf("stop %s (pid %d): %w", p.record.Label, p.record.PID, p.fate)
	}
}

// reap collects the leader's exit status, once it has ended, and with it the
// leader if it is our child. The caller holds mu.
func (p *Process) reap() {
	if p.reaped {
		return
	}
	p.reaped = true
	// Only the pidfd says for sure that the number still means our child.
	err := p.control(func(fd int) error {
		for {
			err := unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
			if err != unix.EINTR {
				return err
			}
		}
	})
	if err != nil {
		p.exit = p.foreignExit()
		return
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(p.record.PID, &status, syscall.WNOHANG, nil); err == nil && pid == p.record.PID {
		p.exit = exitOf(status)
	}
}

func exitOf(status syscall.WaitStatus) Exit {
	if status.Signaled() {
		return Exit{Known: true, Signal: status.Signal()}
	}
	return Exit{Known: true, Code: status.ExitStatus()}
}

// foreignExit asks the kernel for the status of a process that is not our
// child, which Linux tells from 6.15 on once the parent has reaped it.
func (p *Process) foreignExit() Exit {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	err := p.control(func(fd int) error {
		waitFor(fd, 0, parentReaps) // POLLHUP: reaped
		return unix.IoctlPidfdInfo(fd, &info)
	})
	if err != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return Exit{}
	}
	return exitOf(syscall.WaitStatus(info.Exit_code))
}

// parentReaps bounds the wait for a foreign parent (init) to reap its child.
const parentReaps = 20 * time.Millisecond

// clear kills and reaps the members of the leader's group until none lives.
func (p *Process) clear() error {
	deadline := time.Now().Add(settle)
	for {
		killed := p.Signal(syscall.SIGKILL)
		if killed == syscall.ESRCH {
			return nil
		}
		alive, err := p.members()
		if err != nil || len(alive) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v of its group outlive SIGKILL (%w)", alive, cmp.Or(killed, error(syscall.EBUSY)))
		}
		for _, pid := range alive {
			if fd, err := unix.PidfdOpen(pid, 0); err == nil {
				waitFor(fd, unix.POLLIN, time.Until(deadline))
				unix.Close(fd)
			}
		}
	}
}

// members lists the living members of the group, the leader aside, and reaps
// the dead ones that fell to us as init or as a subreaper.
func (p *Process) members() (alive []int, err error) {
	found, err := processes(func(s stat) bool {
		return s.group == p.record.PID && s.session == p.record.PID && s.pid != p.record.PID
	})
	for _, m := range found {
		switch {
		case !m.dead():
			alive = append(alive, m.pid)
		case m.parent == os.Getpid():
			_, _ = syscall.Wait4(m.pid, nil, syscall.WNOHANG, nil)
		}
	}
	return alive, err
}

// waitFor blocks until one of the events, an error or a hang-up shows on the
// pidfd, or the time is up.
func waitFor(fd int, events int16, limit time.Duration) {
	end := time.Now().Add(limit)
	for left := limit; left > 0; left = time.Until(end) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: events}}
		if n, err := unix.Poll(poll, int(left.Milliseconds())+1); n > 0 || (err != nil && err != unix.EINTR) {
			return
		}
	}
}

// abandon ends a child whose record could not be written.
func (p *Process) abandon() {
	_ = p.Signal(syscall.SIGKILL)
	p.await()
	p.bury()
	p.pidfd.Close()
}
