package trace

import (
	"errors"
	"io"
	"iter"
	"math"
	"strconv"
	"time"
)

// invocationColumns is the header of the 2021 data set.
var invocationColumns = [...]string{"app", "func", "end_timestamp", "duration"}

// Invocation is one call with its duration.
type Invocation struct {
	App      string
	Function string
	End      time.Duration // since the trace began
	Duration time.Duration // never negative
}

// Start is when the call began, since the trace began. It is negative for a
// call that was under way already.
func (i Invocation) Start() time.Duration { return i.End - i.Duration }

// ReadInvocations yields the invocations of a trace in the column layout of the
// Azure Functions 2021 data set, in the order of the file, which is that of
// neither their starts nor their ends:
//
//	app,func,end_timestamp,duration
//
// with both times in seconds. Errors are those of Read.
func ReadInvocations(r io.Reader, name string) iter.Seq2[Invocation, error] {
	return func(yield func(Invocation, error) bool) {
		in := newRows(r, name)
		if err := in.plainHeader(invocationColumns[:]); err != nil {
			yield(Invocation{}, err)
			return
		}
		for {
			i, err := in.invocation()
			if err == io.EOF {
				return
			}
			if !yield(i, err) {
				return
			}
			if syntax := (*SyntaxError)(nil); err != nil && !errors.As(err, &syntax) {
				return
			}
		}
	}
}

func (s *rows) invocation() (i Invocation, err error) {
	row, err := s.next()
	if err != nil {
		return Invocation{}, err
	}
	f := split(row)
	for column, title := range invocationColumns {
		field, ok := f.next()
		if !ok {
			return Invocation{}, s.fault(f.end(), "the row ends where column %s should be", title)
		}
		switch column {
		case 0:
			i.App, err = s.name(&f, field, title)
		case 1:
			i.Function, err = s.name(&f, field, title)
		case 2:
			i.End, err = s.seconds(&f, field, title)
		case 3:
			i.Duration, err = s.seconds(&f, field, title)
		}
		if err != nil {
			return Invocation{}, err
		}
	}
	if field, ok := f.next(); ok {
		return Invocation{}, s.fault(f.column, "the row has a column %.40q too many", field)
	}
	return i, nil
}

// maxSeconds is about ten years: far beyond any trace, and far from overflow.
const maxSeconds = 10 * 365 * 24 * 60 * 60

func (s *rows) seconds(f *fields, field []byte, title string) (time.Duration, error) {
	const allowed = "is not a number of seconds from 0 to 315360000"
	v, err := strconv.ParseFloat(string(field), 64)
	if err != nil || !(v >= 0 && v <= maxSeconds) {
		return 0, s.fault(f.column, "%s %.40q %s", title, field, allowed)
	}
	return time.Duration(math.Round(v * float64(time.Second))), nil
}
