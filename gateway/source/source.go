package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/polder/polder"
)

// Source is where a configuration is kept.
type Source struct {
	// Path is a file, or a folder whose *.yaml and *.yml are taken together.
	// Folders below it and names that begin with a dot are not looked at.
	Path string
	// Log is told when watching has to do without notifications; nil for nobody.
	Log *slog.Logger
}

// Reading is one state of a source, decoded.
type Reading struct {
	polder.Result
	Files []polder.File // what was decoded, for the excerpts of polder.RenderFaults
}

// attempts bounds how often Read starts again because files changed under it.
const attempts = 5

// Load reads and decodes. What cannot be read is a fatal fault.
func (s Source) Load() Reading {
	files, err := s.Read()
	if err != nil {
		return Reading{Result: s.unreadable(err)}
	}
	return Reading{Result: polder.Decode(files), Files: files}
}

func (s Source) unreadable(err error) polder.Result {
	return polder.Result{Fatal: true, Faults: []polder.Fault{{
		At:      polder.Position{File: s.Path},
		Message: err.Error(),
		Fix:     "put a readable configuration file, or a folder with *.yaml files, there",
	}}}
}

// Read returns the files, sorted by name, all from one moment: if any of them
// changes meanwhile it starts again, and gives up after a few times. It reads
// hardly more than polder's limits allow; Decode says what was too much.
func (s Source) Read() ([]polder.File, error) {
	for range attempts {
		before, err := s.stamp()
		if err != nil {
			return nil, err
		}
		files, err := s.read(before)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if after, err2 := s.stamp(); err == nil && err2 == nil && before.equal(after) {
			return files, nil
		}
	}
	return nil, fmt.Errorf("reading the configuration %s: its files keep changing", s.Path)
}

func (s Source) read(names stamp) ([]polder.File, error) {
	dir, err := filepath.Abs(s.Path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration %s: %w", s.Path, err)
	}
	if !names.folder {
		dir = filepath.Dir(dir)
	}
	total := 0
	files := make([]polder.File, 0, len(names.files))
	for _, f := range names.files {
		data, err := readBounded(f.path)
		if err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
		files = append(files, polder.File{Name: f.path, Data: data, Dir: dir})
		if total += len(data); total > polder.MaxTotalSize {
			break // Decode refuses the whole by its size
		}
	}
	return files, nil
}

// readBounded reads a file up to one byte more than a configuration may have.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, polder.MaxFileSize+1))
}

// stamp tells states of a source apart without reading the files.
type stamp struct {
	folder bool
	files  []fileStamp // sorted by path
}

type fileStamp struct {
	path string
	info fs.FileInfo // of what the path leads to, behind symbolic links
}

// equal tells whether nothing was written, replaced, added or removed between.
func (s stamp) equal(t stamp) bool {
	return s.folder == t.folder && slices.EqualFunc(s.files, t.files, func(a, b fileStamp) bool {
		return a.path == b.path && os.SameFile(a.info, b.info) &&
			a.info.Size() == b.info.Size() && a.info.ModTime().Equal(b.info.ModTime())
	})
}

func (s Source) stamp() (stamp, error) {
	info, err := os.Stat(s.Path)
	if err != nil {
		return stamp{}, fmt.Errorf("reading the configuration: %w", err)
	}
	if !info.IsDir() {
		f, err := stampFile(s.Path)
		if err != nil {
			return stamp{}, err
		}
		return stamp{files: []fileStamp{f}}, nil
	}
	names, err := configNames(s.Path)
	if err != nil {
		return stamp{}, err
	}
	st := stamp{folder: true}
	for _, name := range names {
		f, err := stampFile(filepath.Join(s.Path, name))
		if errors.Is(err, errFolder) {
			continue
		}
		if err != nil {
			return stamp{}, err
		}
		st.files = append(st.files, f)
	}
	return st, nil
}

var errFolder = errors.New("is a folder")

func stampFile(path string) (fileStamp, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fileStamp{}, fmt.Errorf("reading the configuration: %w", err)
	case info.IsDir():
		return fileStamp{}, errFolder
	case !info.Mode().IsRegular():
		// A pipe would block for as long as nobody writes to it.
		return fileStamp{}, fmt.Errorf("reading the configuration %s: it is not a regular file", path)
	}
	return fileStamp{path, info}, nil
}

// configNames lists a folder's configuration files, sorted.
func configNames(folder string) ([]string, error) {
	d, err := os.Open(folder)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer d.Close()
	const batch = 256
	var names []string
	for {
		some, err := d.Readdirnames(batch)
		for _, name := range some {
			if ext := filepath.Ext(name); (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(name, ".") {
				names = append(names, name)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
		if len(names) > polder.MaxFiles {
			return nil, fmt.Errorf("reading the configuration %s: it has more than %d files; put several services into one", folder, polder.MaxFiles)
		}
	}
	slices.Sort(names)
	return names, nil
}

// same tells whether two readings hold the same bytes, or the same failure.
func (r Reading) same(other Reading) bool {
	if r.Files == nil || other.Files == nil {
		return r.Files == nil && other.Files == nil && slices.Equal(r.Faults, other.Faults)
	}
	return slices.EqualFunc(r.Files, other.Files, func(a, b polder.File) bool {
		return a.Name == b.Name && a.Dir == b.Dir && bytes.Equal(a.Data, b.Data)
	})
}
