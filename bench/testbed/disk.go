//go:build linux

package testbed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// diskSize is that of a peer's own file system, in bytes.
	diskSize = 96 << 20
	// FIFREEZE and FITHAW of linux/fs.h.
	freeze, thaw = 0xC0045877, 0xC0045878
)

// makeDisk mounts a file system of its own on a folder, by a loop device that the
// kernel gives back with the mount.
func makeDisk(dir string) error {
	image := dir + ".disk"
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(diskSize), f.Close()); err != nil {
		return err
	}
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", "-m", "0", image}, {"mount", "-o", "loop", image, dir}} {
		if said, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("disk of its own: %s: %w: %s", args[0], err, said)
		}
	}
	return nil
}

// Freeze lets no write to the peer's disk end until the returned function is
// called: a disk that does not answer. Reads of what is cached go on.
func (p *Peer) Freeze() (release func(), err error) {
	disk, err := os.Open(p.Layout.State)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetInt(int(disk.Fd()), freeze, 0); err != nil {
		disk.Close()
		return nil, fmt.Errorf("freeze the disk of %s: %w", p.Name, err)
	}
	return sync.OnceFunc(func() {
		_ = unix.IoctlSetInt(int(disk.Fd()), thaw, 0) // it is thawed already
		disk.Close()
	}), nil
}

// Fill takes all room of the peer's disk until the returned function is called.
func (p *Peer) Fill() (release func(), err error) {
	name := filepath.Join(p.Layout.State, "ballast")
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	block := make([]byte, 1<<16)
	for len(block) > 0 {
		if _, err = f.Write(block); err != nil {
			block = block[:len(block)/2] // down to the last byte
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return nil, fmt.Errorf("fill the disk of %s: %w", p.Name, err)
	}
	return sync.OnceFunc(func() { os.Remove(name) }), nil
}
