package polder

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func render(t *testing.T, f Fault, text string) string {
	t.Helper()
	var b strings.Builder
	if err := RenderFaults(&b, []Fault{f}, []File{{Name: "p.yaml", Data: []byte(text)}}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRenderFaults(t *testing.T) {
	at := func(line, column int) Position { return Position{"p.yaml", line, column} }
	long := strings.Repeat("x", 100) + "HERE" + strings.Repeat("y", 100)
	for _, c := range []struct {
		name, text, want string
		fault            Fault
	}{
		{"plain", "a:\n  bee: 1\n", "p.yaml:2:3: a.bee: unknown key\n     2 |   bee: 1\n       |   ^\n       = write be\n",
			Fault{At: at(2, 3), Path: "a.bee", Message: "unknown key", Fix: "write be"}},
		{"tabs before the place", "a:\n\t\tb\n", "p.yaml:2:3: m\n     2 | \t\tb\n       | \t\t^\n       = f\n",
			Fault{At: at(2, 3), Message: "m", Fix: "f"}},
		{"wide letters and CRLF", "é: ü\r\n", "p.yaml:1:4: m\n     1 | é: ü\n       |    ^\n       = f\n",
			Fault{At: at(1, 4), Message: "m", Fix: "f"}},
		{"control characters", "a\x1b[31m\n", "p.yaml:1:1: m\n     1 | a�[31m\n       | ^\n       = f\n",
			Fault{At: at(1, 1), Message: "m", Fix: "f"}},
		{"a long line", long, "p.yaml:1:101: m\n     1 | …" + strings.Repeat("x", 70) + "HERE" + strings.Repeat("y", 36) + "…\n       |  " + strings.Repeat(" ", 70) + "^\n       = f\n",
			Fault{At: at(1, 101), Message: "m", Fix: "f"}},
		{"behind the end of a line", "ab", "p.yaml:1:3: m\n     1 | ab\n       |   ^\n       = f\n",
			Fault{At: at(1, 3), Message: "m", Fix: "f"}},
		{"a whole file", "ab", "p.yaml: m\n       = f\n", Fault{At: Position{File: "p.yaml"}, Message: "m", Fix: "f"}},
		{"no file", "ab", "m\n       = f\n", Fault{Message: "m", Fix: "f"}},
		{"a file that is not at hand", "ab", "q.yaml:3:1: m\n       = f\n", Fault{At: Position{"q.yaml", 3, 1}, Message: "m", Fix: "f"}},
	} {
		if got := render(t, c.fault, c.text); got != c.want {
			t.Errorf("%s: got\n%swant\n%s", c.name, got, c.want)
		}
	}
}

type brokenWriter struct{}

var errBroken = errors.New("broken")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestRenderFaultsTellsWhatTheWriterSays(t *testing.T) {
	if err := RenderFaults(brokenWriter{}, []Fault{{Message: "m"}}, nil); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
}

func TestFaultAsJSONAndAsError(t *testing.T) {
	f := Fault{At: Position{"p.yaml", 2, 3}, Path: "services.a.hosts[0]", Service: "a", Message: "is wrong", Fix: "write b"}
	data, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"file":"p.yaml","line":2,"column":3,"path":"services.a.hosts[0]","service":"a","message":"is wrong","fix":"write b"}`
	if string(data) != want {
		t.Errorf("got  %s\nwant %s", data, want)
	}
	if got, want := f.Error(), "p.yaml:2:3: services.a.hosts[0]: is wrong (write b)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNearest(t *testing.T) {
	for _, c := range []struct {
		word       string
		candidates []string
		want       string
	}{
		{"protocoll", []string{"hosts", "protocol"}, "protocol"},
		{"keepAlive", []string{"keep-alive"}, "keep-alive"},
		{"keep_alive", []string{"keep-alive"}, "keep-alive"},
		{"eu", []string{"fr", "EU"}, "EU"},
		{"Fr", []string{"fr", "FR"}, "fr"},
		{"lisetn", []string{"ready", "listen"}, "listen"}, // two letters swapped
		{"list", []string{"ready", "listed"}, "listed"},
		{"minimum", []string{"max", "min"}, "min"},
		{"de", []string{"default"}, ""}, // too short to be meant
		{"colour", []string{"min", "max", "concurrency"}, ""},
		{"de", []string{"fr", "nl"}, ""},
		{"", []string{"fr"}, ""},
		{"fr", []string{"fr"}, ""}, // it is no mistake
		{strings.Repeat("x", 100), []string{strings.Repeat("x", 99)}, ""},
	} {
		got, ok := nearest(c.word, c.candidates)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%q among %v: got %q, want %q", c.word, c.candidates, got, c.want)
		}
	}
}

// TestFaultSurvivesJSON: polder status asks a region for its faults.
func TestFaultSurvivesJSON(t *testing.T) {
	want := Fault{At: Position{File: "polder.yaml", Line: 9, Column: 26}, Path: "services.a.hosts[0]", Service: "a", Message: "no", Fix: "write yes"}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Fault
	if err := json.Unmarshal(data, &got); err != nil || got != want {
		t.Errorf("%s became %+v, %v; want %+v", data, got, err, want)
	}
}
