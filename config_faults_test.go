package polder

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func (c brokenCase) decode(t *testing.T) (r Result, marks []Position, files []File) {
	t.Helper()
	texts := c.files
	if texts == nil {
		texts = map[string]string{"polder.yaml": c.text}
	}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		clean, at := unmark(name, texts[name])
		marks = append(marks, at...)
		files = append(files, File{Name: name, Data: []byte(clean), Dir: "/etc/polder"})
	}
	return Decode(files), marks, files
}

// unmark takes the marks out of a text and tells where they stood.
func unmark(file, text string) (clean string, at []Position) {
	line, column := 1, 1
	var b strings.Builder
	for part := range strings.SplitAfterSeq(text, mark) {
		body, marked := strings.CutSuffix(part, mark)
		b.WriteString(body)
		line += strings.Count(body, "\n")
		if i := strings.LastIndexByte(body, '\n'); i >= 0 {
			body, column = body[i+1:], 1
		}
		column += utf8.RuneCountInString(body)
		if marked {
			at = append(at, Position{file, line, column})
		}
	}
	return b.String(), at
}

func TestEveryMistakeIsToldWithPlaceAndRemedy(t *testing.T) {
	last := Decode([]File{{Name: "polder.yaml", Data: []byte(good), Dir: "/etc/polder"}})
	if len(last.Faults) > 0 {
		t.Fatal("the configuration before the mistakes is not good: ", last.Faults)
	}
	for _, c := range slices.Concat(brokenCases(), machineCases(), wholeFileCases()) {
		t.Run(c.name, func(t *testing.T) {
			r, marks, _ := c.decode(t)
			checkFaults(t, r.Faults, c.want, marks)
			if r.Fatal != c.fatal {
				t.Errorf("fatal is %v, want %v", r.Fatal, c.fatal)
			}
			checkKept(t, r, last.Model)
		})
	}
}

func checkFaults(t *testing.T, got []Fault, want []wanted, marks []Position) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d faults, want %d", len(got), len(want))
	}
	next := -1
	for i, w := range want {
		if !w.same {
			next++
		}
		if i >= len(got) || next >= len(marks) {
			break
		}
		g := got[i]
		if g.At != marks[next] || g.Path != w.path || g.Message != w.message || g.Fix != w.fix {
			t.Errorf("fault %d:\n got %v | %s | %s | %s\nwant %v | %s | %s | %s", i,
				g.At, g.Path, g.Message, g.Fix, marks[next], w.path, w.message, w.fix)
		}
	}
	if next != len(marks)-1 {
		t.Errorf("the case has %d marks for %d places", len(marks), next+1)
	}
	for _, g := range got[min(len(want), len(got)):] {
		t.Errorf("unexpected: %v", g)
	}
}

// checkKept applies a faulty configuration to what was in force.
func checkKept(t *testing.T, r Result, last *Model) {
	t.Helper()
	m, kept := r.Apply(last)
	if r.Fatal {
		if m != last || len(kept) != len(last.Services) || r.Model != nil {
			t.Errorf("a fatal fault changed the model: kept %v", kept)
		}
		return
	}
	checkModel(t, m)
	faulty := make(map[ServiceName]bool)
	for _, f := range r.Faults {
		if _, ok := r.Model.Service(f.Service); ok {
			t.Errorf("the model of good things holds %s, which has the fault %v", f.Service, f)
		}
		faulty[f.Service] = true
	}
	for _, old := range last.Services {
		if !slices.ContainsFunc(r.declared, func(d declaration) bool { return d.name == old.Name }) {
			continue // it is gone from the files, and not in error
		}
		now, ok := m.Service(old.Name)
		switch {
		case !ok:
			t.Errorf("the service %s was lost", old.Name)
		case faulty[old.Name] && (!reflect.DeepEqual(now, old) || !slices.Contains(kept, old.Name)):
			t.Errorf("the faulty service %s is not its last good version:\n got %+v\nwant %+v", old.Name, now, old)
		}
	}
	if _, ok := m.Service("steady"); !ok {
		t.Error("the mistake cost the service steady")
	}
}
