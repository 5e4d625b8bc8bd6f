package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// book is a ledger in memory, to be tampered with.
type book struct {
	segments [][]byte // from number first on
	first    int
	head     []byte
}

func readBook(t testing.TB, dir string) book {
	t.Helper()
	numbers, err := segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := book{first: numbers[0]}
	for _, n := range numbers {
		data, err := os.ReadFile(segmentFile(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		b.segments = append(b.segments, data)
	}
	if b.head, err = os.ReadFile(filepath.Join(dir, headName)); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b book) write(t testing.TB, dir string) {
	t.Helper()
	for i, data := range b.segments {
		if data != nil {
			write(t, segmentFile(dir, b.first+i), data)
		}
	}
	if b.head != nil {
		write(t, filepath.Join(dir, headName), b.head)
	}
}

func lines(data []byte) [][]byte { return slices.Collect(bytes.Lines(data)) }

// TestEveryTamperingIsFound does one thing to a good ledger, anywhere in it,
// and wants it found and placed.
func TestEveryTamperingIsFound(t *testing.T) {
	origin := t.TempDir()
	l := begin(t, origin)
	fill(t, l, 40)
	closed(t, l)
	good(t, origin)
	whole := readBook(t, origin)
	root := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(root, "")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		b := book{slices.Clone(whole.segments), whole.first, whole.head}
		at := rapid.IntRange(0, len(b.segments)-1).Draw(rt, "segment")
		list := lines(b.segments[at])
		line := rapid.IntRange(0, len(list)-1).Draw(rt, "line")
		place := filepath.Base(segmentFile(dir, b.first+at))
		switch rapid.SampledFrom([]string{"change", "remove", "swap", "repeat", "move", "cut", "lose segment", "swap segments", "insert"}).Draw(rt, "tampering") {
		case "change":
			k := rapid.IntRange(0, len(list[line])-2).Draw(rt, "byte")
			list[line] = bytes.Clone(list[line])
			list[line][k] ^= byte(rapid.IntRange(1, 255).Draw(rt, "bits"))
			b.segments[at] = bytes.Join(list, nil)
		case "remove":
			b.segments[at] = bytes.Join(slices.Delete(list, line, line+1), nil)
			place = ""
		case "swap":
			other := (line + 1) % len(list)
			if other == line {
				return
			}
			list[line], list[other] = list[other], list[line]
			b.segments[at] = bytes.Join(list, nil)
		case "repeat":
			b.segments[at] = bytes.Join(slices.Insert(list, line, list[line]), nil)
		case "move":
			to := rapid.IntRange(0, len(b.segments)-1).Draw(rt, "to")
			if to == at {
				return
			}
			b.segments[to] = append(bytes.Clone(b.segments[to]), list[line]...)
			b.segments[at] = bytes.Join(slices.Delete(list, line, line+1), nil)
			place = ""
		case "cut": // this line and all after it
			b.segments = b.segments[:at+1]
			b.segments[at] = bytes.Join(list[:line], nil)
			place = ""
		case "lose segment":
			b.segments[at] = nil
			place = ""
		case "swap segments":
			other := (at + 1) % len(b.segments)
			b.segments[at], b.segments[other] = b.segments[other], b.segments[at]
		case "insert":
			forged, _, err := seal(Record{Sequence: uint64(line), Region: "fr", Kind: Accepted}, "")
			if err != nil {
				rt.Fatal(err)
			}
			b.segments[at] = bytes.Join(slices.Insert(list, line, forged), nil)
		}
		b.write(t, dir)
		var damage *DamageError
		if _, err := Verify(dir); !errors.As(err, &damage) {
			rt.Fatalf("not found: %v", err)
		}
		if place != "" && !slices.ContainsFunc(damage.Faults, func(f Fault) bool { return f.File == place }) {
			rt.Errorf("found, and %s is not named: %v", place, damage)
		}
	})
}

// TestFaultsAreNamed: the words lead to the place.
func TestFaultsAreNamed(t *testing.T) {
	origin := t.TempDir()
	l := begin(t, origin)
	for l.Status().Segment < 3 {
		fill(t, l, 1)
	}
	fill(t, l, 2)
	noted := l.Status().Head
	fill(t, l, 2)
	closed(t, l)
	for name, c := range map[string]struct {
		tamper func(b *book)
		want   string
	}{
		"changed line": {func(b *book) {
			list := lines(b.segments[0])
			list[3] = bytes.Replace(list[3], []byte(`"resources":0`), []byte(`"resources":1`), 1)
			b.segments[0] = bytes.Join(list, nil)
		}, "segment-00000001.jsonl:4 (record 4): was changed"},
		"removed line": {func(b *book) {
			list := lines(b.segments[0])
			b.segments[0] = bytes.Join(slices.Delete(list, 2, 3), nil)
		}, "segment-00000001.jsonl:3 (record 4): follows record 2"},
		"removed segment": {func(b *book) { b.segments[1] = nil }, "segment-00000003.jsonl: segments 2 to 2 are missing before it"},
		"removed first":   {func(b *book) { b.segments[0] = nil }, "segment-00000002.jsonl: the segments before it are missing"},
		"cut tail": {func(b *book) {
			list := lines(b.segments[2])
			b.segments[2] = bytes.Join(list[:len(list)-1], nil)
		}, "the head file names it"},
		"cut tail, and the head removed": {func(b *book) {
			list := lines(b.segments[2])
			b.segments[2] = bytes.Join(list[:len(list)-3], nil)
			b.head = nil
		}, "it was noted earlier"},
		"all gone": {func(b *book) { b.segments = nil }, "there are no records at all"},
	} {
		t.Run(name, func(t *testing.T) {
			b := readBook(t, origin)
			c.tamper(&b)
			dir := t.TempDir()
			b.write(t, dir)
			if _, err := VerifyFrom(dir, noted); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// FuzzVerify: whatever stands in a segment, it is read without a crash, and only
// a beginning of the true lines is taken for good.
func FuzzVerify(f *testing.F) {
	origin := f.TempDir()
	l := begin(f, origin)
	fill(f, l, 3)
	closed(f, l)
	whole, err := os.ReadFile(segmentFile(origin, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-20])
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"sequence":1,"hash":"` + strings.Repeat("0", 64) + `"}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		write(t, segmentFile(dir, 1), data)
		var shown bytes.Buffer
		summary, err := Export(dir, &shown)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(data, shown.Bytes()) || int64(shown.Len())+summary.Unfinished != int64(len(data)) {
			t.Errorf("accepted %d of %d bytes, %d unfinished", shown.Len(), len(data), summary.Unfinished)
		}
		previous := ""
		for _, line := range lines(shown.Bytes()) {
			r, want, err := parse(bytes.TrimSuffix(line, []byte("\n")), previous)
			if err != nil || r.Hash != want {
				t.Fatalf("accepted %s", line)
			}
			previous = r.Hash
		}
	})
}

// BenchmarkAppend is what the reconciler pays for a record.
func BenchmarkAppend(b *testing.B) {
	l, err := Open(Options{Dir: b.TempDir(), Region: "fr"})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := l.Append(Accepted, map[string]string{"digest": fmt.Sprint(i)}); err != nil {
			b.Fatal(err)
		}
	}
}
