package source

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/polder/polder"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const regions = "regions: { fr: { location: [48.86, 2.35] } }\n"

// config is a configuration with one service of that name.
func config(service string) string { return regions + services(service) }

func services(name string) string {
	return fmt.Sprintf("services: { %s: { hosts: [%s.example.com], residency: { allow: [fr] }, run: { command: [./x], directory: bin } } }\n", name, name)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLoadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "polder.yaml")
	write(t, path, config("billing"))
	r := Source{Path: path}.Load()
	if len(r.Faults) > 0 || r.Fatal {
		t.Fatal(r.Faults)
	}
	s, ok := r.Model.Service("billing")
	if !ok || s.Run.Directory != filepath.Join(dir, "bin") {
		t.Errorf("got %+v", s.Run)
	}
	if s.At.File != path {
		t.Errorf("the service stands in %s, want %s", s.At.File, path)
	}
}

func TestDirectoriesAreAbsoluteAndNamesAreAsGiven(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, "conf/polder.yaml", config("billing"))
	for _, path := range []string{"conf/polder.yaml", "conf", "./conf/"} {
		r := Source{Path: path}.Load()
		s, _ := r.Model.Service("billing")
		if want := filepath.Join(dir, "conf", "bin"); s.Run == nil || s.Run.Directory != want {
			t.Errorf("%s: the directory is %+v, want %s", path, s.Run, want)
		}
		if s.At.File != "conf/polder.yaml" {
			t.Errorf("%s: the file is called %s", path, s.At.File)
		}
	}
}

func TestLoadFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "10-regions.yaml"), regions)
	write(t, filepath.Join(dir, "billing.yml"), services("billing"))
	write(t, filepath.Join(dir, "vault.yaml"), services("vault"))
	write(t, filepath.Join(dir, "README.md"), "not a configuration")
	write(t, filepath.Join(dir, ".vault.yaml.swp"), "an editor's")
	write(t, filepath.Join(dir, ".#vault.yaml"), "an editor's")
	write(t, filepath.Join(dir, "old.yaml", "billing.yaml"), "in a folder below: {")
	r := Source{Path: dir}.Load()
	if len(r.Faults) > 0 {
		t.Fatal(r.Faults)
	}
	if len(r.Files) != 3 || len(r.Model.Services) != 2 {
		t.Errorf("read %d files and %d services, want 3 and 2", len(r.Files), len(r.Model.Services))
	}
}

func TestWhatCannotBeReadIsAFatalFault(t *testing.T) {
	dir := t.TempDir()
	many := filepath.Join(dir, "many")
	for i := range polder.MaxFiles + 1 {
		write(t, filepath.Join(many, fmt.Sprintf("%d.yaml", i)), "")
	}
	pipe := filepath.Join(dir, "pipe.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(dir, "big.yaml")
	write(t, big, strings.Repeat("#", 2*polder.MaxFileSize))
	dangling := filepath.Join(dir, "dangling")
	if err := os.MkdirAll(dangling, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere.yaml", filepath.Join(dangling, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.MkdirAll(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	last := &polder.Model{}
	for path, want := range map[string]string{
		filepath.Join(dir, "missing.yaml"): "no such file",
		many:                               "more than 1000 files",
		pipe:                               "not a regular file",
		big:                                "bytes, more than",
		dangling:                           "no such file",
		empty:                              "no configuration file",
	} {
		r := Source{Path: path}.Load()
		if !r.Fatal || len(r.Faults) != 1 || !strings.Contains(r.Faults[0].Message, want) || r.Faults[0].Fix == "" {
			t.Errorf("%s: fatal %v, faults %v; want one with %q", filepath.Base(path), r.Fatal, r.Faults, want)
		}
		if m, _ := r.Apply(last); m != last {
			t.Errorf("%s: the last model was not kept", path)
		}
	}
}
