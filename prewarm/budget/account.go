package budget

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
)

// historyHours is how many past hours an account remembers: a week.
const historyHours = 7 * 24

// pastMonths is how many bills an account keeps.
const pastMonths = 13

// account is the money and the quota of a service or a tenant in one region.
type account struct {
	limit     *prewarm.Nanos // per calendar month; nil means none of its own
	instances int            // quota; 0 means unlimited
	memory    polder.Bytes   // quota; 0 means unlimited

	month    int           // months since year 0, of spent
	spent    prewarm.Nanos // booked this month
	used     Usage         // this month
	past     []Bill        // at most pastMonths, oldest first
	changed  bool          // since it was last saved
	reserved prewarm.Nanos // set aside for running instances
	running  int
	held     polder.Bytes // memory of running instances

	hours [historyHours]prewarm.Nanos // booked in each of the last hours
	hour  int64                       // Unix hour of the newest; 0 before the first
	first int64                       // Unix hour of the first
}

func monthOf(t time.Time) int {
	t = t.UTC()
	return t.Year()*12 + int(t.Month()) - 1
}

// MonthEnd is the first instant of the next month.
func MonthEnd(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC)
}

// turn moves the account to now: a new month, new hours. Time that runs
// backwards changes nothing.
func (a *account) turn(now time.Time) {
	if m := monthOf(now); m > a.month {
		a.closeMonth()
		a.month, a.spent, a.used, a.changed = m, 0, Usage{}, true
	}
	h := now.Unix() / 3600
	if a.hour == 0 {
		a.hour, a.first = h, h
		return
	}
	if h-a.hour >= historyHours {
		a.hours = [historyHours]prewarm.Nanos{}
		a.hour = h
		return
	}
	for a.hour < h {
		a.hour++
		a.hours[a.hour%historyHours] = 0
	}
}

// closeMonth files the bill of the month that ends.
func (a *account) closeMonth() {
	if a.month == 0 {
		return
	}
	bill := Bill{fmt.Sprintf("%04d-%02d", a.month/12, a.month%12+1), a.spent, a.used}
	past := append(slices.Clone(a.past), bill)
	a.past = past[max(0, len(past)-pastMonths):]
}

func (a *account) book(now time.Time, cost prewarm.Nanos) {
	a.turn(now)
	a.changed = true
	a.spent = add(a.spent, cost)
	i := a.hour % historyHours
	a.hours[i] = add(a.hours[i], cost)
}

// left is what may still be set aside; false when there is no limit.
func (a *account) left() (prewarm.Nanos, bool) {
	if a.limit == nil {
		return 0, false
	}
	return *a.limit - min(*a.limit, add(a.spent, a.reserved)), true
}

// add saturates instead of overflowing; both are at least 0.
func add(a, b prewarm.Nanos) prewarm.Nanos {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Forecast is what an account will have spent when the month ends.
type Forecast struct {
	// Known is false when less than a day was seen; the amounts then only
	// repeat what is spent.
	Known bool `json:"known"`
	// Likely goes on at the mean rate of the last week, Low and High at that
	// of its cheapest and its dearest day.
	Low    prewarm.Nanos `json:"low"`
	Likely prewarm.Nanos `json:"likely"`
	High   prewarm.Nanos `json:"high"`
}

// forecast extrapolates full days before the present hour.
func (a *account) forecast(now time.Time) Forecast {
	seen := min(a.hour-a.first, historyHours-1)
	f := Forecast{Low: a.spent, Likely: a.spent, High: a.spent}
	days := seen / 24
	if a.hour == 0 || days < 1 {
		return f
	}
	low, high, sum := math.Inf(1), 0.0, 0.0
	for d := range days {
		day := 0.0
		for h := int64(1); h <= 24; h++ {
			day += float64(a.hours[(a.hour-d*24-h)%historyHours])
		}
		low, high, sum = min(low, day), max(high, day), sum+day
	}
	left := MonthEnd(now).Sub(now).Hours() / 24
	ahead := func(day float64) prewarm.Nanos {
		return add(a.spent, prewarm.Nanos(min(math.Ceil(day*left), math.MaxInt64/2)))
	}
	return Forecast{Known: true, Low: ahead(low), Likely: ahead(sum / float64(days)), High: ahead(high)}
}
