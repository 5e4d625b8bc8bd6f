package source_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/polder/polder/gateway/source"
)

// TestProvenance asks from whom a folder is: outside a repository, committed, and
// changed since.
func TestProvenance(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "polder.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git := func(args ...string) {
		t.Helper()
		c := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=Ada", "-c", "user.email=ada@example.com"}, args...)...)
		c.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	write("a: 1\n")
	for _, path := range []string{dir, file} {
		if p := (source.Source{Path: path}).Provenance(t.Context()); p.Commit != nil || len(p.Owners) != 1 || p.Written.IsZero() {
			t.Errorf("outside a repository: %+v", p)
		}
	}
	git("init", "--quiet")
	git("add", ".")
	git("commit", "--quiet", "-m", "Narrow billing to Paris")
	for _, path := range []string{dir, file} {
		p := (source.Source{Path: path}).Provenance(t.Context())
		if p.Commit == nil || p.Commit.Author != "Ada <ada@example.com>" || p.Commit.Subject != "Narrow billing to Paris" || len(p.Commit.Hash) != 40 || p.Commit.Date.IsZero() || p.Changed {
			t.Errorf("committed: %+v, %+v", p, p.Commit)
		}
	}
	write("a: 2\n")
	if p := (source.Source{Path: dir}).Provenance(t.Context()); p.Commit == nil || !p.Changed {
		t.Errorf("changed since: %+v", p)
	}
	if p := (source.Source{Path: filepath.Join(dir, "nowhere")}).Provenance(t.Context()); p.Commit != nil || len(p.Owners) > 0 {
		t.Errorf("nothing there: %+v", p)
	}
}
