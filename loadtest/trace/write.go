package trace

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Write writes functions in the layout that Read reads, with the given number
// of minutes in each row. It fails at the first function that has another
// number of counts, no name, or a name that the format cannot hold.
func Write(w io.Writer, minutes int, functions iter.Seq[Function]) error {
	if minutes < 1 || minutes > MaxMinutes {
		return fmt.Errorf("write trace: %d minutes; a trace has 1 to %d", minutes, MaxMinutes)
	}
	out := bufio.NewWriter(w)
	out.WriteString(strings.Join(nameColumns[:], ","))
	var digits []byte
	for i := range minutes {
		digits = strconv.AppendInt(append(digits[:0], ','), int64(i+1), 10)
		out.Write(digits)
	}
	out.WriteByte('\n')
	for f := range functions {
		if len(f.Counts) != minutes {
			return fmt.Errorf("write trace: function %q has %d minutes and the header %d", f.Name, len(f.Counts), minutes)
		}
		if f.Name == "" {
			return fmt.Errorf("write trace: a function of app %q has no name", f.App)
		}
		names := [...]string{f.Owner, f.App, f.Name, f.Trigger}
		for _, name := range names {
			if !utf8.ValidString(name) || strings.ContainsFunc(name, notInName) {
				return fmt.Errorf("write trace: function %q: the format cannot hold %q", f.Name, name)
			}
		}
		out.WriteString(strings.Join(names[:], ","))
		for _, c := range f.Counts {
			digits = strconv.AppendUint(append(digits[:0], ','), uint64(c), 10)
			out.Write(digits)
		}
		if err := out.WriteByte('\n'); err != nil {
			return fmt.Errorf("write trace: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write trace: %w", err)
	}
	return nil
}
