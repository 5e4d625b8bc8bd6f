package sheet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"
)

// Report is what a benchmark found.
type Report interface {
	WriteText(io.Writer) error
	WriteHTML(io.Writer) error
}

// Sheet is where a report goes, as the command's flags --output and --html say.
type Sheet struct {
	format, html string
}

// Flags adds the flags.
func (s *Sheet) Flags(f *pflag.FlagSet) {
	f.StringVarP(&s.format, "output", "o", "text", "text or json")
	f.StringVar(&s.html, "html", "", "write a page with the plots to this `file`")
}

// Check returns an error that names the formats unless --output is one. Commands
// ask before they measure anything.
func (s *Sheet) Check() error {
	if s.format != "text" && s.format != "json" {
		return fmt.Errorf("--output is %q, want text or json", s.format)
	}
	return nil
}

// Write writes the report as text or as indented JSON, and as a page to the file
// if one is named.
func (s *Sheet) Write(w io.Writer, r Report) error {
	if err := File(s.html, r.WriteHTML); err != nil {
		return err
	}
	if s.format == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return r.WriteText(w)
}

// File has a part of a report written to the file; "" is none.
func File(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("write report %s: %w", name, err)
	}
	return nil
}

// Progress returns a function that writes lines which begin with the seconds
// since this call.
func Progress(w io.Writer) func(format string, values ...any) {
	began := time.Now()
	return func(format string, values ...any) {
		fmt.Fprintf(w, "%5.0f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, values...))
	}
}
