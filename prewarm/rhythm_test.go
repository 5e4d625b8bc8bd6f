package prewarm

import (
	"math"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

// play closes one slot for each count and returns the rhythm.
func play(counts ...uint32) *rhythm {
	r := &rhythm{minute: 1}
	var v vector
	for _, c := range counts {
		r.open = c
		r.close(&v)
	}
	return r
}

func TestRhythmGaps(t *testing.T) {
	r := play(0, 0, 1, 0, 0, 2, 3, 0, 1, 0)
	if r.seen != 10 || r.active != 4 || r.idle != 1 {
		t.Errorf("got %d slots, %d active, idle for %d; want 10, 4, 1", r.seen, r.active, r.idle)
	}
	if got := r.gaps[:r.gapN]; len(got) != 3 || got[0] != 3 || got[1] != 1 || got[2] != 2 {
		t.Errorf("gaps: got %v, want 3 1 2", got)
	}
	if r.life[0] != 1 || r.life[1] != 1 || r.life[2] != 1 {
		t.Errorf("gaps of a life: got %v", r.life)
	}
	if r.run != 1 || r.lastRun != 2 {
		t.Errorf("runs: got %d after %d, want 1 after 2", r.run, r.lastRun)
	}
}

// TestSkipIsManyIdleSlots: skipping is closing idle slots, learning aside.
func TestSkipIsManyIdleSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := rapid.SliceOfN(rapid.Uint32Range(0, 2), 1, 200).Draw(t, "counts")
		n := rapid.IntRange(1, 300).Draw(t, "n")
		a, b := play(counts...), play(counts...)
		var v vector
		for range n {
			a.close(&v)
		}
		b.skip(int64(n), true, &v)
		if a.minute != b.minute || a.seen != b.seen || a.idle != b.idle || a.past != b.past || a.gaps != b.gaps {
			t.Fatalf("after %d idle slots: %+v and %+v", n, a, b)
		}
		for i := range decays {
			if math.Abs(float64(a.meanActive[i]-b.meanActive[i])) > 1e-4 {
				t.Fatalf("mean %d: %g and %g", i, a.meanActive[i], b.meanActive[i])
			}
		}
	})
}

func TestLifeIsHalvedNotOverflown(t *testing.T) {
	r := &rhythm{}
	for range math.MaxUint16 + 10 {
		r.record(5)
	}
	if r.life[4] == 0 || r.life[4] < math.MaxUint16/2 {
		t.Errorf("gaps of 5: got %d", r.life[4])
	}
}

// TestFeaturesAreFinite on services of every kind, and as many as the vector holds.
func TestFeaturesAreFinite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &rhythm{minute: rapid.Int64Range(1, 1e9).Draw(t, "minute")}
		var v vector
		for range rapid.IntRange(1, 5).Draw(t, "pieces") {
			period := rapid.IntRange(1, 40).Draw(t, "period")
			calls := rapid.Uint32().Draw(t, "calls")
			for i := range rapid.IntRange(1, 300).Draw(t, "slots") {
				if i%period == 0 {
					r.open = calls
				}
				r.close(&v)
			}
			if rapid.Bool().Draw(t, "silence") {
				r.skip(rapid.Int64Range(1, 1e12).Draw(t, "n"), rapid.Bool().Draw(t, "observed"), &v)
			}
		}
		for i, x := range v.x[:v.n] {
			if !finite(x) {
				t.Fatalf("feature %d (%s) is %g", i, FeatureNames()[i], x)
			}
		}
	})
	if n := len(FeatureNames()); n > maxVector {
		t.Errorf("%d features are too many", n)
	}
}

func TestStateIsBounded(t *testing.T) {
	if size := unsafe.Sizeof(State{}); size > StateBytes {
		t.Errorf("a State takes %d bytes, promised are %d", size, StateBytes)
	} else {
		t.Logf("a State takes %d bytes", size)
	}
}

// observe steps a state through minutes of calls.
func observe(s *State, from time.Time, counts []int) time.Time {
	for _, c := range counts {
		s.Observe(Observation{Now: from, Arrivals: c})
		from = from.Add(time.Minute)
	}
	s.Observe(Observation{Now: from})
	return from
}

// every has a call in each period-th of n minutes.
func every(period, n int) []int {
	counts := make([]int, n)
	for i := 0; i < n; i += period {
		counts[i] = 1
	}
	return counts
}

func TestForecastLearnsASchedule(t *testing.T) {
	for _, period := range []int{5, 15, 30, 60} {
		var s State
		now := observe(&s, noon, every(period, 12*60)) // a call is due now
		due := s.Forecast()
		observe(&s, now, []int{1})
		after := s.Forecast()
		if !due.Known || due.Now < 0.5 {
			t.Errorf("every %d minutes, when due: %+v, want a chance above 50 %%", period, due)
		}
		if after.Now > 0.1 {
			t.Errorf("every %d minutes, just after: %+v, want a chance below 10 %%", period, after)
		}
	}
}

func TestForecastNextKnowsTheOpenMinute(t *testing.T) {
	var s State
	now := observe(&s, noon, every(10, 600))
	observe(&s, now, []int{1, 0, 0, 0, 0, 0, 0, 0, 0}) // the ninth minute after is open
	f := s.Forecast()
	if f.Now > 0.2 || f.Next < 0.5 {
		t.Errorf("a minute before a call is due: %+v, want a low chance now and a high one next", f)
	}
	before := s
	s.Forecast()
	if s != before {
		t.Error("asking for a forecast changes the state")
	}
}

func TestForecastSaysWhenItDoesNotKnow(t *testing.T) {
	var s State
	if f := s.Forecast(); f != (Forecast{}) {
		t.Errorf("nothing observed: %+v", f)
	}
	now := observe(&s, noon, every(5, 50))
	if f := s.Forecast(); f.Known {
		t.Errorf("50 minutes: %+v, want not known", f)
	}
	observe(&s, now, every(5, 20))
	if f := s.Forecast(); !f.Known {
		t.Errorf("70 minutes with 14 calls: %+v, want known", f)
	}
	var quiet State
	observe(&quiet, noon, append([]int{1}, make([]int, 500)...))
	if f := quiet.Forecast(); f.Known {
		t.Errorf("one call ever: %+v, want not known", f)
	}
}

func TestResumeForgetsTheGapNobodySaw(t *testing.T) {
	var s State
	now := observe(&s, noon, every(10, 300))
	gaps := s.rhythm.gapN
	s.Resume(now.Add(5 * time.Hour))
	observe(&s, now.Add(5*time.Hour), []int{1, 0, 0, 1})
	if got := s.rhythm.gapN - gaps; got != 1 || s.rhythm.gaps[(s.rhythm.gapN-1)%gapRing] != 3 {
		t.Errorf("got %d new gaps, the last of %d; want only the one of 3 minutes", got, s.rhythm.gaps[(s.rhythm.gapN-1)%gapRing])
	}
}

// TestResumeAfterTheClockWasSetBack: a state that was saved an hour from now goes on
// from now, with what it learned: no slot waits for an hour, and no gap is made up.
func TestResumeAfterTheClockWasSetBack(t *testing.T) {
	for _, back := range []time.Duration{time.Second, time.Hour, 40 * 24 * time.Hour, 100 * 365 * 24 * time.Hour} {
		var s State
		ahead := observe(&s, noon.Add(back), every(10, 300))
		now, calls, gaps, active := ahead.Add(-back), s.calls, s.rhythm.gapN, s.rhythm.active
		s.Resume(now)
		if err := s.sound(); err != nil {
			t.Errorf("%v back: %v", back, err)
		}
		if last := s.window.last; last != now.UnixNano() {
			t.Errorf("%v back: the state's time is %v, want %v", back, time.Unix(0, last).UTC(), now)
		}
		slots := s.rhythm.minute
		observe(&s, now, []int{1, 0, 0, 1, 0})
		if got := s.rhythm.minute - slots; got < 4 {
			t.Errorf("%v back: %d slots in five minutes", back, got)
		}
		if s.calls != calls+2 || s.rhythm.active <= active || s.rhythm.gapN != gaps+1 {
			t.Errorf("%v back: %d calls, %d active slots, %d gaps; they were %d, %d, %d", back, s.calls, s.rhythm.active, s.rhythm.gapN, calls, active, gaps)
		}
	}
	var fresh State
	fresh.Resume(noon)
}

func BenchmarkDecide(b *testing.B) {
	var s State
	now := observe(&s, noon, every(3, 1440))
	obs := Observation{Now: now}
	s.Observe(obs)
	b.ReportAllocs()
	for b.Loop() {
		Decide(s.Inputs(scale(-1), obs, Terms{}))
	}
}

// TestOfHourFollowsFromThePast: what is counted slot by slot is what the past holds.
func TestOfHourFollowsFromThePast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &rhythm{minute: rapid.Int64Range(1, 5000).Draw(t, "minute")}
		var v vector
		for range rapid.IntRange(1, 4).Draw(t, "pieces") {
			period := rapid.IntRange(1, 90).Draw(t, "period")
			for i := range rapid.IntRange(1, 2000).Draw(t, "slots") {
				r.open = uint32(truth(i%period == 0))
				r.close(&v)
			}
			if rapid.Bool().Draw(t, "silence") {
				r.skip(rapid.Int64Range(1, 3000).Draw(t, "n"), true, &v)
			}
		}
		counted := r.ofHour
		if r.recount(); r.ofHour != counted {
			t.Fatalf("counted %v, the past holds %v", counted, r.ofHour)
		}
	})
}
