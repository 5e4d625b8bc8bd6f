package trace

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// MaxRow bounds one row in bytes, line end included. A day of counts with four
// hashes is about 10 kB at most.
const MaxRow = 1 << 20

// SyntaxError is a place in a trace that is not of the format.
type SyntaxError struct {
	File   string
	Line   int // from 1
	Column int // byte within the line, from 1
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Reason)
}

// rows splits a stream into lines and remembers where it is.
type rows struct {
	in   *bufio.Reader
	file string
	line int // of the row that next returned last
	long []byte
}

func newRows(r io.Reader, file string) *rows {
	return &rows{in: bufio.NewReaderSize(r, 64<<10), file: file}
}

// fault makes the error for a byte of the present row.
func (s *rows) fault(column int, format string, args ...any) *SyntaxError {
	return &SyntaxError{File: s.file, Line: s.line, Column: column, Reason: fmt.Sprintf(format, args...)}
}

// next returns the next line that is not empty, without its end. The bytes are
// valid until the following call. At the end it returns io.EOF; a line beyond
// MaxRow is a *SyntaxError and is skipped.
func (s *rows) next() ([]byte, error) {
	for {
		row, err := s.read()
		if err != nil {
			return nil, err
		}
		if s.line == 1 {
			row = bytes.TrimPrefix(row, []byte("\uFEFF"))
		}
		if len(row) > 0 {
			return row, nil
		}
	}
}

// read returns the next line, empty or not, without its end.
func (s *rows) read() ([]byte, error) {
	s.line++
	s.long = s.long[:0]
	for size := 0; ; {
		part, err := s.in.ReadSlice('\n')
		size += len(part)
		switch {
		case err == nil || errors.Is(err, io.EOF) && size > 0:
			if size > MaxRow {
				return nil, s.fault(MaxRow+1, "the row is longer than %d bytes: is this a trace?", MaxRow)
			}
			if len(s.long) > 0 {
				s.long = append(s.long, part...)
				part = s.long
			}
			part = bytes.TrimSuffix(part, []byte("\n"))
			return bytes.TrimSuffix(part, []byte("\r")), nil
		case errors.Is(err, bufio.ErrBufferFull):
			if size <= MaxRow {
				s.long = append(s.long, part...)
			}
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		default:
			return nil, fmt.Errorf("read trace %s after line %d: %w", s.file, s.line-1, err)
		}
	}
}

// fields walks the comma-separated fields of one row.
type fields struct {
	rest   []byte
	column int // of the field that next returned last, from 1
	width  int // of that field as written
	more   bool
}

func split(row []byte) fields { return fields{rest: row, column: 0, width: 0, more: true} }

// next returns the next field; ok is false when the row has no more. Quotes
// around a whole field, which some writers add, are taken off.
func (f *fields) next() (field []byte, ok bool) {
	if !f.more {
		return nil, false
	}
	if f.column == 0 {
		f.column = 1
	} else {
		f.column += f.width + 1
	}
	field, f.rest, f.more = bytes.Cut(f.rest, []byte{','})
	f.width = len(field)
	if n := len(field); n >= 2 && field[0] == '"' && field[n-1] == '"' {
		field = field[1 : n-1]
	}
	return field, true
}

// end is the column just after the last byte of the field that next returned.
func (f *fields) end() int { return f.column + f.width }

// name checks that a field can stand for a name and be written again.
func (s *rows) name(f *fields, field []byte, title string) (string, error) {
	if !utf8.Valid(field) {
		return "", s.fault(f.column, "%s is not UTF-8 text", title)
	}
	if bad := bytes.IndexFunc(field, notInName); bad >= 0 {
		return "", s.fault(f.column, "%s %.80q holds a quote or a control character", title, field)
	}
	return string(field), nil
}

// notInName tells the characters that no name may hold, since the format has no
// way to escape them. The comma separates fields and so never arrives here from
// a reader, but may from the caller of a writer.
func notInName(r rune) bool { return r < ' ' || r == 0x7f || r == '"' || r == ',' || r == 0xFEFF }
