package loadtest

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"time"
)

// resultColumns is the header of a file of results. Times are in nanoseconds
// since the start of the run.
var resultColumns = []string{
	"target", "outcome", "intended_ns", "sent_ns", "done_ns", "status", "protocol", "cold", "fresh", "retries", "bytes", "error",
}

// ResultWriter writes results as CSV, for tools that want every single one.
type ResultWriter struct {
	out   *csv.Writer
	row   []string
	begun bool
}

// NewResultWriter writes to w. Close it to have everything written.
func NewResultWriter(w io.Writer) *ResultWriter { return &ResultWriter{out: csv.NewWriter(w)} }

// Write writes one result; it fits Options.Results. Rows are buffered, so that
// an error may show some rows late.
func (w *ResultWriter) Write(r Result) error {
	if err := w.begin(); err != nil {
		return err
	}
	w.row = append(w.row[:0],
		r.Target, string(r.Outcome), nanoseconds(r.Intended), nanoseconds(r.Sent), nanoseconds(r.Done),
		strconv.Itoa(r.Status), r.Protocol, strconv.FormatBool(r.Cold), strconv.FormatBool(r.Fresh),
		strconv.Itoa(r.Retries), strconv.FormatInt(r.Bytes, 10), r.Error)
	return w.out.Write(w.row)
}

// begin writes the header once.
func (w *ResultWriter) begin() error {
	if w.begun {
		return nil
	}
	w.begun = true
	return w.out.Write(resultColumns)
}

// Close writes what is buffered, and the header if there was no result. It does
// not close the writer below.
func (w *ResultWriter) Close() error {
	if err := w.begin(); err != nil {
		return err
	}
	w.out.Flush()
	return w.out.Error()
}

func nanoseconds(d time.Duration) string { return strconv.FormatInt(int64(d), 10) }

// ReadResults yields what a ResultWriter wrote. name stands for the file in
// errors, which name line and column. The first error ends the stream.
func ReadResults(r io.Reader, name string) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		in := csv.NewReader(r)
		in.FieldsPerRecord = len(resultColumns)
		in.ReuseRecord = true
		header, err := in.Read()
		if err == io.EOF {
			err = errors.New("the file is empty")
		} else if err == nil && !slices.Equal(header, resultColumns) {
			err = errors.New("the header is not that of load results")
		}
		for err == nil {
			var row []string
			if row, err = in.Read(); err == io.EOF {
				return
			}
			if err != nil {
				break
			}
			p := rowParser{in: in, row: row}
			result := p.result()
			if err = p.err; err == nil && !yield(result, nil) {
				return
			}
		}
		yield(Result{}, fmt.Errorf("read load results %s: %w", name, err))
	}
}

// rowParser reads fields until one fails.
type rowParser struct {
	in  *csv.Reader
	row []string
	err error
}

func (p *rowParser) result() Result {
	r := Result{
		Target: p.row[0], Outcome: p.outcome(1),
		Intended: time.Duration(p.integer(2)), Sent: time.Duration(p.integer(3)), Done: time.Duration(p.integer(4)),
		Status: int(p.integer(5)), Protocol: p.row[6], Cold: p.boolean(7), Fresh: p.boolean(8),
		Retries: int(p.integer(9)), Bytes: p.integer(10), Error: p.row[11],
	}
	return r
}

func (p *rowParser) fail(i int, what string) {
	if p.err == nil {
		line, column := p.in.FieldPos(i)
		p.err = fmt.Errorf("line %d, column %d: %s %.40q is not %s", line, column, resultColumns[i], p.row[i], what)
	}
}

func (p *rowParser) outcome(i int) Outcome {
	o := Outcome(p.row[i])
	switch o {
	case Answered, Failed, Interrupted, Dropped, Abandoned:
	default:
		p.fail(i, "an outcome")
	}
	return o
}

func (p *rowParser) integer(i int) int64 {
	n, err := strconv.ParseInt(p.row[i], 10, 64)
	if err != nil || n < 0 {
		p.fail(i, "a whole number of 0 or more")
	}
	return n
}

func (p *rowParser) boolean(i int) bool {
	switch p.row[i] {
	case "true":
		return true
	case "false":
	default:
		p.fail(i, "true or false")
	}
	return false
}
