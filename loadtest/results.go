package loadtest

import (
	"encoding/csv"
	"io"
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
