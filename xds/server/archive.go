package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/polder/polder/xds"
)

const (
	// archiveEvery is how long accepted versions may wait to be written.
	archiveEvery = time.Second
	// archiveSlack is how much of the file may be outdated, in bytes, before it
	// is written anew, besides as much as is not.
	archiveSlack = 1 << 20
)

// Archive keeps the last version of each service's resources that an Envoy
// accepted, and which version each Envoy rejected, in a file that survives a restart
// of Polder and Envoy: a service that is bad in the configuration then goes on
// with its last good version. It holds neither secrets nor endpoints, which are
// of the moment, nor what belongs to the node as a whole: an old listener could
// let in what the law has forbidden since.
//
// The file is a journal: a change appends one line. Only the owner may read it.
// All methods may be called from any goroutine, and on nil, which keeps nothing.
type Archive struct {
	// Fixed after construction.
	file string
	log  *slog.Logger

	mu      sync.Mutex // guards these; never held while the disk is waited for
	entries map[xds.Key]entry
	used    map[xds.Key]bool // applied since the start; all others are of the past
	pending map[xds.Key]bool // differ from the file

	disk    sync.Mutex // held while the file is written; guards these
	lengths map[xds.Key]int64
	size    int64 // of the file
	live    int64 // of its lines that still count, the sum of lengths
	damaged bool  // it has a line that cannot be read, and must be written anew
}

// entry is what is known of one resource.
type entry struct {
	Good    []byte                 `json:"good,omitempty"`    // its bytes
	Refused map[string]keptRefusal `json:"refused,omitempty"` // by node; never changed, but replaced
}

// keptRefusal is a refusal in the file.
type keptRefusal struct {
	Version string `json:"version"`
	Instead []byte `json:"instead,omitempty"`
}

func (e entry) empty() bool { return e.Good == nil && len(e.Refused) == 0 }

// line is an entry in the file. One without Good and Refused removes it.
type line struct {
	Type string `json:"type"`
	Name string `json:"name"`
	entry
}

// OpenArchive reads a file that may not exist yet. A line that a crash cut
// short, or that was damaged, is left out.
func OpenArchive(file string, log *slog.Logger) (*Archive, error) {
	a := &Archive{file: file, log: log, entries: map[xds.Key]entry{}, used: map[xds.Key]bool{}, pending: map[xds.Key]bool{}, lengths: map[xds.Key]int64{}}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the accepted resources: %w", err)
	}
	a.size = int64(len(data))
	for text := range bytes.Lines(data) {
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			log.Warn("the archive of accepted resources has a damaged line", "file", file, "reason", err)
			a.damaged = true
			continue
		}
		key := xds.Key{Type: l.Type, Name: l.Name}
		delete(a.entries, key)
		if !l.empty() {
			a.entries[key] = l.entry
		}
		a.count(key, l.entry, int64(len(text)))
	}
	return a, nil
}

// Run writes what is new until ctx ends, and then once more.
func (a *Archive) Run(ctx context.Context) error {
	ticker := time.NewTicker(archiveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := a.flush(false); err != nil {
				a.log.Warn("accepted resources are not kept for a restart", "reason", err)
			}
		case <-ctx.Done():
			return a.flush(true)
		}
	}
}

// archived tells whether resources of this kind are kept.
func archived(key xds.Key) bool {
	ok := false
	switch key.Type {
	case xds.TypeCluster:
		_, ok = xds.ClusterService(key.Name)
	case xds.TypeRoute:
		ok = xds.IsHostRoutes(key.Name)
	case xds.TypeScope:
		ok = true
	}
	return ok
}

// remembered gives what was accepted and rejected before.
func (a *Archive) remembered() (good map[xds.Key]xds.Resource, refused map[nodeKey]refusal) {
	good, refused = map[xds.Key]xds.Resource{}, map[nodeKey]refusal{}
	if a == nil {
		return good, refused
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, e := range a.entries {
		if e.Good != nil {
			good[key] = xds.Restore(key, e.Good)
		}
		for node, kept := range e.Refused {
			no := refusal{version: kept.Version}
			if kept.Instead != nil {
				no.instead = xds.Restore(key, kept.Instead)
			}
			refused[nodeKey{node, key}] = no
		}
	}
	return good, refused
}

// keep notes what a node accepted.
func (a *Archive) keep(node string, r xds.Resource) {
	a.change(r.Key, func(e *entry) bool {
		_, refused := e.Refused[node]
		if bytes.Equal(e.Good, r.Body.Value) && !refused {
			return false
		}
		e.Good = r.Body.Value
		if refused {
			e.Refused = maps.Clone(e.Refused)
			delete(e.Refused, node)
		}
		return true
	})
}

// refuse notes what a node rejected.
func (a *Archive) refuse(node string, key xds.Key, no refusal) {
	a.change(key, func(e *entry) bool {
		kept := keptRefusal{Version: no.version, Instead: no.instead.Body.GetValue()}
		if before, said := e.Refused[node]; said && before.Version == kept.Version && bytes.Equal(before.Instead, kept.Instead) {
			return false
		}
		refused := map[string]keptRefusal{node: kept}
		for other, of := range e.Refused {
			if other != node {
				refused[other] = of
			}
		}
		e.Refused = refused
		return true
	})
}

func (a *Archive) forget(key xds.Key) {
	a.change(key, func(e *entry) bool {
		changed := !e.empty()
		*e = entry{}
		return changed
	})
}

// use says that the configuration has this resource.
func (a *Archive) use(key xds.Key) { a.change(key, func(*entry) bool { return false }) }

func (a *Archive) change(key xds.Key, edit func(*entry) bool) {
	if a == nil || !archived(key) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used[key] = true
	e := a.entries[key]
	if edit(&e) {
		a.entries[key] = e
		a.pending[key] = true
	}
}

// flush writes what is pending, or everything if much of the file is outdated
// or this is the end. What the configuration no longer has goes at the end.
func (a *Archive) flush(end bool) error {
	a.disk.Lock()
	defer a.disk.Unlock()
	rewrite := end || a.damaged || a.size > 2*a.live+archiveSlack
	changes := a.take(rewrite, end)
	if len(changes) == 0 && !end {
		return nil
	}
	write := a.append
	if rewrite {
		write = a.replace
	}
	if err := write(changes); err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		for key := range changes {
			a.pending[key] = true
		}
		return err
	}
	return nil
}

// take hands over what is to be written: what is pending, or everything.
func (a *Archive) take(everything, end bool) map[xds.Key]entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.pending) == 0 && !end {
		return nil
	}
	if end && len(a.used) > 0 {
		maps.DeleteFunc(a.entries, func(key xds.Key, _ entry) bool { return !a.used[key] })
	}
	changes := map[xds.Key]entry{}
	if everything {
		maps.Copy(changes, a.entries)
	} else {
		for key := range a.pending {
			changes[key] = a.entries[key]
		}
	}
	maps.DeleteFunc(a.entries, func(_ xds.Key, e entry) bool { return e.empty() })
	a.pending = map[xds.Key]bool{}
	return changes
}

// append adds lines at the end of the file.
func (a *Archive) append(changes map[xds.Key]entry) error {
	file, err := os.OpenFile(a.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	return a.write(file, changes)
}

// replace writes a new file and puts it in the place of the old one.
func (a *Archive) replace(all map[xds.Key]entry) error {
	file, err := os.CreateTemp(filepath.Dir(a.file), filepath.Base(a.file)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	a.lengths, a.size, a.live = map[xds.Key]int64{}, 0, 0
	maps.DeleteFunc(all, func(_ xds.Key, e entry) bool { return e.empty() })
	if err := a.write(file, all); err != nil {
		return err
	}
	a.damaged = false
	return os.Rename(file.Name(), a.file)
}

func (a *Archive) write(file *os.File, changes map[xds.Key]entry) error {
	out := bufio.NewWriter(file)
	for key, e := range changes {
		text, err := json.Marshal(line{key.Type, key.Name, e})
		if err != nil {
			return err
		}
		out.Write(text)     //nolint:errcheck // Flush tells
		out.WriteByte('\n') //nolint:errcheck // Flush tells
		a.count(key, e, int64(len(text))+1)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return file.Sync()
}

// count takes note of a line in the file.
func (a *Archive) count(key xds.Key, e entry, length int64) {
	a.size += length
	a.live -= a.lengths[key]
	delete(a.lengths, key)
	if !e.empty() {
		a.lengths[key] = length
		a.live += length
	}
}
