package loadtest

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// tenth is 10^-x.
func tenth(x float64) float64 { return math.Pow(10, -x) }

// Summary counts what became of a target's arrivals, or of all targets'.
type Summary struct {
	Name string `json:"name"`

	Scheduled   uint64 `json:"scheduled"`   // arrivals whose time came
	Sent        uint64 `json:"sent"`        // left
	Answered    uint64 `json:"answered"`    // got a whole answer, of any status
	Failed      uint64 `json:"failed"`      // sent, and got none
	Interrupted uint64 `json:"interrupted"` // sent, and cut off when the run was stopped
	Dropped     uint64 `json:"dropped"`     // not sent: in progress and backlog were full
	Abandoned   uint64 `json:"abandoned"`   // not sent: waited when the run was stopped
	Late        uint64 `json:"late"`        // left more than LateAfter after the intended time
	Errors      uint64 `json:"errors"`      // failed, or answered with a status of 400 or more
	ColdStarts  uint64 `json:"cold_starts"` // answers that named themselves cold
	Connections uint64 `json:"connections"` // requests for which one was opened
	Retries     uint64 `json:"retries"`     // sent again after a kept connection had closed
	Bytes       uint64 `json:"bytes"`       // of answers' bodies

	Status    map[string]uint64 `json:"status"`    // answers by class: "2xx"
	Protocols map[string]uint64 `json:"protocols"` // answers by version: "HTTP/2.0"
	Reasons   []Reason          `json:"reasons"`   // of failures, most frequent first

	Latency Quantiles `json:"latency"` // of all answers, from the intended time
	Warm    Quantiles `json:"warm"`    // of those that were no cold start
	Cold    Quantiles `json:"cold"`    // of those that were
	Failure Quantiles `json:"failure"` // how long callers waited for failures
	Lag     Quantiles `json:"lag"`     // sent after intended: the load generator's own part
}

// Quantiles sum times up, in microseconds. All are 0 when Count is.
type Quantiles struct {
	Count uint64  `json:"count"`
	Min   int64   `json:"min_us"`
	Mean  float64 `json:"mean_us"`
	P50   int64   `json:"p50_us"`
	P90   int64   `json:"p90_us"`
	P99   int64   `json:"p99_us"`
	P999  int64   `json:"p999_us"`
	Max   int64   `json:"max_us"`
}

// quantile is one figure of Quantiles.
type quantile struct {
	name string
	us   int64
}

// figures lists the quantiles that a number of times supports: a p99 of ten
// times is only another word for their maximum.
func (q Quantiles) figures(count uint64) []quantile {
	all := []quantile{{"p50", q.P50}, {"p90", q.P90}, {"p99", q.P99}, {"p99.9", q.P999}, {"max", q.Max}}
	for i, least := range []uint64{1, 10, 100, 1000} {
		if count < least {
			return append(all[:i:i], all[len(all)-1])
		}
	}
	return all
}

// Reason is an error text and how often it came.
type Reason struct {
	Text  string `json:"text"`
	Count uint64 `json:"count"`
}

// MaxReasons bounds the distinct error texts of one Summary. What comes after
// them is counted under OtherReasons.
const (
	MaxReasons   = 32
	OtherReasons = "other reasons"
)

// tally is a Summary in the making.
type tally struct {
	sum                            Summary
	reasons                        map[string]uint64
	latency, warm, cold, fail, lag *histogram
}

func newTally(name string) *tally {
	return &tally{
		sum:     Summary{Name: name, Status: map[string]uint64{}, Protocols: map[string]uint64{}},
		reasons: map[string]uint64{},
		latency: newHistogram(3), warm: newHistogram(3), cold: newHistogram(3), fail: newHistogram(3), lag: newHistogram(3),
	}
}

// add counts one result in.
func (t *tally) add(r Result) {
	s := &t.sum
	s.Scheduled++
	if r.Outcome.Sent() {
		s.Sent++
		t.lag.add(r.Lag())
		if r.Lag() > LateAfter {
			s.Late++
		}
		if r.Fresh {
			s.Connections++
		}
		s.Retries += uint64(r.Retries)
	}
	if r.Unsuccessful() {
		s.Errors++
	}
	switch r.Outcome {
	case Answered:
		t.answered(r)
	case Failed:
		s.Failed++
		t.fail.add(r.Latency())
		t.reason(r.Error)
	case Interrupted:
		s.Interrupted++
	case Dropped:
		s.Dropped++
	case Abandoned:
		s.Abandoned++
	}
}

func (t *tally) answered(r Result) {
	t.sum.Answered++
	t.sum.Bytes += uint64(r.Bytes)
	t.sum.Status[class(r.Status)]++
	t.sum.Protocols[r.Protocol]++
	t.latency.add(r.Latency())
	if r.Cold {
		t.sum.ColdStarts++
		t.cold.add(r.Latency())
	} else {
		t.warm.add(r.Latency())
	}
}

// class names the class of a status.
func class(status int) string {
	if status < 100 || status > 599 {
		return "other"
	}
	return string(rune('0'+status/100)) + "xx"
}

func (t *tally) reason(text string) {
	if _, known := t.reasons[text]; !known && len(t.reasons) >= MaxReasons {
		text = OtherReasons
	}
	t.reasons[text]++
}

// summary derives the quantiles. The tally can go on afterwards.
func (t *tally) summary() Summary {
	s := t.sum
	s.Status, s.Protocols = maps.Clone(s.Status), maps.Clone(s.Protocols)
	s.Reasons = []Reason{}
	for text, count := range t.reasons {
		s.Reasons = append(s.Reasons, Reason{text, count})
	}
	slices.SortFunc(s.Reasons, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Text, b.Text))
	})
	s.Latency, s.Warm, s.Cold = t.latency.quantiles(), t.warm.quantiles(), t.cold.quantiles()
	s.Failure, s.Lag = t.fail.quantiles(), t.lag.quantiles()
	return s
}
