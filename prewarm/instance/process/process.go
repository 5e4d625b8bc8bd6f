package process

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// EnvKey is the variable in every started process's environment that holds
// its record's key. Descendants inherit it.
const EnvKey = "POLDER_PROCESS"

// settle bounds the wait for killed processes to leave the kernel.
const settle = 10 * time.Second

// Spec says what to start.
type Spec struct {
	Path       string          // program; without a slash it is looked up in PATH, otherwise it is relative to Dir
	Args       []string        // arguments after the program's name
	Dir        string          // working directory; "" means ours
	Env        []string        // the whole environment (KEY=VALUE); only EnvKey is added
	LogFile    string          // takes stdout and stderr; made with mode 0600, always appended to
	Files      []*os.File      // file descriptors 3 and up; Start does not close them
	RecordFile string          // where the record is kept while the process runs
	Label      string          // names the process in errors, "billing in fr"
	Meta       json.RawMessage // goes into the record
	Limits     Limits          // where the machine lets us: see Record.Unlimited
}

// Process is a program started by us or by an owner before us.
type Process struct {
	// Fixed after construction.
	record   Record
	file     string // of the record
	pidfd    *os.File
	byNumber bool          // the kernel cannot address a group by pidfd (before 6.9)
	done     chan struct{} // closed when the process and its group are gone
	left     chan struct{} // closed when the waiting goroutine has ended

	exit Exit  // written before done is closed
	fate error // what could not be cleaned up; written before done is closed

	mu     sync.Mutex // guards signals against the reaping of the leader
	state  hold
	reaped bool
	rest   string // the cgroup in which it is paused; "" before the first time
}

// hold says whether the number of the group may still be used.
type hold int

const (
	held     hold = iota
	buried        // nothing is left of the group
	released      // another owner may have it
)

// Exit is how a process ended.
type Exit struct {
	Known  bool           // false when it ended unseen: adopted, on a kernel that does not tell
	Code   int            // exit code; meaningful when Signal is 0
	Signal syscall.Signal // that ended it; 0 for a normal exit
	Memory bool           // the kernel killed in its cgroup because Limits.Memory was reached
}

func (e Exit) String() string {
	text := fmt.Sprintf("exited with code %d", e.Code)
	switch {
	case !e.Known:
		text = "ended (exit status unknown)"
	case e.Signal != 0:
		text = fmt.Sprintf("killed by signal %d (%s)", int(e.Signal), e.Signal)
	}
	if e.Memory {
		text += "; it had reached its memory limit"
	}
	return text
}

// ErrReleased is returned by methods of a Process after Release.
var ErrReleased = errors.New("process was released")

// Start starts the program and returns once it is executing and its record is
// written. A program that cannot be executed is an error and leaves no record.
func Start(s Spec) (*Process, error) {
	p, err := start(s, func(*Process) {})
	if err != nil {
		return nil, fmt.Errorf("start %s (%s): %w", s.Label, s.Path, err)
	}
	return p, nil
}

// start calls forked between the fork and the record.
func start(s Spec, forked func(*Process)) (_ *Process, err error) {
	path, err := findProgram(s)
	if err != nil {
		return nil, err
	}
	r, err := newRecord(s, path)
	if err != nil {
		return nil, err
	}
	groups, unlimited := makeCgroups(r.Key, s.Limits)
	r.Cgroups, r.Unlimited = dirs(groups), unlimited
	intent, err := writeIntent(s.RecordFile, r)
	if err != nil {
		return nil, errors.Join(err, removeCgroups(r.Cgroups))
	}
	defer intent.Close()
	pid, pidfd, err := fork(s, path, r.Key, groups)
	if err != nil {
		os.Remove(s.RecordFile)
		return nil, errors.Join(err, removeCgroups(r.Cgroups))
	}
	r.PID = pid
	p := newProcess(r, s.RecordFile, pidfd)
	forked(p)
	st, err := readStat(pid) // cannot be a stranger's: nobody reaps our child but us
	if err == nil {
		p.record.StartTime = st.start
		err = writeRecord(s.RecordFile, p.record)
	}
	if err != nil {
		p.abandon()
		return nil, err
	}
	go p.wait()
	return p, nil
}

func newProcess(r Record, file string, pidfd *os.File) *Process {
	p := &Process{record: r, file: file, pidfd: pidfd, done: make(chan struct{}), left: make(chan struct{})}
	p.byNumber = p.control(func(fd int) error {
		return unix.PidfdSendSignal(fd, 0, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP)
	}) == syscall.EINVAL
	return p
}

// findProgram resolves and checks the program, for an error that says more
// than the fork's.
func findProgram(s Spec) (string, error) {
	if !strings.ContainsRune(s.Path, '/') {
		return exec.LookPath(s.Path)
	}
	path := s.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.Dir, path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if _, err := exec.LookPath(path); err != nil {
		return "", err
	}
	return path, nil
}

func newRecord(s Spec, path string) (Record, error) {
	boot, namespace, err := machine()
	if err != nil {
		return Record{}, err
	}
	asked, err := ticks()
	if err != nil {
		return Record{}, err
	}
	return Record{
		BootID: boot, Namespace: namespace, Key: rand.Text(), Asked: asked,
		Path: path, LogFile: s.LogFile, Label: s.Label, Meta: s.Meta,
	}, nil
}

// fork runs the program as the leader of its own session.
func fork(s Spec, path, key string, groups []cgroup) (pid int, pidfd *os.File, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, nil, err
	}
	defer null.Close()
	log, err := os.OpenFile(s.LogFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return 0, nil, fmt.Errorf("open its log: %w", err)
	}
	defer log.Close()
	files := append([]*os.File{null, log, log}, s.Files...)
	fds := make([]uintptr, len(files))
	for i, f := range files {
		conn, err := f.SyscallConn() // unlike Fd it leaves the blocking mode as the caller set it
		if err == nil {
			err = conn.Control(func(fd uintptr) { fds[i] = fd })
		}
		if err != nil {
			return 0, nil, fmt.Errorf("pass file descriptor %d: %w", i, err)
		}
	}
	fd := -1
	attr := &syscall.ProcAttr{
		Dir:   s.Dir,
		Env:   append(append([]string{}, s.Env...), EnvKey+"="+key),
		Files: fds,
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &fd},
	}
	argv := append([]string{s.Path}, s.Args...)
	err = startIn(groups, attr.Sys, func() (err error) {
		pid, _, err = syscall.StartProcess(path, argv, attr)
		return err
	})
	runtime.KeepAlive(files)
	if err != nil {
		return 0, nil, err
	}
	if fd < 0 {
		if fd, err = unix.PidfdOpen(pid, 0); err != nil {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(pid, nil, 0, nil)
			return 0, nil, fmt.Errorf("pidfd_open (needs Linux 5.4): %w", err)
		}
	}
	pidfd, err = pollable(fd)
	return pid, pidfd, err
}

// PID is the number of the leader, and of its group and session.
func (p *Process) PID() int { return p.record.PID }

// Record is what is kept on disk while the process runs.
func (p *Process) Record() Record { return p.record }

// Done is closed when the process has ended, its group is gone and its record
// is removed. It is never closed after Release.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit tells how the leader ended. It is valid once Done is closed.
func (p *Process) Exit() Exit { return p.exit }

// Stop ends the whole group: SIGTERM (and Resume, that a paused program hears
// it), then SIGKILL after the grace or when ctx ends, whichever is first.
// It returns when nothing of the group is left and the record is removed; an
// error names what outlived SIGKILL for ten seconds. Stopping a process that
// has ended is no error.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	err := p.Signal(syscall.SIGTERM)
	if errors.Is(err, ErrReleased) {
		return err
	}
	_ = p.Resume()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.fate
	case <-timer.C:
	case <-ctx.Done():
	}
	if err := p.Signal(syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		return fmt.Errorf("stop %s (pid %d): %w", p.record.Label, p.record.PID, err)
	}
	timer.Reset(2 * settle) // the waiting goroutine itself gives up after one settle
	select {
	case <-p.done:
		return p.fate
	case <-p.left: // after done, if it was not released
		select {
		case <-p.done:
			return p.fate
		default:
			return ErrReleased
		}
	case <-timer.C:
		return fmt.Errorf("stop %s: pid %d does not end on SIGKILL (is it waiting for a device?)", p.record.Label, p.record.PID)
	}
}

// Release gives up the process without touching it: it goes on running, its
// record stays, and another owner may adopt it. Done stays open. Release
// returns when the Process's goroutine has ended.
func (p *Process) Release() {
	_ = p.pidfd.SetReadDeadline(time.Unix(1, 0))
	<-p.left
}
