package instance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm/instance/process"
)

// LogLimits bounds what is kept of instances' logs.
type LogLimits struct {
	Bytes int64 // of one log before it is rotated; one rotated copy is kept
	Files int   // logs of ended instances kept per service
}

// DefaultLogLimits is what production uses.
func DefaultLogLimits() LogLimits { return LogLimits{Bytes: 8 << 20, Files: 5} }

// keepEvery is how often logs are rotated and old ones removed. In between a
// log may outgrow its limit.
const keepEvery = 5 * time.Second

const logSuffix = ".log"

// LogDir is where the logs below a state folder are: one folder per service,
// one file per instance.
func LogDir(stateDir string) string { return filepath.Join(stateDir, "logs") }

func (m *Manager) logFile(service polder.ServiceName, id polder.InstanceID) string {
	return filepath.Join(LogDir(m.o.StateDir), string(service), string(id)+logSuffix)
}

// keepLogs holds all logs to their limits, from the adoption until ended is closed.
func (m *Manager) keepLogs(ended <-chan struct{}) {
	select {
	case <-m.adopted:
	case <-ended:
		return
	}
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		if err := m.trimLogs(); err != nil {
			m.o.Log.Warn("logs of instances could not be trimmed", "region", m.o.Region, "error", err)
		}
		select {
		case <-tick.C:
		case <-ended:
			return
		}
	}
}

func (m *Manager) trimLogs() error {
	services, err := os.ReadDir(LogDir(m.o.StateDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var failed error
	for _, service := range services {
		failed = errors.Join(failed, m.trimService(polder.ServiceName(service.Name())))
	}
	return failed
}

func (m *Manager) trimService(service polder.ServiceName) error {
	logs, err := listLogs(filepath.Join(LogDir(m.o.StateDir), string(service)))
	if err != nil {
		return err
	}
	var failed error
	ended := 0
	for _, l := range slices.Backward(logs) {
		m.mu.Lock()
		running := m.table[l.instance] != nil || m.leaving
		m.mu.Unlock()
		if running {
			_, err := process.Rotate(l.file, m.o.Logs.Bytes)
			failed = errors.Join(failed, err)
			continue
		}
		if ended++; ended > m.o.Logs.Files {
			failed = errors.Join(failed, process.RemoveLog(l.file))
		}
	}
	return failed
}

// logEntry is a log on disk.
type logEntry struct {
	instance polder.InstanceID
	file     string
	written  time.Time // last
}

// listLogs lists the logs of a service, those last written to at the end.
func listLogs(dir string) ([]logEntry, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	var logs []logEntry
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), logSuffix)
		info, err := f.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			continue
		}
		logs = append(logs, logEntry{polder.InstanceID(name), filepath.Join(dir, f.Name()), info.ModTime()})
	}
	slices.SortFunc(logs, func(a, b logEntry) int {
		return cmp.Or(a.written.Compare(b.written), cmp.Compare(a.instance, b.instance))
	})
	return logs, nil
}

// LogLine is a line that an instance wrote to its stdout or stderr.
type LogLine struct {
	Instance polder.InstanceID
	Text     string
}

// Logs returns the last lines of each instance of the service, or of the one
// instance if id is not "": those of the instance that wrote last come last.
// With follow it goes on with what is written, by new instances as well, until
// ctx ends. It reads files only, so it works for every folder below LogDir, and
// beside a running Manager. An error ends the sequence.
func Logs(ctx context.Context, stateDir string, service polder.ServiceName, id polder.InstanceID, lines int, follow bool) iter.Seq2[LogLine, error] {
	return func(yield func(LogLine, error) bool) {
		f := &follower{dir: filepath.Join(LogDir(stateDir), string(service)), only: id, lines: lines, out: make(chan LogLine), known: map[string]context.CancelFunc{}, failed: make(chan error, 1)}
		if err := f.run(ctx, follow, yield); err != nil {
			yield(LogLine{}, fmt.Errorf("logs of service %s: %w", service, err))
		}
	}
}

// follower merges the logs of one service.
type follower struct {
	dir   string
	only  polder.InstanceID
	lines int
	out   chan LogLine
	known map[string]context.CancelFunc // ends the reader of a file

	readers sync.WaitGroup
	failed  chan error // the first failure of a reader
}

func (f *follower) run(ctx context.Context, follow bool, yield func(LogLine, error) bool) error {
	logs, err := listLogs(f.dir)
	if err != nil {
		return err
	}
	logs = slices.DeleteFunc(logs, func(l logEntry) bool { return !f.wants(l.instance) })
	if f.only != "" && len(logs) == 0 {
		return fmt.Errorf("there is none of instance %s", f.only)
	}
	if !follow {
		for _, l := range logs {
			last, err := process.ReadLast(l.file, f.lines)
			if err != nil {
				return err
			}
			for _, text := range last {
				if !yield(LogLine{l.instance, text}, nil) {
					return nil
				}
			}
		}
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer f.readers.Wait()
	defer cancel()
	if err := os.MkdirAll(f.dir, 0o700); err != nil { // of a service that did not run yet
		return err
	}
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watch.Close()
	if err := watch.Add(f.dir); err != nil {
		return err
	}
	return f.follow(ctx, watch, yield)
}

func (f *follower) wants(id polder.InstanceID) bool { return f.only == "" || f.only == id }

func (f *follower) follow(ctx context.Context, watch *fsnotify.Watcher, yield func(LogLine, error) bool) error {
	for tail := f.tailLast; ; tail = process.Tail { // a log that comes later is read from its start
		logs, err := listLogs(f.dir)
		if err != nil {
			return err
		}
		for _, l := range logs {
			if !f.wants(l.instance) || f.known[l.file] != nil {
				continue
			}
			reading, end := context.WithCancel(ctx)
			f.known[l.file] = end
			f.readers.Go(func() {
				defer end()
				if err := tail(reading, l.file, f.emit(reading, l.instance)); err != nil {
					f.fail(err)
				}
			})
		}
		for again := false; !again; {
			select {
			case line := <-f.out:
				if !yield(line, nil) {
					return nil
				}
			case event := <-watch.Events:
				again = event.Has(fsnotify.Create)
				if end := f.known[event.Name]; end != nil && event.Has(fsnotify.Remove) {
					end()
					delete(f.known, event.Name)
				}
			case err := <-watch.Errors:
				if !errors.Is(err, fsnotify.ErrEventOverflow) {
					return err
				}
				again = true
			case <-ctx.Done():
				return nil
			case err := <-f.failed:
				return err
			}
		}
	}
}

func (f *follower) tailLast(ctx context.Context, file string, line func([]byte)) error {
	return process.TailLast(ctx, file, f.lines, line)
}

func (f *follower) emit(ctx context.Context, id polder.InstanceID) func([]byte) {
	return func(text []byte) {
		select {
		case f.out <- LogLine{id, string(text)}:
		case <-ctx.Done():
		}
	}
}

func (f *follower) fail(err error) {
	select {
	case f.failed <- err:
	default:
	}
}
