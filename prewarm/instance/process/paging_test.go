package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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

// TestOccupied: a program's own memory counts, and neither its files nor its name.
func TestOccupied(t *testing.T) {
	occupied := func(what string) int64 {
		s := spec(t, what)
		p := begin(t, s)
		line(t, s, "serving")
		n := p.Occupied()
		if err := p.Stop(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		finished(t, p)
		return n
	}
	lean, fat := occupied("serve"), occupied("fat")
	if more := fat - lean; lean <= 0 || more < 24<<20 || more > 40<<20 {
		t.Errorf("a program occupies %d bytes, and one with 32 MiB more %d", lean, fat)
	}
}

// TestRoomInSwap: what is paged out takes what the machine's zram devices say, and on
// a disk nothing.
func TestRoomInSwap(t *testing.T) {
	const title = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	const zram0 = "/dev/zram0                              partition\t1048572\t\t102400\t\t100\n"
	const disk = "/swapfile                               file\t\t1048572\t\t307200\t\t-2\n"
	block := t.TempDir()
	if err := os.Mkdir(filepath.Join(block, "zram0"), 0o700); err != nil {
		t.Fatal(err)
	}
	stat := "104857600 20971520 26214400        0 26214400      128        0        0        0\n" // 100 MiB that take 25
	if err := os.WriteFile(filepath.Join(block, "zram0", "mm_stat"), []byte(stat), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, table string
		want        float64
	}{
		{"no swap", title, 0},
		{"zram", title + zram0, 0.25},
		{"a file", title + disk, 0},
		{"both", title + zram0 + disk, 0.0625},
		{"a table in another form", "swap\n", 0},
	} {
		swaps := filepath.Join(t.TempDir(), "swaps")
		if err := os.WriteFile(swaps, []byte(c.table), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := roomInSwap(swaps, block); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := roomInSwap(filepath.Join(block, "none"), block); got != 0 {
		t.Errorf("without a table: %v", got)
	}
}
