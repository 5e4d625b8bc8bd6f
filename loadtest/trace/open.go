package trace

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/ulikunitz/xz"
)

// File is an opened trace: the plain text of one CSV, however it was packed.
// Close it when done.
type File struct {
	text *bufio.Reader
	name string
	held []io.Closer
}

// Open opens a trace. What the file is, is told from its first bytes and not
// from its name: plain text, gzip, xz, zip, tar, and tar inside gzip or xz.
//
// An archive must say which of its files is meant, as a path below it:
// "days.zip/day01.csv". Without one a zip with a single .csv is enough.
//
// The memory of an open file is that of its decompressor: for xz the dictionary
// that the file was packed with (64 MiB for xz -9).
func Open(name string) (*File, error) {
	archive, member, err := locate(name)
	if err != nil {
		return nil, fmt.Errorf("open trace: %w", err)
	}
	disk, err := os.Open(archive)
	if err != nil {
		return nil, fmt.Errorf("open trace: %w", err)
	}
	f := &File{name: name, held: []io.Closer{disk}}
	if err := f.unpack(disk, member); err != nil {
		return nil, errors.Join(fmt.Errorf("open trace %s: %w", name, err), f.Close())
	}
	return f, nil
}

// locate parts a path into the file on disk and the path of a member below it.
func locate(name string) (archive, member string, err error) {
	for archive = name; ; {
		info, err := os.Stat(archive)
		switch {
		case err == nil && info.IsDir():
			return "", "", fmt.Errorf("%s is a directory: name a file in it", archive)
		case err == nil:
			return archive, member, nil
		}
		// Below a plain file the system says ENOTDIR, above nothing ENOENT.
		dir, base := path.Split(strings.TrimSuffix(archive, "/"))
		dir = strings.TrimSuffix(dir, "/")
		if dir == "" || base == "" {
			return "", "", fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		if info, up := os.Stat(dir); up == nil && info.IsDir() {
			return "", "", err
		}
		archive, member = dir, path.Join(base, member)
	}
}

// unpack sets f.text to the text of the trace.
func (f *File) unpack(disk *os.File, member string) error {
	f.text = bufio.NewReaderSize(disk, 64<<10)
	if f.begins(0, "PK\x03\x04") || f.begins(0, "PK\x05\x06") {
		return f.unzip(disk, member)
	}
	switch {
	case f.begins(0, "\x1f\x8b"):
		r, err := gzip.NewReader(f.text)
		if err != nil {
			return err
		}
		f.text = bufio.NewReaderSize(r, 64<<10)
	case f.begins(0, "\xfd7zXZ\x00"):
		r, err := xz.NewReader(f.text)
		if err != nil {
			return err
		}
		f.text = bufio.NewReaderSize(r, 64<<10)
	}
	if f.begins(257, "ustar") {
		return f.untar(member)
	}
	if member != "" {
		return fmt.Errorf("it is not an archive and so holds no %q", member)
	}
	return nil
}

// begins tells whether the text has the mark at the offset.
func (f *File) begins(offset int, mark string) bool {
	head, _ := f.text.Peek(offset + len(mark)) // a short file has no mark; a bad one says so when read
	return len(head) == offset+len(mark) && bytes.HasSuffix(head, []byte(mark))
}

func (f *File) unzip(disk *os.File, member string) error {
	info, err := disk.Stat()
	if err != nil {
		return err
	}
	archive, err := zip.NewReader(disk, info.Size())
	if err != nil {
		return err
	}
	i := slices.IndexFunc(archive.File, func(z *zip.File) bool { return z.Name == member })
	if member == "" {
		if i, err = onlyTrace(archive.File); err != nil {
			return err
		}
	}
	if i < 0 {
		return fmt.Errorf("the archive has no file %q", member)
	}
	r, err := archive.File[i].Open()
	if err != nil {
		return fmt.Errorf("%s: %w", archive.File[i].Name, err)
	}
	f.held = append(f.held, r)
	f.text = bufio.NewReaderSize(r, 64<<10)
	return nil
}

// onlyTrace finds the one .csv of an archive.
func onlyTrace(files []*zip.File) (int, error) {
	const shown = 5
	found, names := -1, []string{}
	for i, z := range files {
		if strings.EqualFold(path.Ext(z.Name), ".csv") {
			found, names = i, append(names, z.Name)
		}
	}
	switch len(names) {
	case 0:
		return 0, errors.New("the archive has no .csv: name the file that is the trace, as ARCHIVE/FILE")
	case 1:
		return found, nil
	}
	list := strings.Join(names[:min(len(names), shown)], ", ")
	if len(names) > shown {
		list += ", ..."
	}
	return 0, fmt.Errorf("the archive has %d .csv files: name one, as ARCHIVE/FILE: %s", len(names), list)
}

// untar advances to the member. A tar has no directory, and reading all of a
// packed one only to list it may take minutes, so the member must be named.
func (f *File) untar(member string) error {
	archive := tar.NewReader(f.text)
	for {
		header, err := archive.Next()
		switch {
		case err == io.EOF:
			return fmt.Errorf("the archive has no file %q", member)
		case err != nil:
			return err
		case header.Typeflag != tar.TypeReg:
			continue
		case member == "":
			return fmt.Errorf("it is a tar archive: name the file in it that is the trace, as ARCHIVE/FILE (the first one is %s)", header.Name)
		case path.Clean(header.Name) == member:
			f.text = bufio.NewReaderSize(archive, 64<<10)
			return nil
		}
	}
}

// Read reads the plain text.
func (f *File) Read(p []byte) (int, error) { return f.text.Read(p) }

// Name is the path that the file was opened with, for errors.
func (f *File) Name() string { return f.name }

// Close closes the file; reading fails afterwards.
func (f *File) Close() error {
	var faults []error
	for _, c := range slices.Backward(f.held) {
		faults = append(faults, c.Close())
	}
	f.held = nil
	return errors.Join(faults...)
}

// Format is what the header of a trace says it is.
type Format int

// The formats of traces.
const (
	Counts2019      Format = iota + 1 // for Read
	Invocations2021                   // for ReadInvocations
)

func (f Format) String() string {
	switch f {
	case Counts2019:
		return "azure-functions-2019 (calls per minute)"
	case Invocations2021:
		return "azure-functions-2021 (single invocations)"
	}
	return fmt.Sprintf("Format(%d)", int(f))
}

// Format tells which reader the file is for, from the first column of its
// header and without consuming it.
func (f *File) Format() (Format, error) {
	head, err := f.text.Peek(64)
	if len(head) == 0 && err != nil && err != io.EOF {
		return 0, fmt.Errorf("read trace %s: %w", f.name, err)
	}
	head = bytes.TrimPrefix(head, []byte("\uFEFF"))
	head = bytes.TrimPrefix(bytes.TrimLeft(head, "\r\n"), []byte{'"'})
	switch {
	case bytes.HasPrefix(head, []byte(nameColumns[0])):
		return Counts2019, nil
	case bytes.HasPrefix(head, []byte(invocationColumns[0])):
		return Invocations2021, nil
	}
	return 0, fmt.Errorf("%s:1:1: the header begins with %.20q; a trace begins with %s,... (calls per minute) or %s,... (single invocations)",
		f.name, head, nameColumns[0], invocationColumns[0])
}
