package books

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
	"github.com/polder/polder/prewarm/budget"
)

var noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)

func opened(t *testing.T, file string) *Store {
	t.Helper()
	s, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestWhatIsWrittenIsRead over an end without Close, as a crash is.
func TestWhatIsWrittenIsRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "books")
	s := opened(t, file)
	account := budget.Saved{Service: "billing", Month: 24314, Spent: 17, Hours: make([]prewarm.Nanos, 168), Hour: 2, First: 1}
	owner := budget.Saved{Tenant: "acme", Month: 24314, Spent: 18, Hours: make([]prewarm.Nanos, 168), Hour: 2, First: 1}
	lease := budget.SavedLease{Instance: "billing-1", Service: "billing", From: noon, Aside: 3}
	if err := s.Write(Entry{Accounts: []budget.Saved{account, owner}, Leases: []budget.SavedLease{lease, {Instance: "gone"}}, Moved: true}); err != nil {
		t.Fatal(err)
	}
	account.Spent = 20
	if err := s.Write(Entry{Accounts: []budget.Saved{account}, Leases: []budget.SavedLease{lease}, Moved: true}); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "books")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, data, 0o600); err != nil {
		t.Fatal(err)
	}
	accounts, leases, err := opened(t, copied).Read()
	if err != nil || !reflect.DeepEqual(accounts, []budget.Saved{account, owner}) || !reflect.DeepEqual(leases, []budget.SavedLease{lease}) {
		t.Errorf("got %+v, %+v, %v", accounts, leases, err)
	}
}

func TestCalls(t *testing.T) {
	s := opened(t, filepath.Join(t.TempDir(), "books"))
	minute := noon.Unix() / 60
	write := func(calls ...Calls) {
		t.Helper()
		if err := s.Write(Entry{Calls: calls}); err != nil {
			t.Fatal(err)
		}
	}
	write(Calls{"a", minute - 40*1440, 9}, Calls{"a", minute, 3}, Calls{"a", minute + 2, 1}, Calls{"b", minute, 8})
	write(Calls{"a", minute + 2, 70_000}, Calls{"a", minute + 1441, 2})
	got, err := s.Calls("a", noon.Add(24*time.Hour+3*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	want := make([]uint32, 1444)
	want[0], want[2], want[1441] = 3, 70_001, 2
	if !got.From.Equal(noon) || !slices.Equal(got.Counts, want) {
		t.Errorf("from %s: %d minutes, %v …", got.From, len(got.Counts), got.Counts[:3])
	}
	if err := s.Forget(func(name polder.ServiceName) bool { return name == "b" }); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Calls("a", noon); err != nil || got.Counts != nil {
		t.Errorf("a may not be kept here any more: got %+v, %v", got, err)
	}
	if got, err := s.Calls("b", noon); err != nil || !slices.Equal(got.Counts, []uint32{8}) {
		t.Errorf("b: got %+v, %v", got, err)
	}
}

// TestBound: whatever is written, a day keeps to its bound and old days go.
// TestCallsAfterTheClockWasSetBack: what was noted before is in the future now.
func TestCallsAfterTheClockWasSetBack(t *testing.T) {
	s := opened(t, filepath.Join(t.TempDir(), "books"))
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if err := s.Write(Entry{Calls: []Calls{{"a", noon.Unix() / 60, 3}, {"a", noon.Unix()/60 - 60, 4}}}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Calls("a", noon.Add(-time.Hour)); err != nil || len(got.Counts) > 1 {
		t.Errorf("an hour before the first call: %+v, %v", got, err)
	}
	if got, err := s.Calls("a", noon); err != nil || !slices.Equal(got.Counts, []uint32{3}) {
		t.Errorf("at the first call: %+v, %v", got, err)
	}
}

func TestBound(t *testing.T) {
	s := opened(t, filepath.Join(t.TempDir(), "books"))
	minute := noon.Unix() / 60 / minutesPerDay * minutesPerDay
	var calls []Calls
	for range 12_000 {
		calls = append(calls, Calls{"a", minute, 1})
	}
	for day := range int64(Days + 10) {
		calls = append(calls, Calls{"a", minute + day*minutesPerDay, 1})
	}
	if err := s.Write(Entry{Calls: calls}); err != nil {
		t.Fatal(err)
	}
	last := time.Unix((minute+(Days+9)*minutesPerDay)*60, 0)
	got, err := s.Calls("a", last)
	if err != nil || len(got.Counts) != (Days-1)*minutesPerDay+1 {
		t.Errorf("got %d minutes, %v; want %d days", len(got.Counts), err, Days)
	}
	first, err := s.Calls("a", time.Unix(minute*60, 0))
	if err != nil || len(first.Counts) > 0 {
		t.Errorf("the first day is still there: %d minutes, %v", len(first.Counts), err)
	}
}

func TestDamagedBooksBeginAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "books")
	if err := os.WriteFile(file, []byte(strings.Repeat("not a book ", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(file)
	if s == nil || err == nil || !strings.Contains(err.Error(), "counts anew") {
		t.Fatalf("got %v, %v; want new books and a word on the old ones", s, err)
	}
	defer s.Close()
	if _, err := os.Stat(file + ".damaged"); err != nil {
		t.Error(err)
	}
	if accounts, _, err := s.Read(); err != nil || len(accounts) > 0 {
		t.Errorf("got %v, %v", accounts, err)
	}
}
