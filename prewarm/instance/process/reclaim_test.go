package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReclaim uses a folder with the files of a cgroup, so that it says the same on
// machines that have none: all that is charged is asked for, and without the file, or
// the figure, the processes are paged out one by one instead.
func TestReclaim(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if reclaim(dir) {
		t.Error("a cgroup without memory was reclaimed")
	}
	write("memory.current", "52428800\n")
	if reclaim(dir) {
		t.Error("a kernel that cannot was asked, and believed")
	}
	write("memory.reclaim", "")
	if !reclaim(dir) {
		t.Error("it was not reclaimed")
	}
	if asked, err := os.ReadFile(filepath.Join(dir, "memory.reclaim")); err != nil || strings.TrimSpace(string(asked)) != "52428800" {
		t.Errorf("the kernel was asked for %q, %v", asked, err)
	}
}
