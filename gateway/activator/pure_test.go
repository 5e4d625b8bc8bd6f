package activator

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polder/polder"
)

func TestPhasesSumToTheTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		noticed := time.Unix(1000, 0)
		end := noticed.Add(time.Duration(rapid.Int64Range(0, 1e9).Draw(t, "length")))
		var m marks
		for i := range m { // in any order, before, after, or not known
			if rapid.Bool().Draw(t, "known") {
				m[i] = noticed.Add(time.Duration(rapid.Int64Range(-1e9, 2e9).Draw(t, "mark")))
			}
		}
		p := m.split(noticed, end, rapid.Bool().Draw(t, "answered"))
		if p.Total() != end.Sub(noticed) {
			t.Errorf("%v sums to %s, want %s", p, p.Total(), end.Sub(noticed))
		}
		for _, step := range p.Steps() {
			if step.Took < 0 {
				t.Errorf("%s took %s", step.Name, step.Took)
			}
		}
	})
}

func TestPhases(t *testing.T) {
	base := time.Unix(1000, 0)
	at := func(ms int) time.Time { return base.Add(time.Duration(ms) * time.Millisecond) }
	none := time.Time{}
	for _, test := range []struct {
		name     string
		marks    marks
		answered bool
		want     [8]int // milliseconds
	}{
		{"its own start", marks{at(1), at(3), at(6), at(10), at(15), none, at(21)}, true, [8]int{1, 2, 3, 4, 5, 0, 6, 79}},
		{"joined a start under way", marks{at(1), at(-50), at(-40), at(10), at(15), none, at(21)}, true, [8]int{1, 0, 0, 9, 5, 0, 6, 79}},
		{"ready before it arrived", marks{at(1), at(-5), at(-4), at(-3), at(-2), none, at(2)}, true, [8]int{1, 0, 0, 0, 0, 0, 1, 98}},
		{"steps that nobody saw fall to the next", marks{at(1), none, none, none, at(15), none, at(21)}, true, [8]int{1, 0, 0, 0, 14, 0, 6, 79}},
		{"no start came", marks{at(1), none, none, none, none, none, none}, false, [8]int{1, 99, 0, 0, 0, 0, 0, 0}},
		{"the program never listened", marks{at(1), at(3), at(6), none, none, none, none}, false, [8]int{1, 2, 3, 94, 0, 0, 0, 0}},
		{"the instance never answered", marks{at(1), at(3), at(6), at(10), at(15), none, at(21)}, false, [8]int{1, 2, 3, 4, 5, 0, 6, 79}},
		{"moved", marks{at(1), at(3), at(6), at(10), at(15), at(21), none}, true, [8]int{1, 2, 3, 4, 5, 6, 0, 79}},
		{"a mark from the future", marks{at(1), at(3), at(6), at(300), at(400), none, at(500)}, true, [8]int{1, 2, 3, 94, 0, 0, 0, 0}},
	} {
		var got [8]int
		for i, step := range test.marks.split(base, at(100), test.answered).Steps() {
			got[i] = int(step.Took / time.Millisecond)
		}
		if got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestLedgerKeepsTheLast(t *testing.T) {
	l := newLedger(3)
	for i := range 8 {
		if want := min(i, 3); len(l.all()) != want {
			t.Errorf("after %d it has %d", i, len(l.all()))
		}
		l.add(ColdRequest{Wakes: i})
		for j, c := range l.all() {
			if c.Wakes != i-j {
				t.Errorf("after %d entry %d is %d", i, j, c.Wakes)
			}
		}
	}
}

// The budget against a plain list of what is held, under any order of events.
func TestHoldingStaysWithinItsBudget(t *testing.T) {
	type item struct {
		service polder.ServiceName
		bytes   polder.Bytes
	}
	rapid.Check(t, func(t *rapid.T) {
		b := Budget{
			Held:       rapid.IntRange(1, 20).Draw(t, "held"),
			PerService: rapid.IntRange(1, 20).Draw(t, "per service"),
			Bytes:      polder.Bytes(rapid.Int64Range(1, 100).Draw(t, "bytes")),
		}
		h := newHolding(b)
		var held []item
		sum := func(service polder.ServiceName) (n int, bytes polder.Bytes) {
			for _, i := range held {
				if service == "" || i.service == service {
					n, bytes = n+1, bytes+i.bytes
				}
			}
			return n, bytes
		}
		t.Repeat(map[string]func(*rapid.T){
			"arrive": func(t *rapid.T) {
				i := item{polder.ServiceName(rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "service")),
					polder.Bytes(rapid.Int64Range(0, 30).Draw(t, "cost"))}
				n, bytes := sum("")
				own, ownBytes := sum(i.service)
				fits := n+own+1 <= b.Held && own+1 <= b.PerService && bytes+ownBytes+i.bytes <= b.Bytes
				if got := h.admit(i.service, i.bytes); got != fits {
					t.Fatalf("%v: admitted %v, want %v with %v held within %+v", i, got, fits, held, b)
				} else if got {
					held = append(held, i)
				}
			},
			"leave": func(t *rapid.T) {
				if len(held) == 0 {
					return
				}
				k := rapid.IntRange(0, len(held)-1).Draw(t, "who")
				h.release(held[k].service, held[k].bytes)
				held = append(held[:k:k], held[k+1:]...)
			},
			"": func(t *rapid.T) {
				n, bytes := sum("")
				if h.total.held != n || h.total.bytes != bytes {
					t.Fatalf("it counts %+v, held are %d of %d bytes", h.total, n, bytes)
				}
				if n > b.Held || bytes > b.Bytes {
					t.Fatalf("%d of %d bytes are held within %+v", n, bytes, b)
				}
				for service := range h.services {
					if own, _ := sum(service); own == 0 {
						t.Fatalf("%s takes memory and holds nothing", service)
					}
				}
			},
		})
	})
}

func TestCountersForgetServicesThatLeftTheConfiguration(t *testing.T) {
	configured := func(s polder.ServiceName) bool { return s == "kept" }
	b := newBook(DefaultLimits(), configured)
	b.refuse("kept", StartFailed)
	b.arrive("busy", Cold, 1) // not configured any more, but held
	for i := range 10 * sweepFirst {
		b.refuse(polder.ServiceName(fmt.Sprint("gone-", i)), StartFailed)
		if len(b.services) > sweepFirst+2 {
			t.Fatalf("%d services are remembered", len(b.services))
		}
	}
	for _, service := range []polder.ServiceName{"kept", "busy"} {
		if b.services[service] == nil {
			t.Errorf("%s was forgotten", service)
		}
	}
}

func TestFailuresAreLoggedOnceInAWhile(t *testing.T) {
	b := newBook(DefaultLimits(), func(polder.ServiceName) bool { return true })
	now := time.Unix(1000, 0)
	for i, test := range []struct {
		service    polder.ServiceName
		reason     Reason
		after      time.Duration
		write      bool
		suppressed uint64
	}{
		{"a", StartFailed, 0, true, 0},
		{"a", StartFailed, 0, false, 0},
		{"a", StartFailed, logInterval - 1, false, 0},
		{"a", ActivatorFull, 0, true, 0},
		{"b", StartFailed, 0, true, 0},
		{"a", StartFailed, 1, true, 2},
		{"a", StartFailed, logInterval, true, 0},
		{"x", UnknownService, 0, true, 0},
		{"y", UnknownService, 0, false, 0},
	} {
		now = now.Add(test.after)
		if write, suppressed := b.mayLog(test.service, test.reason, now); write != test.write || suppressed != test.suppressed {
			t.Errorf("step %d: got %v, %d, want %v, %d", i, write, suppressed, test.write, test.suppressed)
		}
	}
	for i := range 10 * sweepFirst {
		b.mayLog(polder.ServiceName(fmt.Sprint(i)), StartFailed, now)
	}
	if len(b.logged) > sweepFirst {
		t.Errorf("%d services are remembered for the log", len(b.logged))
	}
}

func TestEveryReasonThatCallersSeeHasWords(t *testing.T) {
	for _, reason := range []Reason{ActivatorFull, CrashLoop, InstanceFailed, InstanceGone, OverBudget, OverQuota,
		Saturated, StartFailed, StartTimeout, Stopping, UnknownService} {
		if public[reason] == "" {
			t.Errorf("%s has none", reason)
		}
	}
	if _, ok := public[CallerGone]; ok {
		t.Errorf("%s has words for nobody", CallerGone)
	}
}

func TestRequestID(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"a-1":                    "a-1",
		"a b":                    "",
		"a\tb":                   "",
		"ü":                      "",
		strings.Repeat("x", 129): strings.Repeat("x", 128),
	} {
		if got := requestID(http.Header{"X-Request-Id": {in}}); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestMovers(t *testing.T) {
	m, now := newMovers(), time.Unix(0, 0)
	for i := range 3 * movesPerMinute {
		at := now.Add(time.Duration(i) * time.Millisecond)
		if _, got := m.may("svc", fmt.Sprint(i), 1, at); got != (i < movesPerMinute) {
			t.Fatalf("stream %d of a minute is moved: %v", i, got)
		}
	}
	if _, ok := m.may("other", "x", 1, now); !ok {
		t.Error("another service has moves of its own")
	}
	now = now.Add(time.Minute)
	if _, ok := m.may("svc", "0", 1, now); ok {
		t.Error("one that may be moved once is moved twice")
	}
	for before := range movesOfOne {
		if got, ok := m.may("svc", "again", movesOfOne, now); !ok || got != before {
			t.Errorf("moved %v after %d moves, and %d are remembered", ok, before, got)
		}
	}
	if _, ok := m.may("svc", "again", movesOfOne, now); ok {
		t.Errorf("one is moved more than %d times", movesOfOne)
	}
	for i := range 2 * movedKept {
		m.may("svc", fmt.Sprint("more-", i), 1, now.Add(time.Duration(i)*time.Minute))
	}
	if len(m.seen) != movedKept || len(m.ring) != movedKept || len(m.moves) != 1 {
		t.Errorf("remembers %d, %d, %d", len(m.seen), len(m.ring), len(m.moves))
	}
}
