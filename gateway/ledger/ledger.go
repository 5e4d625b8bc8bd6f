package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polder/polder"
)

// SyncEvery is how long a record may be in the file and not yet on the disk.
const SyncEvery = time.Second

// Options of a Ledger.
type Options struct {
	Dir          string // created, mode 0700
	Region       polder.RegionName
	SegmentBytes int64 // at which a segment is sealed; 0 means 8 MiB
	Keep         int   // segments, the open one included; 0 means 64, at least 2
}

// ErrInUse says that another process has the ledger open.
var ErrInUse = errors.New("ledger is in use by another process")

// Ledger is an open ledger. Make one with Open, and end it with Close.
type Ledger struct {
	// Fixed after construction.
	options Options
	lock    *os.File

	mu      sync.Mutex // guards all below
	file    *os.File   // the open segment; nil after Close
	segment int        // its number
	size    int64      // bytes in it that are whole lines
	records uint64     // in it
	head    Head
	synced  Head   // what the head file says
	lost    uint64 // records that could not be written since the last one that could
	fault   error  // of the last write; nil when it went well
}

// Open opens a ledger, or begins one, and verifies all of it. It leaves alone
// what it cannot trust: a damaged ledger is set aside and a new one begun.
func Open(o Options) (*Ledger, error) {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 8 << 20
	}
	if o.Keep == 0 {
		o.Keep = 64
	}
	o.Keep = max(o.Keep, 2)
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("ledger of region %s: %w", o.Region, err)
	}
	lock, err := os.OpenFile(filepath.Join(o.Dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("ledger of region %s: %w", o.Region, err)
	}
	l := &Ledger{options: o, lock: lock}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrInUse
		}
		return nil, fmt.Errorf("ledger of region %s in %s: %w", o.Region, o.Dir, err)
	}
	if err := l.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("ledger of region %s: %w", o.Region, err), l.Close())
	}
	return l, nil
}

// begin finds the end of what is there, or starts afresh.
func (l *Ledger) begin() error {
	summary, err := Verify(l.options.Dir)
	var damage *DamageError
	switch {
	case errors.As(err, &damage):
		aside, err := setAside(l.options.Dir)
		if err != nil {
			return err
		}
		if err := l.open(1, ""); err != nil {
			return err
		}
		return l.Append(Damaged, map[string]any{"found": damage.lines(), "kept": filepath.Base(aside)})
	case err != nil:
		return err
	case summary.Segments == 0:
		return l.open(1, "")
	}
	l.head = summary.Head
	if summary.sealed {
		return l.open(summary.last+1, l.head.Hash)
	}
	if summary.lastRecords == 0 { // a crash left less than its first line
		if err := os.Remove(segmentFile(l.options.Dir, summary.last)); err != nil {
			return err
		}
		return l.open(summary.last, l.head.Hash)
	}
	file, err := os.OpenFile(segmentFile(l.options.Dir, summary.last), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	l.file, l.segment, l.size, l.records = file, summary.last, summary.lastBytes, summary.lastRecords
	if summary.Unfinished > 0 {
		if err := file.Truncate(l.size); err != nil {
			return err
		}
		return l.Append(Truncated, map[string]any{"bytes": summary.Unfinished})
	}
	return nil
}

// open begins a segment. Called with mu held, or before anybody else knows l.
func (l *Ledger) open(segment int, previous string) error {
	name := segmentFile(l.options.Dir, segment)
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	l.file, l.segment, l.size, l.records = file, segment, 0, 0
	if err := syncDir(l.options.Dir); err != nil {
		return err
	}
	return l.write(opened, openedData{Segment: segment, Previous: previous})
}

// Append adds a record. When it returns without error, the record outlives this
// process. A record that cannot be written is counted; the next one that can
// follows a record of kind Lost.
func (l *Ledger) Append(kind Kind, data any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.append(kind, data)
	if l.fault = err; err != nil {
		l.lost++
		return fmt.Errorf("ledger of region %s: record %q is lost: %w", l.options.Region, kind, err)
	}
	return nil
}

func (l *Ledger) append(kind Kind, data any) error {
	if l.file == nil {
		return fs.ErrClosed
	}
	if l.lost > 0 {
		if err := l.write(Lost, map[string]any{"records": l.lost}); err != nil {
			return err
		}
		l.lost = 0
	}
	if err := l.write(kind, data); err != nil {
		return err
	}
	if l.size < l.options.SegmentBytes {
		return nil
	}
	return l.roll()
}

// write adds one line to the open segment. What was written of a line that
// failed is cut off again, so that the next one does not join it.
func (l *Ledger) write(kind Kind, data any) error {
	var body json.RawMessage
	if data != nil {
		var err error
		if body, err = json.Marshal(data); err != nil {
			return err
		}
	}
	line, hash, err := seal(Record{
		Sequence: l.head.Sequence + 1, Time: time.Now().UTC(), Region: l.options.Region, Kind: kind, Data: body,
	}, l.head.Hash)
	if err != nil {
		return err
	}
	if n, err := l.file.Write(line); err != nil {
		if n > 0 {
			err = errors.Join(err, l.file.Truncate(l.size))
		}
		return err
	}
	l.size += int64(len(line))
	l.records++
	l.head = Head{l.head.Sequence + 1, hash}
	return nil
}

// roll seals the open segment, begins the next one, and removes what is too old.
func (l *Ledger) roll() error {
	if err := l.write(sealed, sealedData{Segment: l.segment, Records: l.records}); err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		return err
	}
	// 0400 keeps accidents away, not intent.
	if err := errors.Join(l.file.Chmod(0o400), l.file.Close()); err != nil {
		return err
	}
	if err := l.open(l.segment+1, l.head.Hash); err != nil {
		return err
	}
	return l.prune()
}

// prune removes the oldest segments. That they are gone is on disk before they
// are, so that a crash in between leaves too much and not too little.
func (l *Ledger) prune() error {
	numbers, err := segments(l.options.Dir)
	if err != nil {
		return err
	}
	for len(numbers) > l.options.Keep {
		oldest := numbers[0]
		numbers = numbers[1:]
		last, err := lastOf(l.options.Dir, oldest)
		if err != nil {
			return err
		}
		if err := l.write(pruned, prunedData{Segment: oldest, Last: last.Sequence, Hash: last.Hash}); err != nil {
			return err
		}
		if err := l.sync(); err != nil {
			return err
		}
		if err := os.Remove(segmentFile(l.options.Dir, oldest)); err != nil {
			return err
		}
	}
	return nil
}

// Run syncs what is written to disk until ctx ends.
func (l *Ledger) Run(ctx context.Context) error {
	ticker := time.NewTicker(SyncEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			l.Sync() // its fault is kept for Status
		case <-ctx.Done():
			return nil
		}
	}
}

// Sync brings everything that was appended to disk.
func (l *Ledger) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return fs.ErrClosed
	}
	err := l.sync()
	if err != nil {
		l.fault = err
	}
	return err
}

func (l *Ledger) sync() error {
	if l.head == l.synced {
		return nil
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	if err := writeHead(l.options.Dir, l.head); err != nil {
		return err
	}
	l.synced = l.head
	return nil
}

// Status is the state of an open ledger.
type Status struct {
	Head    Head   `json:"head"`
	Segment int    `json:"segment"`
	Lost    uint64 `json:"lost,omitempty"`  // records that could not be written, and are not yet told
	Fault   string `json:"fault,omitempty"` // why the last one could not
}

// Status tells where the ledger stands.
func (l *Ledger) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{Head: l.head, Segment: l.segment, Lost: l.lost}
	if l.fault != nil {
		s.Fault = l.fault.Error()
	}
	return s
}

// Intact tells whether the open segment is on disk as it was written: not
// removed, replaced, cut or added to by another hand. It costs a look at the
// file's size; Verify reads all.
func (l *Ledger) Intact() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return fs.ErrClosed
	}
	name := segmentFile(l.options.Dir, l.segment)
	mine, err := l.file.Stat()
	if err != nil {
		return fmt.Errorf("ledger of region %s: %w", l.options.Region, err)
	}
	there, err := os.Stat(name)
	switch {
	case err != nil:
		return fmt.Errorf("ledger of region %s: its open segment is gone: %w", l.options.Region, err)
	case !os.SameFile(mine, there):
		return fmt.Errorf("ledger of region %s: %s was replaced by another file", l.options.Region, filepath.Base(name))
	case there.Size() != l.size:
		return fmt.Errorf("ledger of region %s: %s has %d bytes, %d were written", l.options.Region, filepath.Base(name), there.Size(), l.size)
	}
	return nil
}

// Close syncs and closes. Append fails afterwards.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var faults []error
	if l.file != nil {
		faults = append(faults, l.sync(), l.file.Close())
		l.file = nil
	}
	return errors.Join(append(faults, l.lock.Close())...) // closing it gives the lock back
}
