package polder

import (
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzDecode holds whatever bytes somebody may save against the promises of
// Decode and Apply.
func FuzzDecode(f *testing.F) {
	for _, c := range slices.Concat(brokenCases(), machineCases(), wholeFileCases()) {
		if c.files == nil {
			f.Add([]byte(strings.ReplaceAll(c.text, mark, "")))
		}
		for _, text := range c.files {
			if len(text) < 1<<16 {
				f.Add([]byte(strings.ReplaceAll(text, mark, "")))
			}
		}
	}
	example, err := os.ReadFile("examples/polder.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, text := range []string{ // the corners of YAML, small enough to be varied
		"regions: &r {fr: {location: [1, 2]}}\nprices: *r\n", "? a\n: b\n", "- - a\n- b: |2-\n   x\n", "a: >+\n\n  x\n\nb: 'it''s'\n",
		"%YAML 1.2\n---\na: !!str 5\n...\n", "{a: [b, {c}], ? d : e, \"f\": g}", "a: \"\\x41\\u00e9\\\n  b\"\n", "<<: {a: b}\n", "\ufeffa: 1\r\nb: ~\r\n",
		"a: # c\n  b: 0x1F # d\n", "*a : b\n", "a: &a [*a]\n", "services:\n  a:\n    hosts: [a.x]\n", "&a &b c\n", "a:\n- b\n-\n", "\t- a\n", "'a\n\n b': \"c\n d\"\n",
	} {
		f.Add([]byte(text))
	}
	last := Decode([]File{{Name: "polder.yaml", Data: []byte(good)}}).Model
	f.Fuzz(func(t *testing.T, data []byte) {
		files := []File{{Name: "polder.yaml", Data: data}}
		r := Decode(files)
		if r.Fatal != (r.Model == nil) || (r.Fatal && len(r.Faults) == 0) {
			t.Errorf("fatal %v, model %v, %d faults", r.Fatal, r.Model, len(r.Faults))
		}
		for _, fault := range r.Faults {
			checkInside(t, fault, string(data))
		}
		if err := RenderFaults(io.Discard, r.Faults, files); err != nil {
			t.Error(err)
		}
		m, _ := r.Apply(last)
		checkModel(t, m)
		if again, _ := r.Apply(m); !reflect.DeepEqual(again, m) {
			t.Error("applied twice it differs")
		}
		if again := Decode(files); !reflect.DeepEqual(again.Faults, r.Faults) {
			t.Error("decoded twice it differs")
		}
	})
}

func checkInside(t *testing.T, f Fault, text string) {
	t.Helper()
	lines := strings.Split(text, "\n")
	if f.Message == "" || f.Fix == "" {
		t.Errorf("a fault says too little: %+v", f)
	}
	if f.At.Line < 1 || f.At.Line > len(lines) {
		t.Fatalf("%v is not in the %d lines of the file", f.At, len(lines))
	}
	if n := utf8.RuneCountInString(lines[f.At.Line-1]); f.At.Column < 1 || f.At.Column > n+1 {
		t.Errorf("%v is not in a line of %d characters", f.At, n)
	}
}
