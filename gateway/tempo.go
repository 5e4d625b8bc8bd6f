package gateway

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Tempo is the clock that the predictor lives by, beside the wall clock of
// everything else: it shows Then up to the instant Real, and runs Speed times as
// fast from there on. A replay of a recorded day takes an hour so, with the code that decides
// in production: of its slots, keep-alives, windows, lead times and schedules a
// minute passes in 60/Speed seconds. What a start takes is told to the predictor
// in its own time.
//
// The zero value is the wall clock. In production there is no other.
type Tempo struct {
	Speed float64 // at least 1; 0 for the wall clock
	Then  time.Time
	Real  time.Time
}

// MaxSpeed bounds a Tempo: at this speed a minute is half a second, and a start of
// some milliseconds still ends long before its slot.
const MaxSpeed = 120

// String writes a Tempo as ParseTempo reads it; "" for the wall clock.
func (t Tempo) String() string {
	if t.Speed == 0 {
		return ""
	}
	return fmt.Sprintf("%g@%s=%s", t.Speed, t.Real.UTC().Format(time.RFC3339Nano), t.Then.UTC().Format(time.RFC3339Nano))
}

// ParseTempo reads "SPEED@REAL=THEN", with instants as in RFC 3339; "" is the
// wall clock.
func ParseTempo(text string) (Tempo, error) {
	if text == "" {
		return Tempo{}, nil
	}
	speed, instants, _ := strings.Cut(text, "@")
	at, then, _ := strings.Cut(instants, "=")
	var t Tempo
	var faults [3]error
	t.Speed, faults[0] = strconv.ParseFloat(speed, 64)
	t.Real, faults[1] = time.Parse(time.RFC3339Nano, at)
	t.Then, faults[2] = time.Parse(time.RFC3339Nano, then)
	if err := errors.Join(faults[:]...); err != nil {
		return Tempo{}, fmt.Errorf("the predictor's clock is %q, want SPEED@REAL=THEN, such as 30@2026-01-01T00:00:00Z=2019-07-15T12:00:00Z: %w", text, err)
	}
	if !(t.Speed >= 1 && t.Speed <= MaxSpeed) {
		return Tempo{}, fmt.Errorf("the predictor's clock is %q: its speed is %g, want 1 to %d", text, t.Speed, MaxSpeed)
	}
	return t, nil
}

// at is what the predictor's clock shows at an instant.
func (t Tempo) at(now time.Time) time.Time {
	if t.Speed == 0 {
		return now
	}
	return t.Then.Add(t.stretch(max(0, now.Sub(t.Real))))
}

// when is the instant at which the predictor's clock shows the time.
func (t Tempo) when(then time.Time) time.Time {
	if t.Speed == 0 {
		return then
	}
	return t.Real.Add(t.shrink(then.Sub(t.Then)))
}

// stretch is how far the predictor's clock moves in d. It saturates.
func (t Tempo) stretch(d time.Duration) time.Duration {
	if t.Speed == 0 {
		return d
	}
	return time.Duration(min(max(float64(d)*t.Speed, -math.MaxInt64/2), math.MaxInt64/2))
}

// shrink is how long the predictor's clock takes to move by d.
func (t Tempo) shrink(d time.Duration) time.Duration {
	if t.Speed == 0 {
		return d
	}
	return time.Duration(float64(d) / t.Speed)
}

// period is an interval of the wall clock at which evidence is gathered for the
// predictor, made as short as its clock asks for but no shorter than least.
func (t Tempo) period(usual, least time.Duration) time.Duration {
	return max(t.shrink(usual), min(usual, least))
}
