package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// MaxLine is the longest line, in bytes, that Tail and ReadLast hand on whole.
// A longer one comes in pieces of this size.
const MaxLine = 16 << 10

// Tail hands every line of file (without its end) to line, from the start, and
// then those that are appended, until ctx ends, which is no error. The file
// may come into being later, and may be shortened by Rotate at any time; what
// was not yet read then is read from the rotated copy. line is called from
// Tail's goroutine; the slice is valid during the call. A last line without an
// end is handed on when ctx ends.
func Tail(ctx context.Context, file string, line func([]byte)) error {
	return follow(ctx, file, false, line)
}

// TailNew is Tail from the file's present end on.
func TailNew(ctx context.Context, file string, line func([]byte)) error {
	return follow(ctx, file, true, line)
}

func follow(ctx context.Context, file string, onlyNew bool, line func([]byte)) error {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("follow log %s: %w", file, err)
	}
	defer watch.Close()
	if err := watch.Add(filepath.Dir(file)); err != nil {
		return fmt.Errorf("follow log %s: %w", file, err)
	}
	t := &tail{file: file, lines: lines{emit: line}}
	if err := t.begin(onlyNew); err != nil {
		return fmt.Errorf("follow log: %w", err)
	}
	defer t.lines.flush()
	for {
		if err := t.read(); err != nil {
			return fmt.Errorf("follow log: %w", err)
		}
		for changed := false; !changed; {
			select {
			case <-ctx.Done():
				return t.read() // what came meanwhile
			case event, ok := <-watch.Events:
				if !ok {
					return nil
				}
				changed = filepath.Clean(event.Name) == filepath.Clean(file)
			case err, ok := <-watch.Errors:
				if ok && !errors.Is(err, fsnotify.ErrEventOverflow) {
					return fmt.Errorf("follow log %s: %w", file, err)
				}
				changed = true
			}
		}
	}
}

// tail is a reader's place in a log that is rotated by copy and truncate.
type tail struct {
	file    string
	offset  int64
	rotated os.FileInfo // the rotated copy that was there when offset last counted; nil for none
	lines   lines
}

func (t *tail) begin(onlyNew bool) error {
	log, err := openShared(t.file)
	if log == nil || err != nil {
		return err
	}
	defer log.Close()
	if onlyNew {
		t.offset, err = log.Seek(0, io.SeekEnd)
	}
	t.rotated = identity(rotatedName(t.file))
	return err
}

// read hands on what is new.
func (t *tail) read() error {
	log, err := openShared(t.file)
	if log == nil || err != nil {
		return err
	}
	defer log.Close()
	if now := identity(rotatedName(t.file)); now != nil && (t.rotated == nil || !os.SameFile(now, t.rotated)) {
		saved, err := os.Open(rotatedName(t.file))
		if err != nil {
			return err
		}
		defer saved.Close()
		if err := t.readFrom(saved); err != nil {
			return err
		}
		t.offset, t.rotated = 0, now
	}
	info, err := log.Stat()
	if err != nil {
		return err
	}
	if info.Size() < t.offset {
		t.offset = 0 // shortened by somebody else
	}
	return t.readFrom(log)
}

func (t *tail) readFrom(f *os.File) error {
	if _, err := f.Seek(t.offset, io.SeekStart); err != nil {
		return err
	}
	n, err := io.Copy(&t.lines, f)
	t.offset += n
	return err
}

// openShared opens a log and keeps Rotate away from it until it is closed.
// A log that does not exist is nil.
func openShared(file string) (*os.File, error) {
	log, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := lockFile(log, unix.LOCK_SH); err != nil {
		log.Close()
		return nil, err
	}
	return log, nil
}

// identity is the file's identity, or nil when there is none.
func identity(name string) os.FileInfo {
	info, err := os.Stat(name)
	if err != nil {
		return nil
	}
	return info
}

// lines cuts a stream of bytes into lines of at most MaxLine.
type lines struct {
	emit    func([]byte)
	partial []byte // shorter than MaxLine
}

func (l *lines) Write(data []byte) (int, error) {
	all := len(data)
	for len(data) > 0 {
		part, rest, ended := bytes.Cut(data, []byte{'\n'})
		if room := MaxLine - len(l.partial); len(part) > room {
			part, rest, ended = data[:room], data[room:], true
		}
		data = rest
		if !ended {
			l.partial = append(l.partial, part...)
			break
		}
		if len(l.partial) > 0 {
			part = append(l.partial, part...)
			l.partial = l.partial[:0]
		}
		l.emit(part)
	}
	return all, nil
}

func (l *lines) flush() {
	if len(l.partial) > 0 {
		l.emit(l.partial)
		l.partial = nil
	}
}

// ReadLast returns the last n lines of the log, oldest first, its rotated copy
// included. No more than 1 MiB is read,
// so the first of them may lack its beginning. A log that does not exist is empty.
func ReadLast(file string, n int) ([]string, error) {
	log, err := openShared(file)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	if log == nil {
		return nil, nil
	}
	defer log.Close()
	newer, left, err := lastPart(log, mostRead)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	var older io.Reader = strings.NewReader("")
	if saved, err := os.Open(rotatedName(file)); err == nil {
		defer saved.Close()
		if older, _, err = lastPart(saved, left); err != nil {
			return nil, fmt.Errorf("read log: %w", err)
		}
	}
	var kept []string
	all := lines{emit: func(line []byte) {
		if kept = append(kept, string(line)); len(kept) > 2*n {
			kept = append(kept[:0], kept[len(kept)-n:]...)
		}
	}}
	if _, err := io.Copy(&all, io.MultiReader(older, newer)); err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	all.flush()
	return kept[max(0, len(kept)-n):], nil
}

// mostRead bounds what ReadLast reads, in bytes.
const mostRead = 1 << 20

// lastPart reads the last most bytes of f; left is how many of them it lacks.
func lastPart(f *os.File, most int64) (part io.Reader, left int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	size := min(info.Size(), most)
	return io.NewSectionReader(f, info.Size()-size, size), most - size, nil
}
