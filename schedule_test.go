package polder

import (
	"testing"
	"time"
)

func FuzzNewSchedule(f *testing.F) {
	for _, s := range []string{"0 8 * * 1-5", "*/5 * * * *", "TZ=0", "@every 1s", "0 0 30 2 *", "1,2 3-4 * JAN *", "", " "} {
		f.Add(s, "Europe/Paris")
	}
	f.Fuzz(func(t *testing.T, expression, zone string) {
		s, err := NewSchedule(expression, zone, time.Hour, 1)
		if err != nil {
			return
		}
		now := time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)
		until, next := s.At(now)
		if !until.IsZero() && (!until.After(now) || until.Sub(now) > time.Hour) || !next.IsZero() && !next.After(now) {
			t.Errorf("%q in %q at %s: until %s, next %s", expression, zone, now, until, next)
		}
	})
}

func TestScheduleKnowsSummerTime(t *testing.T) {
	s, err := NewSchedule("30 8 * * *", "Europe/Warsaw", 90*time.Minute, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ now, until, next string }{
		{"2026-03-28T07:29:59Z", "", "2026-03-28T07:30:00Z"},
		{"2026-03-28T07:30:00Z", "2026-03-28T09:00:00Z", "2026-03-29T06:30:00Z"}, // the night of the change
		{"2026-03-29T07:59:59Z", "2026-03-29T08:00:00Z", "2026-03-30T06:30:00Z"},
	} {
		now, err := time.Parse(time.RFC3339, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		until, next := s.At(now)
		text := func(at time.Time) string {
			if at.IsZero() {
				return ""
			}
			return at.UTC().Format(time.RFC3339)
		}
		if text(until) != tt.until || text(next) != tt.next {
			t.Errorf("at %s: until %q, next %q; want %q, %q", tt.now, text(until), text(next), tt.until, tt.next)
		}
	}
}
