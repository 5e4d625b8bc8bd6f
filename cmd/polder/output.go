package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"
)

// format is the value of --output.
type format string

const (
	formatText format = "text"
	formatJSON format = "json"
)

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "format" }

// Set implements pflag.Value.
func (f *format) Set(s string) error {
	switch format(s) {
	case formatText, formatJSON:
		*f = format(s)
		return nil
	}
	return fmt.Errorf("is %q, want text or json", s)
}

func outputFlag(c *cobra.Command) *format {
	f := formatText
	c.Flags().VarP(&f, "output", "o", "text for people, json for programs")
	c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

func newLogger(w io.Writer, f format, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if f == formatJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// jsonLine prints one value on one line, for streams.
func jsonLine(w io.Writer, value any) error { return json.NewEncoder(w).Encode(value) }
