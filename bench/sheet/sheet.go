package sheet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Report is what a benchmark found.
type Report interface {
	WriteText(io.Writer) error
	WriteHTML(io.Writer) error
}

// CheckFormat returns an error that names the formats unless the format is one.
func CheckFormat(format string) error {
	if format != "text" && format != "json" {
		return fmt.Errorf("--output is %q, want text or json", format)
	}
	return nil
}

// Write writes the report as text or as indented JSON, and as a page to a file if
// one is named.
func Write(w io.Writer, r Report, format, html string) error {
	if html != "" {
		f, err := os.Create(html)
		if err != nil {
			return fmt.Errorf("write report: %w", err)
		}
		if err := errors.Join(r.WriteHTML(f), f.Close()); err != nil {
			return fmt.Errorf("write report %s: %w", html, err)
		}
	}
	if format == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return r.WriteText(w)
}
