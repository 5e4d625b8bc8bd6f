package budget

import (
	"time"

	"github.com/polder/polder/prewarm"
)

// The ladder: shares of a budget that are committed (spent or reserved) from
// which on a rung holds.
const (
	sharePrewarm  = 0.80
	shareShort    = 0.90
	shareFewer    = 0.97
	shareForecast = 0.50 // from here on a forecast above the budget means RungPrewarm
)

// heldWithin is how close the next month must be for requests to wait for it:
// the default timeout of a request. Further away they are refused at once.
const heldWithin = time.Minute

// rung is the account's step of the ladder; start is what has to be
// set aside for a start of the service. The rung never falls while more is committed.
func (a *account) rung(now time.Time, start prewarm.Nanos) prewarm.Rung {
	if a.limit == nil {
		return prewarm.RungFree
	}
	limit, committed := *a.limit, add(a.spent, a.reserved)
	if add(a.spent, start) > limit || a.spent >= limit {
		if MonthEnd(now).Sub(now) <= heldWithin {
			return prewarm.RungHeld
		}
		return prewarm.RungRefused
	}
	if add(committed, start) > limit {
		return prewarm.RungHeld // an instance that ends may give some back
	}
	share := float64(committed) / float64(limit)
	switch {
	case share >= shareFewer:
		return prewarm.RungFewer
	case share >= shareShort:
		return prewarm.RungShort
	case share >= sharePrewarm:
		return prewarm.RungPrewarm
	case share >= shareForecast:
		if f := a.forecast(now); f.Known && f.Likely > limit {
			return prewarm.RungPrewarm
		}
	}
	return prewarm.RungFree
}
