package polder

import (
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzDecode holds whatever bytes somebody may save against the promises of
// Decode and Apply.
func FuzzDecode(f *testing.F) {
	for _, c := range append(brokenCases(), wholeFileCases()...) {
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
