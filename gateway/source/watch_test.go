package source

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/polder/polder"
)

// patience bounds every wait for something that is sure to happen.
const patience = 30 * time.Second

// watching is a Watch under test.
type watching struct {
	t        *testing.T
	readings chan Reading
}

// watch starts watching with the system's notifications.
func watch(t *testing.T, path string) *watching {
	return start(t, func(ctx context.Context, deliver func(Reading)) error {
		return Source{Path: path}.Watch(ctx, deliver)
	})
}

// watchByLooking starts watching on a system that notifies of nothing.
func watchByLooking(t *testing.T, path string) *watching {
	return start(t, func(ctx context.Context, deliver func(Reading)) error {
		return Source{Path: path}.watch(ctx, nil, 10*time.Millisecond, deliver)
	})
}

func start(t *testing.T, run func(context.Context, func(Reading)) error) *watching {
	w := &watching{t: t, readings: make(chan Reading)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, func(r Reading) {
			select {
			case w.readings <- r:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error("watching ended with", err)
			}
		case <-time.After(patience):
			t.Error("watching does not end")
		}
	})
	return w
}

// until waits for a reading that satisfies the condition.
func (w *watching) until(what string, ok func(Reading) bool) Reading {
	w.t.Helper()
	deadline := time.After(patience)
	var last Reading
	for {
		select {
		case last = <-w.readings:
			if ok(last) {
				return last
			}
		case <-deadline:
			w.t.Fatalf("no reading came with %s; the last has faults %v", what, last.Faults)
		}
	}
}

func (w *watching) untilService(name polder.ServiceName) {
	w.t.Helper()
	w.until("service "+string(name), func(r Reading) bool { return has(r, name) })
}

func has(r Reading, name polder.ServiceName) bool {
	if r.Model == nil {
		return false
	}
	_, ok := r.Model.Service(name)
	return ok
}

func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// The ways in which people and machines change a configuration.
func TestWatch(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, watch func(*testing.T, string) *watching)
	}{
		{"written in place", func(t *testing.T, watch func(*testing.T, string) *watching) {
			path := filepath.Join(t.TempDir(), "polder.yaml")
			write(t, path, config("one"))
			w := watch(t, path)
			w.untilService("one")
			for i := range 3 {
				name := "then" + strconv.Itoa(i)
				write(t, path, config(name))
				w.untilService(polder.ServiceName(name))
			}
		}},
		{"renamed over, as editors do", func(t *testing.T, watch func(*testing.T, string) *watching) {
			path := filepath.Join(t.TempDir(), "polder.yaml")
			write(t, path, config("one"))
			w := watch(t, path)
			w.untilService("one")
			for i := range 3 {
				name := "then" + strconv.Itoa(i)
				replace(t, path, config(name))
				w.untilService(polder.ServiceName(name))
			}
		}},
		{"links swapped, as a ConfigMap's", func(t *testing.T, watch func(*testing.T, string) *watching) {
			dir := t.TempDir()
			version := func(n, text string) {
				write(t, filepath.Join(dir, "..v"+n, "polder.yaml"), text)
				if err := os.Symlink("..v"+n, filepath.Join(dir, "..data_tmp")); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
					t.Fatal(err)
				}
			}
			version("1", config("one"))
			if err := os.Symlink(filepath.Join("..data", "polder.yaml"), filepath.Join(dir, "polder.yaml")); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{dir, filepath.Join(dir, "polder.yaml")} {
				version("1", config("one"))
				w := watch(t, path)
				w.untilService("one")
				version("2", config("two"))
				w.untilService("two")
				for _, n := range []string{"1", "2"} {
					if err := os.RemoveAll(filepath.Join(dir, "..v"+n)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}},
		{"target of a link written", func(t *testing.T, watch func(*testing.T, string) *watching) {
			dir := t.TempDir()
			target := filepath.Join(dir, "elsewhere", "real.yaml")
			write(t, target, config("one"))
			link := filepath.Join(dir, "conf", "polder.yaml")
			if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, link); err != nil {
				t.Fatal(err)
			}
			w := watch(t, link)
			w.untilService("one")
			write(t, target, config("two"))
			w.untilService("two")
		}},
		{"files added to and removed from a folder", func(t *testing.T, watch func(*testing.T, string) *watching) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "regions.yaml"), regions)
			w := watch(t, dir)
			w.until("the region alone", func(r Reading) bool { return len(r.Faults) == 0 })
			write(t, filepath.Join(dir, "one.yaml"), services("one"))
			w.untilService("one")
			if err := os.Remove(filepath.Join(dir, "one.yaml")); err != nil {
				t.Fatal(err)
			}
			w.until("no service", func(r Reading) bool { return !r.Fatal && !has(r, "one") })
		}},
		{"folder replaced", func(t *testing.T, watch func(*testing.T, string) *watching) {
			dir := filepath.Join(t.TempDir(), "conf")
			for _, name := range []string{"one", "two", "three"} {
				write(t, filepath.Join(dir+"."+name, "polder.yaml"), config(name))
			}
			if err := os.Rename(dir+".one", dir); err != nil {
				t.Fatal(err)
			}
			w := watch(t, dir)
			w.untilService("one")
			if err := os.Rename(dir, dir+".old"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(dir+".two", dir); err != nil {
				t.Fatal(err)
			}
			w.untilService("two")
			write(t, filepath.Join(dir, "polder.yaml"), config("four"))
			w.untilService("four")
		}},
		{"missing for a while", func(t *testing.T, watch func(*testing.T, string) *watching) {
			path := filepath.Join(t.TempDir(), "conf", "polder.yaml")
			w := watch(t, path)
			w.until("a fault", func(r Reading) bool { return r.Fatal })
			write(t, path, config("one"))
			w.untilService("one")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			w.until("a fault", func(r Reading) bool { return r.Fatal && len(r.Faults) == 1 })
			write(t, path, config("two"))
			w.untilService("two")
		}},
		{"broken and repaired", func(t *testing.T, watch func(*testing.T, string) *watching) {
			path := filepath.Join(t.TempDir(), "polder.yaml")
			write(t, path, config("one"))
			w := watch(t, path)
			good := w.until("one", func(r Reading) bool { return has(r, "one") })
			last, _ := good.Apply(nil)
			replace(t, path, "regions: [\n")
			bad := w.until("a fault", func(r Reading) bool { return r.Fatal })
			if m, kept := bad.Apply(last); m != last || len(kept) != 1 {
				t.Errorf("the last good model was not kept: %v", kept)
			}
			replace(t, path, config("two"))
			w.untilService("two")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Run("notified", func(t *testing.T) { c.run(t, watch) })
			t.Run("by looking", func(t *testing.T) { c.run(t, watchByLooking) })
		})
	}
}

func TestTheSameBytesAreNoNews(t *testing.T) {
	path := filepath.Join(t.TempDir(), "polder.yaml")
	write(t, path, config("one"))
	l := &look{source: Source{Path: path}}
	if _, news := l.read(); !news {
		t.Fatal("the first reading is no news")
	}
	if l.changed() {
		t.Error("it changed by being read")
	}
	replace(t, path, config("one"))
	if !l.changed() {
		t.Error("a new file went unnoticed")
	}
	if _, news := l.read(); news {
		t.Error("the same bytes in a new file are news")
	}
	replace(t, path, config("two"))
	if r, news := l.read(); !news || !has(r, "two") {
		t.Error("other bytes are no news")
	}
}

func TestManyChangesAreReadOnceQuiet(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for _, c := range []struct {
		name    string
		changes []int // milliseconds
		due     int
		reason  string
	}{
		{"one change", []int{0}, 100, "quiet for the hold-off"},
		{"two steps of an editor", []int{0, 30}, 130, "the last step counts"},
		{"many", []int{0, 90, 180, 270, 360, 450, 540, 630, 720, 810, 900}, 1000, "never later than the maximum"},
		{"without end", []int{0, 90, 180, 270, 360, 450, 540, 630, 720, 810, 900, 990}, 1000, "never later than the maximum"},
	} {
		h := noHold
		for _, ms := range c.changes {
			h = h.touch(at(ms))
		}
		if !h.due.Equal(at(c.due)) {
			t.Errorf("%s: due after %s, want %d ms: %s", c.name, h.due.Sub(start), c.due, c.reason)
		}
	}
}

func TestLosingTheNotificationsDoesNotEndTheWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "polder.yaml")
	write(t, path, config("one"))
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	w := watchWith(t, path, watcher)
	w.untilService("one")
	watcher.Close() // as if the system took its notifications back
	write(t, path, config("two"))
	w.untilService("two")
}

func watchWith(t *testing.T, path string, watcher *fsnotify.Watcher) *watching {
	return start(t, func(ctx context.Context, deliver func(Reading)) error {
		return Source{Path: path}.watch(ctx, watcher, 10*time.Millisecond, deliver)
	})
}
