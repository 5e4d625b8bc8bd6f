package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Record identifies a process across restarts of its owner. On disk it is one
// JSON object in a file of mode 0600.
type Record struct {
	PID       int             `json:"pid"`        // leader of session and group; 0 is an intent: asked for, not yet known
	StartTime uint64          `json:"start_time"` // clock ticks after boot: field 22 of /proc/PID/stat
	BootID    string          `json:"boot_id"`    // /proc/sys/kernel/random/boot_id
	Namespace string          `json:"namespace"`  // PID namespace in which PID counts
	Key       string          `json:"key"`        // random; in the process's environment as EnvKey
	Asked     uint64          `json:"asked"`      // clock ticks after boot when the intent was written
	Path      string          `json:"path"`       // program
	LogFile   string          `json:"log_file"`
	Label     string          `json:"label"`
	Meta      json.RawMessage `json:"meta,omitempty"`      // the owner's own words, unread here
	Cgroups   []string        `json:"cgroups,omitempty"`   // made for this process alone
	Unlimited string          `json:"unlimited,omitempty"` // which limits are not in force, and why
}

// ReadRecord reads a record, which may be an intent. It does not tell whether
// the process still runs: see Adopt.
func ReadRecord(file string) (Record, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Record{}, fmt.Errorf("read process record: %w", err)
	}
	return decodeRecord(file, data)
}

func decodeRecord(file string, data []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("process record %s is damaged (%w): stop its process by hand and remove the file", file, err)
	}
	if r.PID < 0 || r.PID == 1 || r.Key == "" {
		return Record{}, fmt.Errorf("process record %s is damaged (pid %d, key %q): stop its process by hand and remove the file", file, r.PID, r.Key)
	}
	return r, nil
}

// writeRecord replaces file atomically. It does not sync: a record need not
// survive the machine, because its process does not either.
func writeRecord(file string, r Record) error {
	f, err := placeRecord(file, r, false)
	if err != nil {
		return err
	}
	return f.Close()
}

// writeIntent places r, whose PID is still unknown, and returns it open and
// locked. The caller closes it once the full record is in its place.
func writeIntent(file string, r Record) (*os.File, error) {
	r.PID, r.StartTime = 0, 0
	return placeRecord(file, r, true)
}

// draftName is where a file is written before it takes its place. It is one
// name, so that owners who are killed while writing leave at most one.
func draftName(file string) string {
	return filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".new")
}

func placeRecord(file string, r Record, lock bool) (_ *os.File, err error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode process record %s: %w", file, err)
	}
	_ = os.Remove(draftName(file)) // not truncated: a forked child may still hold its lock
	f, err := os.OpenFile(draftName(file), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write process record: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if lock {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return nil, fmt.Errorf("lock process record %s: %w", file, err)
		}
	}
	if _, err := f.Write(append(data, '\n')); err != nil {
		return nil, fmt.Errorf("write process record: %w", err)
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return nil, fmt.Errorf("write process record: %w", err)
	}
	return f, nil
}

// openIntent reads the record at file and, if it is an intent, waits for its
// lock and reads what is at the path then. A full record comes with no file.
func openIntent(file string, wait func(try func() bool) bool) (Record, *os.File, error) {
	for {
		f, err := os.Open(file)
		if err != nil {
			return Record{}, nil, err
		}
		data, err := io.ReadAll(io.LimitReader(f, 1<<20))
		if err != nil {
			f.Close()
			return Record{}, nil, fmt.Errorf("read process record: %w", err)
		}
		r, err := decodeRecord(file, data)
		if err != nil || r.PID != 0 {
			f.Close()
			return r, nil, err
		}
		locked := wait(func() bool { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil })
		if !locked {
			f.Close()
			return Record{}, nil, fmt.Errorf("process record %s: another Polder is starting this process", file)
		}
		if now, err := os.ReadFile(file); err == nil && bytes.Equal(now, data) {
			return r, f, nil
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.Close()
			return Record{}, nil, fmt.Errorf("read process record: %w", err)
		}
		f.Close() // its owner finished while we waited: look again
	}
}
