package process

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// rotatedName is where Rotate keeps the older part of a log.
func rotatedName(file string) string { return file + ".1" }

// Rotate moves the content of a log that is longer than max bytes to a copy
// beside it (".1", replacing an older one) and empties it, so that log and
// copy together stay near 2*max. The writer keeps its descriptor, which must
// be in append mode, as Start's is. A line written in the instant between the
// last copied byte and the truncation is lost. It reports whether it rotated;
// one goroutine at a time may rotate a log.
func Rotate(file string, max int64) (rotated bool, err error) {
	log, err := os.OpenFile(file, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("rotate log: %w", err)
	}
	defer log.Close()
	if err := lockFile(log, unix.LOCK_EX); err != nil { // readers see all of it or nothing
		return false, fmt.Errorf("rotate log: %w", err)
	}
	info, err := log.Stat()
	if err != nil {
		return false, fmt.Errorf("rotate log: %w", err)
	}
	if info.Size() <= max {
		return false, nil
	}
	if err := moveContent(log, file); err != nil {
		return false, fmt.Errorf("rotate log %s: %w", file, err)
	}
	return true, nil
}

func moveContent(log *os.File, file string) (err error) {
	draft := draftName(file)
	_ = os.Remove(draft) // of an owner that was killed while copying
	saved, err := os.OpenFile(draft, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		saved.Close()
		if err != nil {
			os.Remove(draft)
		}
	}()
	if _, err := io.Copy(saved, log); err != nil {
		return err
	}
	if err := os.Rename(draft, rotatedName(file)); err != nil {
		return err
	}
	for { // what was written while we copied
		n, err := io.Copy(saved, log)
		if err != nil {
			return err
		}
		if n == 0 {
			return log.Truncate(0)
		}
	}
}

// lockFile takes an advisory lock that ends when f is closed. Locks on logs
// are held for the time of a read or a copy, so that waiting is short.
func lockFile(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// RemoveLog removes a log whose writer has ended, and its rotated copy.
func RemoveLog(file string) error {
	var failed error
	for _, name := range []string{file, rotatedName(file), draftName(file)} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}
