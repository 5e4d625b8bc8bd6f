package polder

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Schedule keeps instances warm at times that the owner knows beforehand.
type Schedule struct {
	Cron string        // when it begins: minute, hour, day of the month, month, day of the week
	Zone string        // IANA name of the time zone of Cron, such as Europe/Paris
	For  time.Duration // how long it lasts, in (0, MaxScheduled]
	Min  int           // instances meanwhile, in each allowed region; at least 1

	begins cron.Schedule
}

// MaxScheduled is the longest that one turn of a Schedule may last.
const MaxScheduled = 7 * 24 * time.Hour

// NewSchedule reads a cron expression and a time zone. An error names the one
// that cannot be read.
func NewSchedule(expression, zone string, d time.Duration, least int) (Schedule, error) {
	s := Schedule{Cron: expression, Zone: zone, For: d, Min: least}
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "" || zone == "Local" {
		return s, &zoneError{zone}
	}
	if strings.ContainsAny(expression, "@=") { // nicknames, and zones in the parser's own way
		return s, fmt.Errorf("%s is not a schedule", quote(expression))
	}
	parsed, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(expression)
	spec, ok := parsed.(*cron.SpecSchedule)
	if err != nil || !ok {
		return s, fmt.Errorf("%s is not a schedule", quote(expression))
	}
	spec.Location = location
	s.begins = spec
	return s, nil
}

type zoneError struct{ zone string }

func (e *zoneError) Error() string { return quote(e.zone) + " is not a time zone" }

// At tells until when the schedule holds at an instant, zero if it does not,
// and when it begins next, zero if that is never or more than five years away.
// A Schedule that NewSchedule did not make never holds.
func (s Schedule) At(now time.Time) (until, next time.Time) {
	if s.begins == nil {
		return time.Time{}, time.Time{}
	}
	if began := s.begins.Next(now.Add(-s.For)); !began.IsZero() && !began.After(now) {
		until = began.Add(s.For)
	}
	return until, s.begins.Next(now)
}

// String names the schedule for people: "0 8 * * 1-5 Europe/Paris".
func (s Schedule) String() string { return s.Cron + " " + s.Zone }
