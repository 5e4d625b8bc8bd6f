//go:build linux

package testbed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// stage is the environment variable that tells how far inside a program is.
const stage = "POLDER_TESTBED_STAGE"

// Ended is how the program ended inside, if not well. It has no text: the inner
// program has said everything.
type Ended struct{ Code int }

// Error is empty.
func (Ended) Error() string { return "" }

// Enter tells whether the program is inside of namespaces of its own: network,
// processes, mounts. Where it is not, it starts the program anew in them, with the
// same arguments, and returns when that has ended: with nil or Ended, after which
// the caller ends likewise and does nothing else. Call it before anything else.
func Enter() (inside bool, err error) {
	switch os.Getenv(stage) {
	case "":
		return false, leadIn()
	case "init":
		return false, tend()
	}
	return true, os.Unsetenv(stage) // what we start may enter a test bed of its own
}

// ended is nil for a program that ended well.
func ended(code int) error {
	if code == 0 {
		return nil
	}
	return Ended{code}
}

// leadIn starts the first process of the namespaces.
func leadIn() error {
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
	}
	if uid := os.Getuid(); uid != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return become("init", attr, func(err error) error {
		return fmt.Errorf("namespaces for a test bed: %w; run as root, or allow user namespaces", err)
	})
}

// tend is the first process: it mounts what belongs to the namespaces, starts the
// program, and buries whoever dies without a parent.
func tend() error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts of the test bed: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("processes of the test bed: %w", err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	program, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Setenv(stage, "inside"); err != nil {
		return err
	}
	pid, err := syscall.ForkExec(program, os.Args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		return fmt.Errorf("start inside of the test bed: %w", err)
	}
	go func() {
		for s := range signals {
			_ = syscall.Kill(pid, s.(syscall.Signal)) // it may have ended
		}
	}()
	for {
		var status syscall.WaitStatus
		died, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return fmt.Errorf("waiting for the test bed: %w", err)
		case died == pid && status.Signaled():
			return ended(128 + int(status.Signal()))
		case died == pid:
			return ended(status.ExitStatus()) // and with us the kernel ends what is left
		}
	}
}

// become starts this program in its next stage, and ends as it does.
func become(next string, attr *syscall.SysProcAttr, why func(error) error) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	c := &exec.Cmd{
		Path: program, Args: os.Args, Env: append(os.Environ(), stage+"="+next),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, SysProcAttr: attr,
	}
	signal.Ignore(os.Interrupt) // the inner one gets it too, and stops in order
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	if err := c.Start(); err != nil {
		return why(err)
	}
	go func() {
		for s := range terminate {
			_ = c.Process.Signal(s) // it may have ended
		}
	}()
	err = c.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return err
	}
	if c.ProcessState.Exited() {
		return ended(c.ProcessState.ExitCode())
	}
	return ended(1)
}
