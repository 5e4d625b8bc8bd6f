package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/loadtest/trace"
	"github.com/polder/polder/prewarm"
)

// Recorded is one service's calls, minute by minute, and what it is kept at now.
type Recorded struct {
	From      time.Time // of the first minute
	Counts    []uint32
	Scale     polder.Scale
	Prices    prewarm.Prices
	Footprint prewarm.Footprint
	Try       *polder.Scale // another scale to score; nil for none
}

// Advice is what policies would have made of the calls.
type Advice struct {
	Minutes int            `json:"minutes"` // that are counted
	Warmup  int            `json:"warm_up"` // minutes before them, which only teach
	Active  uint32         `json:"active_minutes"`
	Calls   uint64         `json:"calls"`
	Choices []AdviceChoice `json:"choices"` // by cost
}

// AdviceChoice is one policy. Costs are of one instance's warm minutes.
type AdviceChoice struct {
	Policy   string        `json:"policy"`
	Scale    polder.Scale  `json:"scale"`     // what to write
	Cold     float64       `json:"cold"`      // share of active minutes that began without an instance
	PerMonth float64       `json:"per_month"` // cold minutes, in 30 days like these
	Warm     float64       `json:"warm"`      // share of minutes with an instance
	Loads    float64       `json:"loads"`     // starts, in 30 days
	Cost     prewarm.Nanos `json:"cost"`      // of 30 days, in billionths of the currency; 0 without prices
	Present  bool          `json:"present"`   // the service is kept so now
	Tried    bool          `json:"tried"`     // it was asked for
	Best     bool          `json:"best"`      // no other choice is both cheaper and less often cold
}

const (
	// leastRecorded is the shortest record that advice is given on, in minutes.
	leastRecorded = 60
	// monthMinutes are those of 30 days.
	monthMinutes = 30 * 24 * 60
)

// ErrTooShort says that there is too little to advise on.
var ErrTooShort = errors.New("the record is too short for advice")

// Advise replays a service's calls through the production code and fixed
// keep-alives. A quarter of the record, at most a day, only teaches.
func Advise(r Recorded) (Advice, error) {
	if len(r.Counts) < leastRecorded {
		return Advice{}, fmt.Errorf("%w yet: it needs %d minutes of calls on record, and has %d", ErrTooShort, leastRecorded, len(r.Counts))
	}
	pad := r.From.UTC().Minute() // so that minutes of the hour are what they were
	counts := append(make([]uint32, pad), r.Counts...)
	warmup := min(len(r.Counts)/4, 24*60)
	o := DefaultOptions()
	o.From, o.To = pad+warmup, len(counts)
	f := r.choices()
	result := simulateOne(o, []family{f.family}, trace.Function{Name: "recorded", Counts: counts})
	a := Advice{Minutes: o.To - o.From, Warmup: warmup}
	minute := r.Prices.Warm(r.Footprint, time.Minute)
	for i, t := range result.tallies[0] {
		c := f.list[i]
		a.Active, a.Calls = t.active, t.calls
		perMonth := monthMinutes / float64(a.Minutes)
		warm := float64(t.idle + t.active)
		c.Cold = ratio(float64(t.cold), float64(t.active))
		c.PerMonth, c.Loads = float64(t.cold)*perMonth, float64(t.loads)*perMonth
		c.Warm, c.Cost = warm/float64(a.Minutes), prewarm.Nanos(warm*perMonth*float64(minute))
		a.Choices = append(a.Choices, c)
	}
	a.rank()
	return a, nil
}

// rank sorts by what is paid, and marks what nothing beats.
func (a *Advice) rank() {
	slices.SortStableFunc(a.Choices, func(x, y AdviceChoice) int {
		return cmp.Or(cmp.Compare(x.Warm, y.Warm), cmp.Compare(x.Cold, y.Cold))
	})
	least := 2.0
	for i := range a.Choices {
		if c := &a.Choices[i]; c.Cold < least {
			least, c.Best = c.Cold, true
		}
	}
}

// Present is the choice that the service is kept by.
func (a Advice) Present() AdviceChoice {
	i := slices.IndexFunc(a.Choices, func(c AdviceChoice) bool { return c.Present })
	return a.Choices[i]
}

// More is the best choice for at most so much more a month than the present one,
// and false if none is less often cold.
func (a Advice) More(budget prewarm.Nanos) (AdviceChoice, bool) {
	now := a.Present()
	best, found := now, false
	for _, c := range a.Choices {
		if c.Best && c.Cost <= now.Cost+budget && c.Cold < best.Cold {
			best, found = c, true
		}
	}
	return best, found
}

type choices struct {
	family family
	list   []AdviceChoice
}

// choices are the present scale, the one to try, the predictor at several
// balances and fixed keep-alives.
func (r Recorded) choices() choices {
	var c choices
	var settings []string
	var scales []polder.Scale
	var terms []prewarm.Terms
	minute := r.Prices.Warm(r.Footprint, time.Minute)
	add := func(choice AdviceChoice, t prewarm.Terms) {
		choice.Scale.Schedule = nil // what the owner knows beforehand is no policy
		c.list = append(c.list, choice)
		settings = append(settings, choice.Policy)
		scales = append(scales, choice.Scale)
		terms = append(terms, t)
	}
	own := func(s polder.Scale) prewarm.Terms {
		t := prewarm.Terms{Prices: r.Prices, Footprint: r.Footprint}
		t.Prices.ColdStart = prewarm.Nanos(s.ColdStart)
		return t
	}
	add(AdviceChoice{Policy: "as it is now", Scale: r.Scale, Present: true}, own(r.Scale))
	if r.Try != nil {
		add(AdviceChoice{Policy: "as asked", Scale: *r.Try, Tried: true}, own(*r.Try))
	}
	plain := r.Scale
	plain.Min = 0
	for _, threshold := range []float64{.3, .15, .08, .045, .02, .01, .005, .002} {
		s := plain
		s.KeepAlive, s.Prewarm = polder.AutoKeepAlive, polder.PrewarmAuto
		t := priced(threshold)
		if minute > 0 {
			s.ColdStart = polder.Rate(float64(minute) / threshold)
			t = own(s)
		}
		add(AdviceChoice{Policy: fmt.Sprintf("auto, above a chance of %g %%", 100*threshold), Scale: s}, t)
	}
	for _, minutes := range []int{1, 5, 10, 20, 60, 240} {
		s := plain
		s.KeepAlive, s.Prewarm, s.ColdStart = time.Duration(minutes)*time.Minute, polder.PrewarmOff, 0
		add(AdviceChoice{Policy: fmt.Sprintf("keep-alive %d min", minutes), Scale: s}, prewarm.Terms{})
	}
	always := plain
	always.Min = 1
	add(AdviceChoice{Policy: "always warm", Scale: always}, prewarm.Terms{})
	c.family = production("advice", settings, scales, terms)
	return c
}
