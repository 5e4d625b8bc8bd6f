package prewarm

import (
	"math"
	"math/bits"
)

const (
	gapRing   = 128 // completed gaps remembered
	lifeGaps  = 32  // gap lengths counted over the whole life
	regressed = 240 // lags of the online regression
	recent    = 3   // newest slots whose arrivals are remembered
	maxGap    = math.MaxUint16
	// maxReplay bounds the idle slots that are closed one by one when nothing
	// was observed for long; more are skipped at once.
	maxReplay = historyMinutes
)

// decays are the time constants of the moving averages, in slots.
var decays = [...]float32{3, 10, 30, 120}

// rhythm is what is remembered of a service's minute slots. A slot is a minute
// of the wall clock, numbered by Unix time / 60, since schedules are made of
// minutes of the hour. It learns when a slot closes.
type rhythm struct {
	minute int64  // the open slot; 0 before the first observation
	open   uint32 // arrivals in it

	seen    uint32 // closed slots since the first observation
	active  uint32 // of them with arrivals
	idle    uint32 // idle slots since the last active one, or since the first
	run     uint16 // active slots in a row up to the last active one
	lastRun uint16 // the row before this one
	broken  bool   // slots since the last active one were not observed: no gap ends

	gaps   [gapRing]uint16  // slots from one active slot to the next, at least 1; a ring
	gapN   uint32           // gaps ever recorded
	life   [lifeGaps]uint16 // how often gaps of length i+1 occurred, all halved when one is full
	long   uint16           // how often longer ones did
	past   history
	ofHour [60]uint8      // active slots of past, by the minute of the hour; follows from it
	count  [recent]uint16 // arrivals of the newest closed slots, newest first

	meanActive [len(decays)]float32 // moving averages of "active"
	meanCalls  [len(decays)]float32 // and of log(1 + arrivals)
	calls      float32              // sum of log(1 + arrivals) over active slots

	regression regression
	mixer      mixer
}

// close ends the open slot, learns from it, opens the next one and leaves what
// the model should see of that one in v.
func (r *rhythm) close(v *vector) {
	active := r.open > 0
	if r.seen > 0 {
		r.regression.learn(&r.past, active)
		r.mixer.learn(active)
	}
	if active {
		if r.active > 0 && !r.broken {
			r.record(uint16(min(r.idle+1, maxGap)))
		}
		r.broken = false
		if r.idle > 0 {
			r.lastRun, r.run = r.run, 0
		}
		r.active, r.idle = r.active+1, 0
		r.run = uint16(min(int(r.run)+1, math.MaxUint16))
		r.calls += log1p(float32(r.open))
	} else {
		r.idle++
	}
	r.remember(active)
	copy(r.count[1:], r.count[:recent-1])
	r.count[0] = uint16(min(r.open, math.MaxUint16))
	x, c := float32(0), log1p(float32(r.open))
	if active {
		x = 1
	}
	for i, tau := range decays {
		r.meanActive[i] += (x - r.meanActive[i]) / tau
		r.meanCalls[i] += (c - r.meanCalls[i]) / tau
	}
	r.seen++
	r.minute++
	r.open = 0
	r.look(v)
}

// skip passes n idle slots without learning from them. observed is false if
// nobody looked: the gap that they lie in is then forgotten.
func (r *rhythm) skip(n int64, observed bool, v *vector) {
	few := uint32(min(n, math.MaxUint32/4))
	r.idle = min(r.idle+few, math.MaxUint32/2)
	r.seen = min(r.seen+few, math.MaxUint32/2)
	r.broken = r.broken || !observed
	r.past.skip(n)
	r.count = [recent]uint16{}
	for i, tau := range decays {
		fade := float32(math.Pow(1-1/float64(tau), float64(n)))
		r.meanActive[i] *= fade
		r.meanCalls[i] *= fade
	}
	r.minute += n
	r.open = 0
	r.recount()
	r.look(v)
}

// remember adds the slot that closes to the past.
func (r *rhythm) remember(active bool) {
	if r.past.at(historyMinutes) {
		r.ofHour[minuteOfHour(r.minute-historyMinutes)]--
	}
	if active {
		r.ofHour[minuteOfHour(r.minute)]++
	}
	r.past.push(active)
}

// recount finds ofHour again.
func (r *rhythm) recount() {
	r.ofHour = [60]uint8{}
	for w, word := range r.past {
		for b := word; b != 0; b &= b - 1 {
			r.ofHour[minuteOfHour(r.minute-1-int64(w*64+bits.TrailingZeros64(b)))]++
		}
	}
}

// minuteOfHour of a slot, also of one before 1970, which a young service's past has.
func minuteOfHour(slot int64) int { return int((slot%60 + 60) % 60) }

// look takes the experts' and the model's view of the open slot.
func (r *rhythm) look(v *vector) {
	r.regression.judge(&r.past)
	v.n, v.experts = 0, 0
	r.features(v)
	r.mixer.judge(v, r.idle+1)
	v.mix = r.mixer.chance[0]
	for _, p := range r.mixer.chance {
		v.add("mix", p)
	}
	v.add("mix regret", r.mixer.regret)
}

// record adds a completed gap.
func (r *rhythm) record(gap uint16) {
	r.gaps[r.gapN%gapRing] = gap
	if r.gapN++; r.gapN == math.MaxUint32/gapRing*gapRing {
		r.gapN = gapRing // keeps the index and the fullness
	}
	if gap > lifeGaps {
		r.long++
	} else {
		r.life[gap-1]++
	}
	if r.long == math.MaxUint16 || gap <= lifeGaps && r.life[gap-1] == math.MaxUint16 {
		r.long /= 2
		for i := range r.life {
			r.life[i] /= 2
		}
	}
}

func log1p(x float32) float32 { return float32(math.Log1p(float64(x))) }
