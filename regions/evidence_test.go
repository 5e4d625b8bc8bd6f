package regions

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// at is an instant of these tests, in milliseconds.
func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// quick is what a peer has that usually answers within 60 ms.
func quick() *Evidence {
	e := &Evidence{}
	for i := range 20 {
		n := e.Begin(at(-10_000 + 250*i))
		e.Succeeded(n, at(-10_000+250*i+60))
	}
	return e
}

func TestEvidence(t *testing.T) {
	for _, c := range []struct {
		why  string
		play func(e *Evidence)
		at   int // ms
		want bool
	}{
		{"nothing was tried", func(*Evidence) {}, 0, false},
		{"one handshake has not ended yet", func(e *Evidence) { e.Begin(at(0)) }, 299, false},
		{"one is overdue: a lost packet", func(e *Evidence) { e.Begin(at(0)) }, 5000, false},
		{"two are overdue", func(e *Evidence) { e.Begin(at(0)); e.Begin(at(250)) }, 550, true},
		{"… and a moment before", func(e *Evidence) { e.Begin(at(0)); e.Begin(at(250)) }, 549, false},
		{"two failed", func(e *Evidence) { e.Failed(e.Begin(at(0)), false); e.Failed(e.Begin(at(250)), false) }, 260, true},
		{"one is overdue and one failed", func(e *Evidence) { e.Begin(at(0)); e.Failed(e.Begin(at(250)), false) }, 300, true},
		{"one was refused", func(e *Evidence) { e.Failed(e.Begin(at(0)), true) }, 1, true},
		{"… and the next succeeds", func(e *Evidence) {
			e.Failed(e.Begin(at(0)), true)
			e.Succeeded(e.Begin(at(250)), at(310))
		}, 320, false},
		{"… and one that began before it succeeds", func(e *Evidence) {
			before := e.Begin(at(0))
			e.Failed(e.Begin(at(250)), true)
			e.Succeeded(before, at(320))
		}, 330, true},
		{"two are overdue, and the first comes after all", func(e *Evidence) {
			first := e.Begin(at(0))
			e.Begin(at(250))
			e.Succeeded(first, at(600))
		}, 700, false},
		{"the second comes after all: what was before it does not count", func(e *Evidence) {
			e.Begin(at(0))
			e.Succeeded(e.Begin(at(250)), at(600))
		}, 10_000, false},
		{"Envoy has given it up", func(e *Evidence) { e.GivenUp(at(0)) }, 1, true},
		{"… and a handshake that began before succeeds", func(e *Evidence) {
			n := e.Begin(at(0))
			e.GivenUp(at(10))
			e.Succeeded(n, at(60))
		}, 70, true},
		{"… and one that began after succeeds", func(e *Evidence) {
			e.GivenUp(at(10))
			e.Succeeded(e.Begin(at(20)), at(80))
		}, 90, false},
		{"this process was stopped meanwhile", func(e *Evidence) {
			e.Begin(at(0))
			e.Begin(at(250))
			e.Paused(at(5000))
		}, 5200, false},
		{"… and nothing comes afterwards either", func(e *Evidence) {
			e.Begin(at(0))
			e.Begin(at(250))
			e.Paused(at(5000))
		}, 5300, true},
	} {
		e := quick()
		c.play(e)
		if got := e.Suspects(at(c.at)); got != c.want {
			t.Errorf("%s: suspected at %d ms: %v, want %v", c.why, c.at, got, c.want)
		}
	}
}

// TestNoticedWithinASecond is the promise: whatever moment a peer is lost at, and
// however it is lost, handshakes each quarter of a second tell within a second.
func TestNoticedWithinASecond(t *testing.T) {
	const each = 250
	for lost := range each {
		e := quick()
		for ms := -each; ; ms++ {
			if ms%each == 0 {
				n := e.Begin(at(ms))
				if ms < lost {
					e.Succeeded(n, at(ms+60))
				}
			}
			if e.Suspects(at(ms)) {
				if ms-lost > 1000 {
					t.Fatalf("a peer lost %d ms after a handshake is suspected after %d ms", lost, ms-lost)
				}
				break
			}
		}
	}
}

func TestPatienceIsLearned(t *testing.T) {
	e := &Evidence{}
	if got := e.Patience(); got != mostPatience {
		t.Errorf("before anything is measured: %v, want %v", got, mostPatience)
	}
	if got := quick().Patience(); got != leastPatience {
		t.Errorf("of a peer that answers within 60 ms: %v, want %v", got, leastPatience)
	}
	// A machine becomes busy: what is late is waited for, and soon it is not late.
	e = quick()
	late := 0
	for i := range 40 {
		n := e.Begin(at(250 * i))
		if took := time.Duration(350+i%3*50) * time.Millisecond; took >= e.Patience() {
			late++
			e.Succeeded(n, at(250*i).Add(took))
		} else {
			e.Succeeded(n, at(250*i).Add(took))
		}
	}
	if late > 3 {
		t.Errorf("%d of 40 handshakes of a slow peer counted as late; its pace is not learned", late)
	}
}

// TestEvidenceIsFair: whatever happens, a peer whose latest handshake succeeded in
// time is not suspected, the memory is bounded, and Next names each change.
func TestEvidenceIsFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := &Evidence{}
		now := start
		var open []uint64
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			suspected, next := e.Suspects(now), e.Next(now)
			passed := time.Duration(rapid.IntRange(0, 400).Draw(t, "ms")) * time.Millisecond
			if until := now.Add(passed - 1); (next.IsZero() || until.Before(next)) && e.Suspects(until) != suspected {
				t.Fatalf("it changed before Next, which was %v", next.Sub(now))
			}
			now = now.Add(passed)
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				open = append(open, e.Begin(now))
			case 1:
				if len(open) > 0 {
					e.Failed(open[0], rapid.Bool().Draw(t, "refused"))
					open = open[1:]
				}
			case 2:
				e.GivenUp(now)
			case 3:
				e.Paused(now)
			case 4:
				n := e.Begin(now)
				e.Succeeded(n, now.Add(time.Millisecond))
				if e.Suspects(now.Add(time.Millisecond)) {
					t.Fatal("suspected right after a handshake that began after all else succeeded")
				}
			}
			if len(e.since) > maxHandshakes {
				t.Fatalf("%d handshakes are remembered", len(e.since))
			}
		}
	})
}
