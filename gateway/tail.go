package gateway

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
)

// maxReading bounds what is read of a file at once, in bytes.
const maxReading = 4 << 20

// tail reads the lines that another program appends to a file.
type tail struct {
	file   string
	offset int64 // of the first byte that was not read
}

// newTail reads what comes from now on: what is there, an earlier Polder read.
func newTail(file string) tail {
	t := tail{file: file}
	if info, err := os.Stat(file); err == nil {
		t.offset = info.Size()
	}
	return t
}

// lines gives the whole lines that are new, without their ends. A file that is
// shorter than what was read of it is another one, and is read from its beginning.
func (t *tail) lines() ([][]byte, error) {
	info, err := os.Stat(t.file)
	if errors.Is(err, fs.ErrNotExist) {
		t.offset = 0
		return nil, nil
	}
	if err != nil || info.Size() == t.offset {
		return nil, err
	}
	if info.Size() < t.offset {
		t.offset = 0
	}
	file, err := os.Open(t.file)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text := make([]byte, min(info.Size()-t.offset, maxReading))
	n, err := file.ReadAt(text, t.offset)
	if err != nil && err != io.EOF {
		return nil, err
	}
	end := bytes.LastIndexByte(text[:n], '\n')
	if end < 0 {
		return nil, nil
	}
	t.offset += int64(end) + 1
	return bytes.Split(text[:end], []byte("\n")), nil
}
