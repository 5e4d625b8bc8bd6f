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
	return follow(ctx, file, whole, line)
}

// TailLast is Tail from the last n lines on, with the limits of ReadLast; n = 0
// means what is written from now on.
func TailLast(ctx context.Context, file string, n int, line func([]byte)) error {
	return follow(ctx, file, n, line)
}

// whole as a number of lines means all of the file that there is.
const whole = -1

func follow(ctx context.Context, file string, last int, line func([]byte)) error {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("follow log %s: %w", file, err)
	}
	defer watch.Close()
	if err := watch.Add(filepath.Dir(file)); err != nil {
		return fmt.Errorf("follow log %s: %w", file, err)
	}
	t := &tail{file: file, lines: lines{emit: line}}
	if err := t.begin(last); err != nil {
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

func (t *tail) begin(last int) error {
	log, err := openShared(t.file)
	if log == nil || err != nil {
		return err
	}
	defer log.Close()
	t.rotated = identity(rotatedName(t.file))
	if last == whole {
		return nil
	}
	part, err := lastLines(log, t.file, last)
	if err != nil {
		return err
	}
	for _, line := range part.lines {
		t.lines.emit([]byte(line))
	}
	t.lines.partial, t.offset = part.rest, part.end
	return nil
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
// included. No more than 1 MiB is read, so the first of them may lack its
// beginning. A log that does not exist is empty.
func ReadLast(file string, n int) ([]string, error) {
	log, err := openShared(file)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	if log == nil {
		return nil, nil
	}
	defer log.Close()
	part, err := lastLines(log, file, n)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	if len(part.rest) > 0 {
		part.lines = append(part.lines, string(part.rest))
	}
	return part.lines[max(0, len(part.lines)-n):], nil
}

// ending is the last part of a log.
type ending struct {
	lines []string
	rest  []byte // after the last line's end
	end   int64  // offset in the log up to which it was read
}

func lastLines(log *os.File, file string, n int) (e ending, err error) {
	newer, err := lastPart(log, mostRead)
	if err != nil {
		return e, err
	}
	_, start, size := newer.Outer()
	e.end = start + size
	var older io.Reader = strings.NewReader("")
	if saved, err := os.Open(rotatedName(file)); err == nil {
		defer saved.Close()
		if older, err = lastPart(saved, mostRead-size); err != nil {
			return e, err
		}
	}
	all := lines{emit: func(line []byte) {
		if e.lines = append(e.lines, string(line)); len(e.lines) > 2*n {
			e.lines = append(e.lines[:0], e.lines[len(e.lines)-n:]...)
		}
	}}
	if _, err := io.Copy(&all, io.MultiReader(older, newer)); err != nil {
		return e, err
	}
	e.lines, e.rest = e.lines[max(0, len(e.lines)-n):], all.partial
	return e, nil
}

// mostRead bounds what ReadLast reads, in bytes.
const mostRead = 1 << 20

// lastPart reads the last most bytes that f has now.
func lastPart(f *os.File, most int64) (*io.SectionReader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := min(info.Size(), most)
	return io.NewSectionReader(f, info.Size()-size, size), nil
}
