package main

import (
	"encoding/json"
	"errors"
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

// Type implements pflag.Value: what help shows as the flag's value.
func (f *format) Type() string { return "text|json" }

// Set implements pflag.Value.
func (f *format) Set(s string) error {
	switch format(s) {
	case formatText, formatJSON:
		*f = format(s)
		return nil
	}
	return errors.New("want text or json")
}

func outputFlag(c *cobra.Command) *format {
	f := formatText
	c.Flags().VarP(&f, "output", "o", "for people or for programs")
	complete(c, "output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

// stateFlag names the state folder of the regions to ask.
func stateFlag(c *cobra.Command) *string {
	state := c.Flags().String("state", localState, "state `folder` of the regions to ask")
	folder(c, "state")
	return state
}

// complete says how a shell completes a flag's value.
func complete(c *cobra.Command, flag string, how cobra.CompletionFunc) {
	must(c.RegisterFlagCompletionFunc(flag, how))
}

// folder says that the values of flags are folders.
func folder(c *cobra.Command, flags ...string) {
	for _, flag := range flags {
		must(c.MarkFlagDirname(flag))
	}
}

// must is for calls that fail only when a flag's name is not the one in the
// line above.
func must(err error) {
	if err != nil {
		panic("polder: " + err.Error())
	}
}

func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// jsonLine prints one value on one line, for streams.
func jsonLine(w io.Writer, value any) error { return json.NewEncoder(w).Encode(value) }

func newLogger(w io.Writer, f format, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if f == formatJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
