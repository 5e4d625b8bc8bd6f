package prewarm

import (
	"math"
	"time"
)

// StateBytes bounds the memory of one State, in bytes.
const StateBytes = 4096

// State is all that is remembered of one service in one region. The zero
// value is a service that nothing is known of.
type State struct {
	window  window
	startUp startUps
	sizing  sizing

	lastCall  int64 // Unix nanoseconds of the last sign of a caller; 0 before the first
	announced int64 // Unix nanoseconds of an announced arrival; 0 when none
	calls     uint64

	rhythm     rhythm
	now        float32 // the corrected chance for the open slot
	bias       float32 // log-odds by which the model is corrected for this service
	forecasted bool    // whether it was ever asked

	// What the look-ahead of a slot holds is asked when the slot opens, while its
	// vector is at hand, if anybody asked lately. Not saved.
	soon     float32
	soonSlot int64 // that soon is of
	soonUsed int64 // the last slot in which it was asked for
}

// Observation is what happened to a service since the previous one.
type Observation struct {
	// Now is the present instant. One before the previous observation's counts
	// as that one's: time never runs backwards here.
	Now time.Time
	// Arrivals counts requests that reached the edge since the previous
	// observation. Health probes and scrapes are not arrivals.
	Arrivals int
	// InProgress counts requests that instances work on now; open streams too.
	InProgress int
	// Waiting counts requests held now for want of a ready instance.
	Waiting int
	// Busy is the time that requests spent in progress since the previous
	// observation, summed over requests; 0 when it is not measured.
	Busy time.Duration
	// Instances says what exists now.
	Instances Instances
	// StartUps are the measured start-up times (provider asked → endpoint
	// ready) of instances that became ready since the previous observation.
	StartUps []time.Duration
	// Expected is the instant of an announced arrival (ClientHello, DNS query,
	// cron schedule); the zero Time when there is none.
	Expected time.Time
}

// Instances counts the instances of a service in this region.
type Instances struct {
	Ready    int
	Starting int
	Paused   int
}

// Warm counts the instances that are ready or soon will be.
func (i Instances) Warm() int { return i.Ready + i.Starting }

// Observe takes an observation into the state.
func (s *State) Observe(obs Observation) {
	now := s.clock(obs.Now)
	arrivals, inProgress, waiting := max(obs.Arrivals, 0), max(obs.InProgress, 0), max(obs.Waiting, 0)

	var mean float32
	if dt := now - s.window.last; s.window.last != 0 && dt > 0 && obs.Busy > 0 {
		mean = float32(float64(obs.Busy) / float64(dt))
	}
	s.window.advance(now, mean, float32(inProgress+waiting))

	s.turn(now / int64(time.Minute))
	s.rhythm.open += uint32(min(arrivals, math.MaxUint32-int(s.rhythm.open)))
	s.calls += uint64(arrivals)
	if arrivals > 0 || inProgress > 0 || waiting > 0 {
		s.lastCall = now
		s.announced = 0
	}
	for _, d := range obs.StartUps {
		s.startUp.add(d)
	}
	if !obs.Expected.IsZero() {
		if at := unixNano(obs.Expected); s.announced == 0 || s.announced < now || at < s.announced {
			s.announced = at
		}
	}
}

// turn closes minute slots until the given one is open, and forecasts it.
func (s *State) turn(slot int64) {
	r := &s.rhythm
	if r.minute == 0 {
		r.minute = slot
		return
	}
	if slot <= r.minute {
		return
	}
	if s.forecasted {
		s.correct(r.open > 0)
	}
	var v vector
	r.close(&v)
	if idle := slot - r.minute; idle > maxReplay {
		r.skip(idle, true, &v)
	}
	for r.minute < slot {
		r.close(&v)
	}
	s.ask(&v)
}

func (s *State) ask(v *vector) {
	s.now, s.forecasted = s.next(v), true
	if r := &s.rhythm; s.soonUsed != 0 && r.minute-s.soonUsed <= lookAhead {
		s.soon, s.soonSlot = soon(v), r.minute
	}
}

// next is the chance of a call in the slot that v looks at.
func (s *State) next(v *vector) float32 {
	if v.sure() {
		return v.mix
	}
	return sigmoid(shipped().next.logOdds(v) + s.bias)
}

// soon is the chance of a call in the look-ahead that begins with the slot that v looks at.
func soon(v *vector) float32 {
	if v.sure() {
		return v.mix
	}
	return sigmoid(shipped().soon.logOdds(v))
}

const (
	biasRate = 0.03  // of the correction's gradient descent
	biasFade = 0.999 // what is left of a correction after a slot
)

// correct learns from the slot that closes how far the population's model is off
// for this service: the slope of the log loss in the bias is chance - truth.
func (s *State) correct(active bool) {
	if s.rhythm.mixer.chance[0] < sure {
		s.bias = biasFade*s.bias + biasRate*(truth(active)-s.now)
	}
}

// Resume tells a restored state that nobody observed the time up to now: what
// happened meanwhile is not known, and no gap will be learned across it. A state from
// after now, which the machine's clock was set back to, is moved there: its time would
// stand still for so long otherwise, and instances would idle on.
func (s *State) Resume(now time.Time) {
	s.setBack(s.window.last - unixNano(now))
	at := s.clock(now)
	if s.window.last == 0 || at == s.window.last {
		return
	}
	s.window, s.sizing, s.announced = window{}, sizing{}, 0
	s.window.advance(at, 0, 0)
	if slot := at / int64(time.Minute); slot > s.rhythm.minute {
		var v vector
		s.rhythm.skip(slot-s.rhythm.minute, false, &v)
		s.ask(&v)
	}
}

// setBack moves a state by some nanoseconds into the past, in whole minutes; by none or
// fewer it stays.
func (s *State) setBack(by int64) {
	const minute = int64(time.Minute)
	if by <= 0 {
		return
	}
	minutes := by/minute + 2 // before now, so that the time up to now is one that nobody saw
	s.window, s.sizing, s.announced, s.soon, s.soonSlot, s.soonUsed = window{}, sizing{}, 0, 0, 0, 0
	if s.rhythm.minute != 0 {
		s.rhythm.minute = max(s.rhythm.minute-minutes, 1)
	}
	if s.lastCall != 0 {
		s.lastCall = max(s.lastCall-minutes*minute, 1)
	}
	s.window.advance(max(s.rhythm.minute*minute, 1), 0, 0)
}

const (
	enoughSlots  = 60 // an hour: the model was fitted on nothing shorter
	enoughActive = 2  // slots: one gap
)

// Forecast returns what the past says of the minutes from the last observation
// on. Known is false before an hour was observed and two minutes had calls.
func (s *State) Forecast() Forecast { return s.forecast(true, true) }

// forecast leaves Next and Soon at 0 unless they are asked for: each costs
// another look, and Next a copy.
func (s *State) forecast(next, soon bool) Forecast {
	if !s.forecasted || s.rhythm.seen < enoughSlots || s.rhythm.active < enoughActive {
		return Forecast{}
	}
	f := Forecast{Known: true, Now: float64(s.now)}
	if soon {
		f.Soon = max(float64(s.lookAhead()), f.Now)
	}
	if next {
		var v vector
		r := s.rhythm // what the slot has brought so far counts as all it brings
		r.close(&v)
		f.Next = float64(s.next(&v))
	}
	return f
}

// lookAhead is the chance of a call in the look-ahead of the open slot.
func (s *State) lookAhead() float32 {
	if s.soonSlot == s.rhythm.minute {
		return s.soon
	}
	var v vector
	s.rhythm.look(&v) // sees what it saw when the slot opened
	return soon(&v)
}

// Calls returns how many arrivals the service ever had.
func (s *State) Calls() uint64 { return s.calls }

// StartUp returns the 95th percentile of the measured start-up times, and
// false with an assumption when none was measured yet.
func (s *State) StartUp() (time.Duration, bool) { return s.startUp.p95() }

// clock clamps an instant to the state's monotone time.
func (s *State) clock(t time.Time) int64 { return max(unixNano(t), s.window.last) }

// unixNano converts and clamps to [1970, 2262], where nanoseconds fit.
func unixNano(t time.Time) int64 {
	switch sec := t.Unix(); {
	case sec < 0:
		return 1
	case sec >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64 / 2
	}
	return max(t.UnixNano(), 1)
}
