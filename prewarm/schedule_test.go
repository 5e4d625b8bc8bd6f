package prewarm

import (
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
)

func office(t *testing.T, least int) polder.Schedule {
	t.Helper()
	s, err := polder.NewSchedule("0 8 * * 1-5", "Europe/Paris", time.Hour, least)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSchedule follows a service over the Monday on which summer time has begun,
// when eight o'clock in Paris is six in UTC.
func TestSchedule(t *testing.T) {
	monday := time.Date(2026, 3, 30, 0, 0, 0, 0, time.UTC)
	service := polder.Service{Scale: polder.Scale{Max: 5, Concurrency: 80, KeepAlive: time.Minute, Prewarm: polder.PrewarmOff,
		Schedule: []polder.Schedule{office(t, 2)}}}
	var s State
	for _, tt := range []struct {
		at      string
		desired int
		until   string // a decision is due then at the latest; "" for a minute later
	}{
		{"05:58:30", 0, ""},
		{"05:59:10", 0, "05:59:59.4"}, // the assumed start-up and its margin ahead
		{"05:59:59.4", 2, ""},
		{"06:59:30", 2, "07:00:00"},
		{"07:00:00", 0, ""},
	} {
		at, err := time.Parse("15:04:05", tt.at)
		if err != nil {
			t.Fatal(err)
		}
		now := monday.Add(at.Sub(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)))
		d := Step(&s, service, Observation{Now: now}, Terms{})
		want := now.Add(time.Minute)
		if tt.until != "" {
			end, err := time.Parse("15:04:05", tt.until)
			if err != nil {
				t.Fatal(err)
			}
			want = monday.Add(end.Sub(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)))
		}
		if d.Desired != tt.desired || !d.Until.Equal(want) {
			t.Errorf("at %s: got %d until %s, want %d until %s; it says: %s", tt.at, d.Desired, d.Until.UTC(), tt.desired, want, d.Reason())
		}
		if d.Desired > 0 && (d.Rule != RuleSchedule || !strings.Contains(d.Reason(), "0 8 * * 1-5 Europe/Paris")) {
			t.Errorf("at %s it says: %s", tt.at, d.Reason())
		}
	}
}

func TestSchedulesYieldToBoundsAndBudget(t *testing.T) {
	in := Inputs{Now: noon, Scale: polder.Scale{Min: 1, Max: 2, Concurrency: 80}, Scheduled: Scheduled{Min: 4, Name: "x", Until: noon.Add(time.Hour), Next: noon.Add(time.Hour)}}
	if d := Decide(in); d.Desired != 2 || d.Rule != RuleSchedule {
		t.Errorf("got %d by %q, want scale.max by the schedule", d.Desired, d.Rule)
	}
	in.Terms.Rung = RungHeld
	if d := Decide(in); d.Desired != 0 || d.Rule != RuleBudget {
		t.Errorf("without money: got %d by %q", d.Desired, d.Rule)
	}
}
