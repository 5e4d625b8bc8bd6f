package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/polder/polder/internal/faketime"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// begin opens a ledger with small segments.
func begin(t testing.TB, dir string) *Ledger {
	t.Helper()
	l, err := Open(Options{Dir: dir, Region: "fr", SegmentBytes: 1500, Keep: 4})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fill appends n records.
func fill(t testing.TB, l *Ledger, n int) {
	t.Helper()
	for i := range n {
		if err := l.Append(Accepted, map[string]any{"digest": fmt.Sprintf("%08x", i), "resources": i}); err != nil {
			t.Fatal(err)
		}
	}
}

func closed(t testing.TB, l *Ledger) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// good fails the test unless the ledger verifies.
func good(t testing.TB, dir string) Summary {
	t.Helper()
	s, err := Verify(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func records(t testing.TB, dir string) []Record {
	t.Helper()
	var list []Record
	if _, err := Read(dir, 0, func(r Record) error { list = append(list, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestRecordsOutliveRestarts: what was appended is there in order, with
// private modes, whoever opened it, and is bounded by the segments kept.
func TestRecordsOutliveRestarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	for i := range 4 {
		l := begin(t, dir)
		if err := l.Append(Started, map[string]int{"start": i}); err != nil {
			t.Fatal(err)
		}
		fill(t, l, 2)
		closed(t, l)
	}
	s := good(t, dir)
	if s.Kinds[Started] != 4 || s.Kinds[Accepted] != 8 || s.Unfinished != 0 {
		t.Errorf("got %+v, want 4 starts and 8 snapshots", s)
	}
	sequence := uint64(0)
	for _, r := range records(t, dir) {
		if sequence++; r.Sequence != sequence || r.Region != "fr" || r.Time.IsZero() {
			t.Fatalf("record %d is %+v", sequence, r)
		}
	}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v: others may read it", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOldSegmentsGo: the size is bounded, and that segments went is on record.
func TestOldSegmentsGo(t *testing.T) {
	dir := t.TempDir()
	l := begin(t, dir)
	fill(t, l, 100)
	head := l.Status().Head
	closed(t, l)
	s := good(t, dir)
	if s.Segments != 4 || s.Pruned == 0 || s.First == 1 || s.Head != head {
		t.Errorf("got %+v, want 4 segments, older ones pruned, and head %v", s, head)
	}
	numbers, err := segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range numbers[:len(numbers)-1] {
		if info, err := os.Stat(segmentFile(dir, n)); err != nil || info.Mode().Perm() != 0o400 {
			t.Errorf("sealed segment %d: %v, %v, want mode 0400", n, info.Mode(), err)
		}
	}
	l = begin(t, dir)
	fill(t, l, 100)
	closed(t, l)
	good(t, dir)
}

// TestCrashMidWrite cuts the last line, at every byte, as a power failure does
// to what was not synced. It is no damage, and the next start goes on from it.
func TestCrashMidWrite(t *testing.T) {
	origin := t.TempDir()
	l := begin(t, origin)
	fill(t, l, 3)
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	before := l.Status().Head
	fill(t, l, 1)
	name := segmentFile(origin, 1)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	head, err := os.ReadFile(filepath.Join(origin, headName))
	if err != nil {
		t.Fatal(err)
	}
	closed(t, l)
	last := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	for cut := last; cut < len(whole); cut++ {
		dir := t.TempDir()
		write(t, segmentFile(dir, 1), whole[:cut])
		write(t, filepath.Join(dir, headName), head)
		if s := good(t, dir); s.Head != before || s.Unfinished != int64(cut-last) {
			t.Fatalf("cut at %d: got %+v, want head %v and %d bytes unfinished", cut, s, before, cut-last)
		}
		l := begin(t, dir)
		fill(t, l, 1)
		closed(t, l)
		s := good(t, dir)
		if told := s.Kinds[Truncated] == 1; told != (cut > last) {
			t.Fatalf("cut at %d: told %v", cut, told)
		}
	}
}

// TestCrashAtTheTurn: what a crash leaves while one segment follows another is
// no damage either.
func TestCrashAtTheTurn(t *testing.T) {
	for name, leave := range map[string]func(dir string, next int) error{
		"sealed, and no next segment": func(dir string, next int) error { return os.Remove(segmentFile(dir, next)) },
		"an empty next segment":       func(dir string, next int) error { return os.Truncate(segmentFile(dir, next), 0) },
		"part of its first line":      func(dir string, next int) error { return os.Truncate(segmentFile(dir, next), 17) },
		"a head that was not finished": func(dir string, next int) error {
			return os.WriteFile(filepath.Join(dir, headName+".new"), []byte("{"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l := begin(t, dir)
			for l.Status().Segment < 3 {
				fill(t, l, 1)
			}
			if l.records > 1 {
				t.Fatalf("the last segment has %d records", l.records)
			}
			sync := l.synced // what roll left: the head is the seal of the one before
			closed(t, l)
			if err := writeHead(dir, sync); err != nil {
				t.Fatal(err)
			}
			if err := leave(dir, 3); err != nil {
				t.Fatal(err)
			}
			good(t, dir)
			l = begin(t, dir)
			fill(t, l, 20)
			closed(t, l)
			good(t, dir)
		})
	}
}

// TestDamageIsSetAside: a tampered ledger is kept as it is, and the next one
// begins with what was found.
func TestDamageIsSetAside(t *testing.T) {
	dir := t.TempDir()
	l := begin(t, dir)
	fill(t, l, 3)
	closed(t, l)
	name := segmentFile(dir, 1)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Replace(data, []byte(`"resources":1`), []byte(`"resources":7`), 1)
	write(t, name, bad)
	closed(t, begin(t, dir))
	list := records(t, dir)
	at := slices.IndexFunc(list, func(r Record) bool { return r.Kind == Damaged })
	if at < 0 || !strings.Contains(string(list[at].Data), "segment-00000001.jsonl:3 (record 3)") {
		t.Fatalf("got %+v, want a record of the damage in line 3", list)
	}
	var told struct{ Kept string }
	if err := json.Unmarshal(list[at].Data, &told); err != nil {
		t.Fatal(err)
	}
	if kept, err := os.ReadFile(filepath.Join(dir, told.Kept, filepath.Base(name))); err != nil || !bytes.Equal(kept, bad) {
		t.Errorf("the damaged segment is not kept: %v", err)
	}
}

// TestOneOwner: two processes never write to one ledger.
func TestOneOwner(t *testing.T) {
	dir := t.TempDir()
	l := begin(t, dir)
	if _, err := Open(Options{Dir: dir, Region: "fr"}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second owner got %v, want ErrInUse", err)
	}
	closed(t, l)
	if err := l.Append(Started, nil); err == nil {
		t.Error("a closed ledger takes records")
	}
	closed(t, begin(t, dir))
}

// TestManyWriters: records of several goroutines are all there, each whole,
// while others read.
func TestManyWriters(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(Options{Dir: dir, Region: "fr", SegmentBytes: 4000, Keep: 1000})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { fill(t, l, 50) })
	}
	group.Go(func() {
		for range 20 {
			if _, err := Verify(dir); err != nil {
				t.Error(err)
			}
			if err := l.Intact(); err != nil {
				t.Error(err)
			}
		}
	})
	group.Wait()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	closed(t, l)
	if s := good(t, dir); s.Kinds[Accepted] != 400 {
		t.Errorf("got %d records, want 400", s.Kinds[Accepted])
	}
}

// TestRunSyncs: what is appended is on disk a second later, and the head says so.
func TestRunSyncs(t *testing.T) {
	dir := t.TempDir()
	faketime.Test(t, func(t *testing.T) {
		l := begin(t, dir)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		fill(t, l, 1)
		pass := time.NewTimer(SyncEvery + time.Millisecond)
		<-pass.C
		synctest.Wait()
		if head, err := readHead(dir); err != nil || head != l.Status().Head {
			t.Errorf("head is %v, %v, want %v", head, err, l.Status().Head)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		closed(t, l)
	})
}

// TestLostRecordsAreTold: after a disk that was full, the ledger says how many
// records are missing.
func TestLostRecordsAreTold(t *testing.T) {
	dir := t.TempDir()
	l := begin(t, dir)
	fill(t, l, 1)
	writable := l.file
	readOnly, err := os.Open(segmentFile(dir, 1))
	if err != nil {
		t.Fatal(err)
	}
	l.file = readOnly
	for range 3 {
		if err := l.Append(Accepted, nil); err == nil {
			t.Error("a record that cannot be written is no error")
		}
	}
	if s := l.Status(); s.Lost != 3 || s.Fault == "" {
		t.Errorf("status is %+v, want 3 lost records and why", s)
	}
	readOnly.Close()
	l.file = writable
	fill(t, l, 1)
	closed(t, l)
	list := records(t, dir)
	if lost := list[len(list)-2]; lost.Kind != Lost || string(lost.Data) != `{"records":3}` {
		t.Errorf("got %s %s, want that 3 records were lost", lost.Kind, lost.Data)
	}
}

// TestIntactNoticesAtOnce: a running region sees that another hand wrote.
func TestIntactNoticesAtOnce(t *testing.T) {
	for name, tamper := range map[string]func(name string) error{
		"cut":     func(name string) error { return os.Truncate(name, 10) },
		"removed": os.Remove,
		"replaced": func(name string) error {
			return errors.Join(os.Rename(name, name+".old"), os.WriteFile(name, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := begin(t, t.TempDir())
			defer l.Close()
			fill(t, l, 2)
			if err := l.Intact(); err != nil {
				t.Fatal(err)
			}
			if err := tamper(segmentFile(l.options.Dir, 1)); err != nil {
				t.Fatal(err)
			}
			if l.Intact() == nil {
				t.Error("not noticed")
			}
		})
	}
}

// TestExportVerifies: the exported lines are those of the ledger, and whoever
// has them alone can follow the chain.
func TestExportVerifies(t *testing.T) {
	dir := t.TempDir()
	l := begin(t, dir)
	fill(t, l, 7)
	closed(t, l)
	var out bytes.Buffer
	if _, err := Export(dir, &out); err != nil {
		t.Fatal(err)
	}
	previous := ""
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	for _, line := range lines {
		r, want, err := parse([]byte(line), previous)
		if err != nil || r.Hash != want {
			t.Fatalf("%s: hash %s, want %s, %v", line, r.Hash, want, err)
		}
		previous = r.Hash
	}
	if n := len(records(t, dir)); n != len(lines) {
		t.Errorf("%d lines of %d records", len(lines), n)
	}
}

func write(t testing.TB, name string, data []byte) {
	t.Helper()
	if info, err := os.Stat(name); err == nil {
		if err := os.Chmod(name, info.Mode()|0o200); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
