package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
)

func TestTempo(t *testing.T) {
	real := time.Date(2026, 1, 1, 0, 0, 0, 250_000_000, time.UTC)
	then := time.Date(2019, 7, 15, 12, 0, 0, 0, time.UTC)
	fast := Tempo{Speed: 30, Real: real, Then: then}
	for _, c := range []struct {
		passed, shows time.Duration
	}{
		{0, 0}, {2 * time.Second, time.Minute}, {time.Minute, 30 * time.Minute},
	} {
		if got := fast.at(real.Add(c.passed)); !got.Equal(then.Add(c.shows)) {
			t.Errorf("after %s it shows %s, want %s", c.passed, got, then.Add(c.shows))
		}
		if got := fast.when(then.Add(c.shows)); !got.Equal(real.Add(c.passed)) {
			t.Errorf("it shows %s at %s, want %s", then.Add(c.shows), got, real.Add(c.passed))
		}
	}
	if got := fast.period(time.Second, 50*time.Millisecond); got != 50*time.Millisecond {
		t.Errorf("evidence every %s", got)
	}
	if got := fast.at(real.Add(-time.Hour)); !got.Equal(then) {
		t.Errorf("before it begins it shows %s, want %s", got, then)
	}
	var wall Tempo
	if wall.at(real) != real || wall.when(real) != real || wall.period(time.Second, time.Millisecond) != time.Second || wall.String() != "" {
		t.Error("the zero value is not the wall clock")
	}
	for _, tempo := range []Tempo{wall, fast} {
		if got, err := ParseTempo(tempo.String()); err != nil || got != tempo {
			t.Errorf("%q is read as %+v, %v", tempo, got, err)
		}
	}
	for _, text := range []string{"30", "30@now=then", "0@2026-01-01T00:00:00Z=2019-07-15T12:00:00Z", "121@2026-01-01T00:00:00Z=2019-07-15T12:00:00Z", "NaN@2026-01-01T00:00:00Z=2019-07-15T12:00:00Z"} {
		if _, err := ParseTempo(text); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: error %v", text, err)
		}
	}
}

// TestKeepAliveAtSpeed keeps an instance for ten minutes of the predictor's clock,
// which are ten seconds of the wall's.
func TestKeepAliveAtSpeed(t *testing.T) {
	inWorld(t, []polder.Service{started("billing", 10*time.Minute)}, func(w *world) {
		w.r.do(w.ctx, func(now time.Time) {
			s := w.r.services["billing"]
			s.tempo = Tempo{Speed: 60, Real: now, Then: time.Date(2019, 7, 15, 12, 0, 0, 0, time.UTC)}
			s.state, s.decision = new(prewarm.State), prewarm.Decision{} // they began by the wall clock
		})
		if _, err := w.wake("billing"); err != nil {
			t.Fatal(err)
		}
		after(9 * time.Second)
		if got := w.alive.Load(); got != 1 {
			t.Errorf("%d instances after nine minutes", got)
		}
		after(4 * time.Second)
		if got := w.alive.Load(); got != 0 {
			t.Errorf("%d instances after thirteen minutes", got)
		}
	})
}
