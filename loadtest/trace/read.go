package trace

import (
	"errors"
	"io"
	"iter"
	"math"
	"strconv"
)

// MaxMinutes bounds the count columns of one file: the whole fortnight of the
// 2019 data set in one row.
const MaxMinutes = 14 * MinutesPerDay

// nameColumns are the columns before the counts, in the order of the file.
var nameColumns = [...]string{"HashOwner", "HashApp", "HashFunction", "Trigger"}

// Read yields the functions of a trace in the column layout of the Azure
// Functions 2019 data set: a header
//
//	HashOwner,HashApp,HashFunction,Trigger,1,2,...,N
//
// and a row for each function, with N from 1 to MaxMinutes. name stands for the
// file in errors. Each Function is the caller's to keep.
//
// A *SyntaxError concerns one row: the reader goes on with the next row when
// the loop does. A fault in the header, and any other error, is the last item.
func Read(r io.Reader, name string) iter.Seq2[Function, error] {
	return func(yield func(Function, error) bool) {
		in := newRows(r, name)
		minutes, err := in.countHeader()
		if err != nil {
			yield(Function{}, err)
			return
		}
		for {
			f, err := in.function(minutes)
			if err == io.EOF {
				return
			}
			if !yield(f, err) {
				return
			}
			if syntax := (*SyntaxError)(nil); err != nil && !errors.As(err, &syntax) {
				return
			}
		}
	}
}

// countHeader reads the header and returns the number of count columns.
func (s *rows) countHeader() (minutes int, err error) {
	row, err := s.next()
	if err == io.EOF {
		return 0, s.fault(1, "the trace is empty; it begins with the header HashOwner,HashApp,HashFunction,Trigger,1,2,...")
	}
	if err != nil {
		return 0, err
	}
	f := split(row)
	for _, want := range nameColumns {
		field, ok := f.next()
		if !ok {
			return 0, s.fault(f.end(), "the header ends where column %s should be", want)
		}
		if string(field) != want {
			return 0, s.fault(f.column, "the header has column %.40q where %s should be", field, want)
		}
	}
	for {
		field, ok := f.next()
		if !ok {
			break
		}
		minutes++
		if minutes > MaxMinutes {
			return 0, s.fault(f.column, "the header has more than %d minutes", MaxMinutes)
		}
		if string(field) != strconv.Itoa(minutes) {
			return 0, s.fault(f.column, "the header has column %.40q where minute %d should be", field, minutes)
		}
	}
	if minutes == 0 {
		return 0, s.fault(f.end(), "the header has no minutes: columns 1,2,... should follow Trigger")
	}
	return minutes, nil
}

// function reads one row.
func (s *rows) function(minutes int) (Function, error) {
	row, err := s.next()
	if err != nil {
		return Function{}, err
	}
	f := split(row)
	var names [len(nameColumns)]string
	for i, title := range nameColumns {
		field, ok := f.next()
		if !ok {
			return Function{}, s.fault(f.end(), "the row ends where column %s should be", title)
		}
		if names[i], err = s.name(&f, field, title); err != nil {
			return Function{}, err
		}
	}
	if names[2] == "" {
		return Function{}, s.fault(1, "the row has no HashFunction")
	}
	counts := make([]uint32, minutes)
	for i := range counts {
		field, ok := f.next()
		if !ok {
			return Function{}, s.fault(f.end(), "the row has %d minutes and the header %d", i, minutes)
		}
		n, ok := parseCount(field)
		if !ok {
			return Function{}, s.fault(f.column, "the count %.40q of minute %d is not a whole number from 0 to %d", field, i+1, uint32(math.MaxUint32))
		}
		counts[i] = n
	}
	if _, ok := f.next(); ok {
		return Function{}, s.fault(f.column, "the row has more than the header's %d minutes", minutes)
	}
	return Function{Owner: names[0], App: names[1], Name: names[2], Trigger: names[3], Counts: counts}, nil
}

// parseCount reads decimal digits; unlike strconv it needs no string.
func parseCount(field []byte) (n uint32, ok bool) {
	if len(field) == 0 || len(field) > 10 {
		return 0, false
	}
	var sum uint64
	for _, c := range field {
		if c < '0' || c > '9' {
			return 0, false
		}
		sum = sum*10 + uint64(c-'0')
	}
	return uint32(sum), sum <= math.MaxUint32
}
