package polder

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Fault is one thing that is wrong in a configuration, and its remedy.
type Fault struct {
	At      Position    // inside the file, or line 0 when the file as a whole is meant
	Path    string      // "services.billing.residency.allow[0]"; "" for a whole file
	Service ServiceName // whose last good version is kept; "" when no single service is at fault
	Message string      // what is wrong
	Fix     string      // what to write instead, as an instruction: `write fr`
}

// Error is the fault on one line: "polder.yaml:12:14: services.a.hosts: … (write …)".
func (f Fault) Error() string {
	var b strings.Builder
	if at := f.At.String(); at != "" {
		b.WriteString(at + ": ")
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Message)
	if f.Fix != "" {
		b.WriteString(" (" + f.Fix + ")")
	}
	return b.String()
}

// String is file:line:column, or the file alone when no line is known.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// flatFault is a fault as programs see it: one flat object.
type flatFault struct {
	File    string      `json:"file"`
	Line    int         `json:"line"`
	Column  int         `json:"column"`
	Path    string      `json:"path,omitempty"`
	Service ServiceName `json:"service,omitempty"`
	Message string      `json:"message"`
	Fix     string      `json:"fix,omitempty"`
}

// MarshalJSON gives programs the fault as one flat object.
func (f Fault) MarshalJSON() ([]byte, error) {
	return json.Marshal(flatFault{f.At.File, f.At.Line, f.At.Column, f.Path, f.Service, f.Message, f.Fix})
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (f *Fault) UnmarshalJSON(data []byte) error {
	var flat flatFault
	if err := json.Unmarshal(data, &flat); err != nil {
		return err
	}
	*f = Fault{Position{flat.File, flat.Line, flat.Column}, flat.Path, flat.Service, flat.Message, flat.Fix}
	return nil
}

// RenderFaults writes faults for people: each with the line of its file, a
// caret under the place, and the remedy. Files are those that were decoded;
// one that is missing only costs its excerpt.
func RenderFaults(w io.Writer, faults []Fault, files []File) error {
	lines := make(map[string][][]byte, len(files))
	for _, f := range files {
		lines[f.Name] = bytes.Split(f.Data, []byte("\n"))
	}
	for i, f := range faults {
		if i > 0 {
			if _, err := io.WriteString(w, "\n"); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(w, f.render(lines[f.At.File])); err != nil {
			return err
		}
	}
	return nil
}

func (f Fault) render(lines [][]byte) string {
	var b strings.Builder
	head := f
	head.Fix = ""
	b.WriteString(head.Error() + "\n")
	if n := f.At.Line; n > 0 && n <= len(lines) {
		text, caret := excerpt(string(bytes.TrimSuffix(lines[n-1], []byte("\r"))), f.At.Column)
		fmt.Fprintf(&b, "%6d | %s\n       | %s\n", n, text, caret)
	}
	if f.Fix != "" {
		b.WriteString("       = " + f.Fix + "\n")
	}
	return b.String()
}

// excerpt is the printable part of a line around a column, and the line below
// it that carries the caret.
func excerpt(line string, column int) (text, caret string) {
	const before, width = 70, 110
	runes := []rune(strings.TrimPrefix(strings.ToValidUTF8(line, "�"), byteOrderMark))
	column = min(max(column, 1), len(runes)+1)
	start := max(0, column-1-before)
	end := min(len(runes), start+width)
	var t, c strings.Builder
	if start > 0 {
		t.WriteString("…")
		c.WriteString(" ")
	}
	for i, r := range runes[start:end] {
		if r != '\t' && !unicode.IsPrint(r) {
			r = '�'
		}
		t.WriteRune(r)
		if start+i < column-1 {
			if r != '\t' {
				r = ' '
			}
			c.WriteRune(r)
		}
	}
	if end < len(runes) {
		t.WriteString("…")
	}
	return t.String(), c.String() + "^"
}

// sortFaults orders faults by place, then by text, so that the order of the
// files does not show.
func sortFaults(faults []Fault) {
	slices.SortFunc(faults, func(a, b Fault) int {
		return cmp.Or(a.At.compare(b.At), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
}

func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Column, q.Column))
}

// clamp moves a position into the file: a parser may point behind a line's end.
func (p Position) clamp(lines []int) Position {
	p.Line = min(max(p.Line, 1), len(lines))
	p.Column = min(max(p.Column, 1), lines[p.Line-1]+1)
	return p
}

// lineLengths counts the characters of each line, without its line end.
func lineLengths(text string) []int {
	var lengths []int
	for line := range strings.SplitSeq(text, "\n") {
		lengths = append(lengths, utf8.RuneCountInString(strings.TrimSuffix(line, "\r")))
	}
	return lengths
}
