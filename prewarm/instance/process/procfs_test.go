package process

import (
	"os"
	"testing"
)

func TestParseStat(t *testing.T) {
	const rest = " S 10 42 41 34816 42 4194304 100 0 0 0 1 2 3 4 20 0 1 0 8675309 1000 200 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 1 1 1 1 1 1 1 0"
	want := stat{pid: 42, parent: 10, group: 42, session: 41, state: 'S', start: 8675309, environ: true}
	for name, line := range map[string]string{
		"plain":               "42 (cat)" + rest,
		"blanks and brackets": "42 (a ) S 1 (b)" + rest,
		"newline":             "42 (a\nb)" + rest + "\n",
	} {
		if got, err := parseStat(line); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, line := range []string{"", "42", "42 (cat)", ")(", "x (cat)" + rest, "42 (cat) S 1 2"} {
		if got, err := parseStat(line); err == nil {
			t.Errorf("%q: %+v", line, got)
		}
	}
	if got, err := readStat(os.Getpid()); err != nil || got.pid != os.Getpid() || got.parent != os.Getppid() || !got.environ {
		t.Errorf("our own: %+v, %v", got, err)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("42 (a ) S 1 (b) S 10 42 42 34816 42 4194304 100 0 0 0 1 2 3 4 20 0 1 0 8675309 1000")
	f.Fuzz(func(t *testing.T, line string) {
		if s, err := parseStat(line); err != nil && s != (stat{}) {
			t.Errorf("%+v with %v", s, err)
		}
	})
}
