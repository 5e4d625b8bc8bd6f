package policy

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
)

// hourly is called once an hour for six days, at an odd minute.
func hourly() Recorded {
	r := Recorded{
		From: time.Date(2026, 3, 10, 9, 37, 0, 0, time.UTC), Counts: make([]uint32, 6*1440),
		Scale:  polder.Scale{Max: 5, Concurrency: 80, KeepAlive: 10 * time.Minute, Prewarm: polder.PrewarmOff},
		Prices: prewarm.Prices{Currency: "EUR", GiBSecond: 1000}, Footprint: prewarm.Footprint{Memory: polder.GiB},
	}
	for m := 0; m < len(r.Counts); m += 60 {
		r.Counts[m] = 2
	}
	return r
}

// TestAdvise: a service that is called every hour is always cold with a
// keep-alive of ten minutes, and hardly ever with a forecast that costs less.
func TestAdvise(t *testing.T) {
	r := hourly()
	try := r.Scale
	try.KeepAlive = time.Hour
	r.Try = &try
	a, err := Advise(r)
	if err != nil {
		t.Fatal(err)
	}
	now := a.Present()
	// Each call brings the minute of the call and ten idle ones: 11 of 60.
	if now.Cold != 1 || math.Abs(now.Warm-11./60) > 0.01 || now.Best {
		t.Errorf("as it is now: %+v", now)
	}
	if want := prewarm.Nanos(now.Warm * monthMinutes * 60_000); math.Abs(float64(now.Cost-want)) > 1e3 || math.Abs(now.PerMonth-720) > 8 {
		t.Errorf("a month: %d and %g cold minutes, want %d and 720", now.Cost, now.PerMonth, want)
	}
	more, found := a.More(0)
	if !found || more.Cold > 0.02 || more.Cost >= now.Cost || more.Scale.KeepAlive != polder.AutoKeepAlive || more.Scale.ColdStart == 0 {
		t.Errorf("for no more money: %+v, %v; want the forecast", more, found)
	}
	for _, c := range a.Choices {
		if c.Tried && (c.Cold != 0 || c.Warm < 0.98) {
			t.Errorf("as asked, an hour: %+v", c)
		}
		if c.Best && c.Cold > now.Cold {
			t.Errorf("%+v is called best", c)
		}
	}
}

func TestAdviseNeedsARecord(t *testing.T) {
	r := hourly()
	r.Counts = r.Counts[:59]
	if _, err := Advise(r); !errors.Is(err, ErrTooShort) {
		t.Errorf("got %v, want that it is too short", err)
	}
	r = hourly()
	r.Prices = prewarm.Prices{}
	a, err := Advise(r)
	if err != nil || a.Present().Cost != 0 || a.Choices[0].Warm > a.Choices[len(a.Choices)-1].Warm {
		t.Errorf("without prices: %v, %+v", err, a.Present())
	}
}
