package prewarm

import (
	"math"
	"math/bits"
)

// maxVector bounds the features; a power of two, so that an index is cheaply
// kept in bounds.
const maxVector = 128

// vector is what the model sees of a rhythm.
type vector struct {
	x       [maxVector]float32
	n       int
	expert  [maxExperts]uint8 // which features are chances that the mixer mixes
	experts int
	mix     float32  // the mixer's chance
	names   []string // only for fitting and tests: filled if not nil
}

func (v *vector) add(name string, x float32) {
	v.x[v.n] = x
	v.n++
	if v.names != nil {
		v.names = append(v.names, name)
	}
}

// sure is the mixer's chance from which on the model is not asked. Its slots have two
// calls of three, one in a hundred of them is silent, and at any price that makes
// sense an instance is warm then (docs/predictor.md).
const sure = 0.95

func (v *vector) sure() bool { return v.mix >= sure }

// chance adds a feature that is an expert's chance of the next slot.
func (v *vector) chance(name string, p float32) {
	v.expert[v.experts] = uint8(v.n)
	v.experts++
	v.add(name, p)
}

// periods are the lags, in slots, at whose multiples schedules are looked for.
var periods = [...]int{5, 10, 15, 20, 30, 120, 180, 240, 360}

// repeats is how many multiples of a period are looked at.
const repeats = 12

// multiples has, for each period, the bits of a history at its multiples, as far as
// the last word that has one.
var multiples = func() (all [len(periods)][]uint64) {
	for i, p := range periods {
		for lag := p; lag <= min(repeats*p, historyMinutes); lag += p {
			for len(all[i]) <= (lag-1)/64 {
				all[i] = append(all[i], 0)
			}
			all[i][(lag-1)/64] |= 1 << ((lag - 1) % 64)
		}
	}
	return all
}()

// remainders are the divisors, in minutes, by whose remainders slots are alike.
var remainders = [...]int{5, 10, 15, 20, 30, 60}

// echoes is how many of the newest active slots are asked for their echo.
const echoes = 8

// matched are the lengths, in slots, of the contexts that are looked up.
var matched = [...]int{4, 8, 12, 16, 24, 32}

// features appends what the model sees of the open slot, the mixer aside.
func (r *rhythm) features(v *vector) {
	rate := (float32(r.active) + 0.5) / (float32(r.seen) + 60)
	v.add("log of slots seen", log1p(float32(r.seen)))
	v.add("rate", rate)
	v.add("active", float32(min(r.active, math.MaxUint16)))
	v.add("run", float32(r.run))
	v.add("last run", float32(r.lastRun))
	for i := range decays {
		v.chance("mean active", r.meanActive[i])
		v.add("mean calls", r.meanCalls[i])
	}
	for _, c := range r.count {
		v.add("arrivals", float32(c))
	}
	v.add("calls per active slot", r.calls/max(float32(r.active), 1))
	hour := r.past.count(60)
	for _, n := range [...]int{10, 240, 720} {
		v.add("active of the last", float32(r.past.count(n)))
	}
	v.add("active of the last hour", float32(hour))
	v.add("last hour to life", float32(hour)/min(60, float32(r.seen)+1)/rate)
	minute := int(r.minute % 60)
	v.add("minute of the hour", float32(minute))
	v.add("minute modulo 5", float32(minute%5))
	v.add("minute modulo 15", float32(minute%15))
	v.add("minute modulo 30", float32(minute%30))
	r.gapFeatures(v, rate)
	r.lagFeatures(v)
	r.residueFeatures(v, rate)
	r.echoFeatures(v)
	r.matchFeatures(v, rate)
	v.chance("regression", r.regression.chance)
	v.add("regression bias", r.regression.bias)
	v.add("regression regret", r.regression.regret)
}

// tally counts past gaps that reached the present age, and of them those that
// ended exactly now, about now, and within the look-ahead.
type tally struct{ reached, now, near, soon float32 }

// hazard is the chance that a gap of this age ends now, shrunk to a prior.
func (t tally) hazard(prior float32) float32 { return (t.now + prior) / (t.reached + 1) }

// gapFeatures compare the present gap with past ones: all, the newest, and
// those that followed gaps like the last one, two and three.
func (r *rhythm) gapFeatures(v *vector, rate float32) {
	n := int(min(r.gapN, gapRing))
	last := func(i int) int { // the i-th newest, 0 if there is none
		if i <= n {
			return int(r.gaps[(r.gapN-uint32(i))%gapRing])
		}
		return 0
	}
	age := int(min(r.idle+1, maxGap)) // the gap's length if the open slot ends it
	v.add("age", float32(age))
	v.add("last gap", float32(last(1)))
	v.add("gap before it", float32(last(2)))
	v.add("age - last gap", float32(age-last(1)))
	v.add("age - gap before it", float32(age-last(2)))

	var tail [9]int // in order
	k := min(n, len(tail))
	for i := range k {
		g, j := last(i+1), i
		for ; j > 0 && tail[j-1] > g; j-- {
			tail[j] = tail[j-1]
		}
		tail[j] = g
	}
	var low, median, high int
	if k > 0 {
		low, median, high = tail[0], tail[k/2], tail[k-1]
	}
	v.add("median gap", float32(median))
	v.add("age - median gap", float32(age-median))
	v.add("age - shortest gap", float32(age-low))
	v.add("age - longest gap", float32(age-high))
	v.add("spread of gaps", float32(high-low)/float32(max(median, 1)))

	longest := r.longest(32)
	tallies := r.tallies(age, last(1), last(2), last(3))
	v.add("gaps", float32(n))
	v.add("age - longest of 32", float32(age-longest))
	for i := range tallies {
		t := &tallies[i]
		v.chance("hazard", t.hazard(rate))
		v.add("gaps that reached this age", t.reached)
		v.add("about now", (t.near+rate)/(t.reached+1))
		v.add("soon", (t.soon+0.1)/(t.reached+1))
	}
	reached := uint32(r.long)
	for _, n := range r.life[min(age, lifeGaps+1)-1:] {
		reached += uint32(n)
	}
	life := tally{reached: float32(reached)}
	if age <= lifeGaps {
		life.now = float32(r.life[age-1])
	}
	v.chance("hazard over life", life.hazard(rate))
	v.add("gaps of a life that reached this age", life.reached)
}

// lagFeatures look back at multiples of the usual periods.
func (r *rhythm) lagFeatures(v *vector) {
	seen := int(min(r.seen, historyMinutes))
	for i, p := range periods {
		hits := 0
		for w, mask := range multiples[i] {
			hits += bits.OnesCount64(r.past[w] & mask) // nothing was called before the first slot seen
		}
		v.add("hits at a period", float32(hits)/float32(min(seen/p, repeats)+1))
	}
	k := min(seen/60, historyMinutes/60)
	var exact, near int
	for i := 1; i <= k; i++ {
		w := r.past.around(i * 60)
		exact += int(w >> 1 & 1)
		near += int((w | w>>2) & 1)
	}
	v.chance("hourly", (float32(exact)+0.05)/float32(k+1))
	v.add("about hourly", float32(near)/float32(k+1))
}

// residueFeatures ask how often the service was called, over a day, in slots like this
// one: whose minute of the hour leaves the same remainder.
func (r *rhythm) residueFeatures(v *vector, rate float32) {
	minute := minuteOfHour(r.minute)
	seen := int(min(r.seen, historyMinutes))
	for _, m := range remainders {
		hits := 0
		for i := minute % m; i < len(r.ofHour); i += m {
			hits += int(r.ofHour[i])
		}
		v.chance("called at this remainder", (float32(hits)+rate)/float32(seen/m+1))
	}
}

// echoFeatures ask, for the newest active slots, how often this service came
// back after just that time, whatever happened between.
func (r *rhythm) echoFeatures(v *vector) {
	words := min(int(r.seen)/64+1, historyWords)
	var e echoer
	e.take(&r.past, words)
	once := r.past.count(historyMinutes)
	var best, bestOnce, bestTwice float32
	bestLag, k, none := 0, 0, 1.0
scan:
	for w := range words {
		for b := r.past[w]; b != 0; b &= b - 1 {
			lag := w*64 + bits.TrailingZeros64(b) + 1
			once-- // the older ones: each is an occasion for an echo
			var both int
			if r.past.at(2 * lag) {
				var thrice, twice int
				both, thrice, twice = e.twice(lag)
				bestTwice = max(bestTwice, (float32(thrice)+0.1)/(float32(twice)+1))
			} else {
				both = e.once(lag)
			}
			p := (float32(both) + 0.1) / (float32(once) + 1)
			if p > best {
				best, bestOnce, bestLag = p, float32(once), lag
			}
			none *= float64(1 - min(p, 0.99))
			if k++; k == echoes {
				break scan
			}
		}
	}
	v.chance("echo", best)
	v.add("occasions of the echo", bestOnce)
	v.add("lag of the echo", float32(bestLag))
	v.add("echo at twice the lag", bestTwice)
	v.add("any echo", -ln(float32(none)))
}

// matchFeatures ask what followed when the newest slots looked just like this
// before, for contexts of several lengths.
func (r *rhythm) matchFeatures(v *vector, rate float32) {
	var n, hit [len(matched)]int
	if h := &r.past; h[0]&(1<<32-1) != 0 { // silence is the gaps' matter
		n, hit = h.match(min(int(r.seen)/64+1, historyWords), int(r.seen))
	}
	for i := range matched {
		v.chance("match", (float32(hit[i])+rate)/(float32(n[i])+1))
		v.add("matches", float32(n[i]))
	}
}
