package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func write(t interface {
	Helper()
	Fatal(...any)
}, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// tailing runs tail in the background; the channel closes when it has ended.
func tailing(t *testing.T, tail func(context.Context, string, func([]byte)) error, file string) (<-chan string, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		if err := tail(ctx, file, func(l []byte) { lines <- string(l) }); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range lines {
		}
	})
	return lines, cancel
}

func next(t *testing.T, lines <-chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got, ok := <-lines:
			if !ok || got != w {
				t.Fatalf("line = %.80q (%d bytes, %t), want %.80q", got, len(got), ok, w)
			}
		case <-time.After(patience):
			t.Fatalf("no line, want %.80q", w)
		}
	}
}

func TestTailFollows(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	lines, cancel := tailing(t, Tail, file)
	write(t, file, "one\ntwo\nthr")
	next(t, lines, "one", "two")
	write(t, file, "ee\n\n")
	next(t, lines, "three", "")
	long := strings.Repeat("x", MaxLine)
	write(t, file, long+long+"end\n"+long+"\n")
	next(t, lines, long, long, "end", long)
	if rotated, err := Rotate(file, 10); err != nil || !rotated {
		t.Fatalf("rotate: %t, %v", rotated, err)
	}
	write(t, file, "after\n")
	next(t, lines, "after")
	if err := os.Truncate(file, 0); err != nil { // by somebody else
		t.Fatal(err)
	}
	write(t, file, "new\nu") // shorter than "after\n", or it could not be told from appending
	next(t, lines, "new")
	cancel()
	next(t, lines, "u")
}

func TestTailLastBeginsNearTheEnd(t *testing.T) {
	for last, want := range map[int][]string{
		0: {"three and more", "new"},
		1: {"two", "three and more", "new"},
		9: {"one", "two", "three and more", "new"},
	} {
		file := filepath.Join(t.TempDir(), "log")
		write(t, file, "one\ntwo\nthree")
		var got []string
		tl := &tail{file: file, lines: lines{emit: func(l []byte) { got = append(got, string(l)) }}}
		if err := tl.begin(last); err != nil {
			t.Fatal(err)
		}
		write(t, file, " and more\nnew\n")
		if err := tl.read(); err != nil || !slices.Equal(got, want) {
			t.Errorf("from the last %d: %q, %v; want %q", last, got, err, want)
		}
	}
	file := filepath.Join(t.TempDir(), "log")
	lines, _ := tailing(t, func(ctx context.Context, file string, line func([]byte)) error {
		return TailLast(ctx, file, 5, line)
	}, file)
	write(t, file, "first\n")
	next(t, lines, "first")
}

func TestTailReportsAMissingFolder(t *testing.T) {
	if err := Tail(t.Context(), "/no/such/folder/log", nil); err == nil {
		t.Error("no error")
	}
}

// Whatever the order of writes, reads and rotations: a reader that keeps up
// with every other rotation sees each byte once, and the files stay bounded.
func TestTailLosesNothingInRotation(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		file := filepath.Join(dir, "log")
		os.Remove(file)
		os.Remove(rotatedName(file))
		const max = 50
		var wrote, got bytes.Buffer
		tl := &tail{file: file, lines: lines{emit: func(l []byte) { got.Write(l); got.WriteByte('\n') }}}
		if err := tl.begin(whole); err != nil {
			t.Fatal(err)
		}
		read := func() {
			if err := tl.read(); err != nil {
				t.Fatal(err)
			}
		}
		unread := false // a rotation since the last read
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"write", "read", "rotate"}).Draw(t, "step") {
			case "write":
				text := fmt.Sprintf("%d-%s\n", wrote.Len(), strings.Repeat("x", rapid.IntRange(0, 60).Draw(t, "length")))
				write(t, file, text)
				wrote.WriteString(text)
			case "read":
				read()
				unread = false
			case "rotate":
				if unread {
					read()
				}
				rotated, err := Rotate(file, max)
				if err != nil {
					t.Fatal(err)
				}
				unread = unread || rotated
				if info, err := os.Stat(file); err == nil && info.Size() > max {
					t.Fatalf("%d bytes after rotation", info.Size())
				}
			}
		}
		read()
		if got.String() != wrote.String() {
			t.Fatalf("wrote\n%s\nread\n%s", wrote.String(), got.String())
		}
	})
}

func TestReadLast(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	last := func(n int, want ...string) {
		t.Helper()
		got, err := ReadLast(file, n)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("last %d = %q, %v; want %q", n, got, err, want)
		}
	}
	last(3)
	write(t, file, "1\n2\n3")
	last(0)
	last(2, "2", "3")
	last(9, "1", "2", "3")
	write(t, file, "\n")
	if _, err := Rotate(file, 1); err != nil {
		t.Fatal(err)
	}
	last(2, "2", "3")
	write(t, file, "4\n5\n")
	last(1, "5")
	last(3, "3", "4", "5")
	for i := range 2000 {
		write(t, file, fmt.Sprintf("%d%s\n", i, strings.Repeat("y", 1000)))
	}
	got, err := ReadLast(file, 5000)
	if err != nil || len(got) < 900 || len(got) > 1100 || !strings.HasPrefix(got[len(got)-1], "1999y") {
		t.Errorf("%d lines, %v", len(got), err)
	}
}

func TestRotateLeavesShortAndMissingLogs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	for range 2 {
		if rotated, err := Rotate(file, 5); rotated || err != nil {
			t.Errorf("rotate: %t, %v", rotated, err)
		}
		write(t, file, "12345")
	}
	if rotated, err := Rotate(file, 9); !rotated || err != nil {
		t.Errorf("rotate: %t, %v", rotated, err)
	}
}
