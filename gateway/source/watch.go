package source

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// holdOff is how long a source must be quiet before it is read: editors
	// and deployment tools write a file in several steps.
	holdOff = 100 * time.Millisecond
	// maxHoldOff bounds the waiting for quiet.
	maxHoldOff = time.Second
	// pollAlone is how often we look when the system notifies of nothing, and
	// pollBeside how often when it does, for what it may have missed.
	pollAlone  = 2 * time.Second
	pollBeside = 10 * time.Second
)

// Watch hands over the present reading at once, and each later one that differs
// from the one before. It blocks until ctx has ended, and then returns nil.
func (s Source) Watch(ctx context.Context, deliver func(Reading)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		s.log().Warn("no notifications of changes to the configuration, looking for them instead", "path", s.Path, "every", pollAlone, "error", err)
		return s.watch(ctx, nil, pollAlone, deliver)
	}
	defer w.Close()
	return s.watch(ctx, w, pollBeside, deliver)
}

func (s Source) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// watch is Watch with a watcher, or without one.
func (s Source) watch(ctx context.Context, watcher *fsnotify.Watcher, poll time.Duration, deliver func(Reading)) error {
	var (
		events <-chan fsnotify.Event
		errs   <-chan error
	)
	if watcher != nil {
		events, errs = watcher.Events, watcher.Errors
	}
	l := &look{source: s, watcher: watcher, watched: make(map[string]fs.FileInfo)}
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	timer := time.NewTimer(0) // the first reading is due at once
	defer timer.Stop()
	var hold hold
	for {
		changed := false
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			hold = noHold
			if r, news := l.read(); news {
				deliver(r)
			}
			if l.blind {
				ticker.Reset(min(poll, pollAlone))
			} else {
				ticker.Reset(poll)
			}
			// What changed while we read or delivered is a change as well.
			changed = l.changed()
		case e, ok := <-events:
			if !ok {
				events = nil
			}
			changed = l.changed() || l.concerned(e)
		case err, ok := <-errs:
			if !ok {
				errs = nil
			} else if !errors.Is(err, fsnotify.ErrEventOverflow) {
				s.log().Warn("notifications of changes to the configuration are disturbed", "path", s.Path, "error", err)
			}
			changed = l.changed()
		case <-ticker.C:
			changed = l.changed()
		}
		if changed {
			now := time.Now()
			hold = hold.touch(now)
			timer.Reset(hold.due.Sub(now))
		}
	}
}

// hold says when a source that is being changed will be read.
type hold struct{ first, due time.Time }

var noHold = hold{}

// touch notes one more change: reading waits for quiet, though not for ever.
func (h hold) touch(now time.Time) hold {
	if h == noHold {
		h.first = now
	}
	h.due = now.Add(holdOff)
	if last := h.first.Add(maxHoldOff); h.due.After(last) {
		h.due = last
	}
	return h
}

// look is what a watch last saw.
type look struct {
	source  Source
	watcher *fsnotify.Watcher // nil when the system notifies of nothing
	seen    stamp
	absent  bool // the source could not be looked at
	last    *Reading
	watched map[string]fs.FileInfo // folders, as they were when their watch began
	blind   bool                   // some folder could not be watched
}

// changed tells whether the source looks different from the last time.
func (l *look) changed() bool {
	st, err := l.source.stamp()
	absent := err != nil
	if absent == l.absent && (absent || st.equal(l.seen)) {
		return false
	}
	l.seen, l.absent = st, absent
	return true
}

// concerned tells whether an event is about a file that was read: its times
// are too coarse to show two changes in quick succession.
func (l *look) concerned(e fsnotify.Event) bool {
	return e.Op&^fsnotify.Chmod != 0 && slices.ContainsFunc(l.seen.files, func(f fileStamp) bool {
		return filepath.Base(f.path) == filepath.Base(e.Name)
	})
}

// read takes a new reading, and tells whether it differs from the last one.
func (l *look) read() (Reading, bool) {
	l.follow() // before looking, so that no change falls between
	st, err := l.source.stamp()
	l.seen, l.absent = st, err != nil
	r := l.source.Load()
	if l.last != nil && l.last.same(r) {
		return r, false
	}
	l.last = &r
	return r, true
}

// follow watches the folders in which a change of the source shows: its own,
// the one above (it may be replaced as a whole) and those to which symbolic
// links lead.
func (l *look) follow() {
	if l.watcher == nil {
		return
	}
	folders := l.folders()
	for name, was := range l.watched {
		// A watch stays with the folder and not with its name.
		if info, err := os.Stat(name); !folders[name] || err != nil || !os.SameFile(info, was) {
			_ = l.watcher.Remove(name) // an error says that it is gone already
			delete(l.watched, name)
		}
	}
	blind := false
	for name := range folders {
		if _, ok := l.watched[name]; ok {
			continue
		}
		info, err := os.Stat(name)
		if err == nil {
			err = l.watcher.Add(name)
		}
		if err != nil {
			blind = true
			if !l.blind {
				l.source.log().Warn("no notifications of changes in a folder of the configuration, looking for them instead",
					"folder", name, "every", pollAlone, "error", err)
			}
			continue
		}
		l.watched[name] = info
	}
	l.blind = blind
}

func (l *look) folders() map[string]bool {
	folders := make(map[string]bool)
	add := func(path string) {
		folders[filepath.Dir(path)] = true
		if real, err := filepath.EvalSymlinks(path); err == nil {
			folders[filepath.Dir(real)] = true
		}
	}
	add(filepath.Clean(l.source.Path))
	st, err := l.source.stamp()
	if err != nil {
		return folders
	}
	if st.folder {
		folders[l.source.Path] = true
	}
	for _, f := range st.files {
		add(f.path)
	}
	return folders
}
