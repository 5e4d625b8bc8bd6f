package prewarm

import (
	"math"
	"time"
)

// The rules of sizing, after the Knative pod autoscaler (KPA), whose panic
// window is our burst window.
const (
	stableSeconds = 60 // mean over this decides steady load
	burstSeconds  = 6  // mean over this decides in a burst: a tenth of the stable window

	// utilization is the share of an instance's concurrency that steady load
	// should fill: the rest absorbs what arrives while another one starts.
	utilization = 0.7
	// burstThreshold starts a burst: the burst window asks for this multiple
	// of the ready instances.
	burstThreshold = 2.0
	// maxUpRate and maxDownRate bound one step relative to the ready
	// instances: at most 1000 times as many, at least half as many.
	maxUpRate   = 1000.0
	maxDownRate = 2.0
)

// Demand is what the requests in progress ask for.
type Demand struct {
	Now    int     // requests in progress or held, at this instant
	Stable float64 // mean in progress over the last 60 s
	Burst  float64 // mean in progress over the last 6 s
}

// sizing is what sizing remembers between two decisions.
type sizing struct {
	burst burst
	held  held // not saved: at a restart nothing is held
}

// burst is the memory of a burst between two decisions.
type burst struct {
	over int64  // Unix nanoseconds when the threshold was last exceeded; 0 outside a burst
	peak uint32 // most instances asked for during it
}

// downHold is how long more instances than are needed stay after they were
// needed, so that load that swings about a boundary does not start and stop them.
// The last instance is a matter of keep-alive.
const downHold = 30 * time.Second

// held remembers the most instances asked for, and when last.
type held struct {
	count int
	at    int64 // Unix nanoseconds
}

// hold returns how many instances stay of those that were asked for, and the
// memory after this decision.
func hold(want int, was held, now int64) (int, held) {
	if want >= was.count || was.count <= 1 || now-was.at >= int64(downHold) {
		return want, held{want, now}
	}
	return was.count, was
}

// size returns how many instances the demand asks for, without regard to
// minimum and maximum, and the burst memory after this decision.
//
// Steady load: ceil(Stable / (utilization × concurrency)). In a burst, that is
// when the burst window asks for twice the ready instances or more, the larger
// of both windows decides and the number never falls until the burst window
// has been below the threshold for 60 s. With nothing ready there is no mean
// worth the name: what waits now decides, at full concurrency.
//
// Worked example (TestSizeWorkedExample): concurrency 10, so 7 per instance.
// Stable 20 with 3 ready asks for ceil(20/7) = 3. Burst 45 asks for
// ceil(45/7) = 7 ≥ 2 × 3: a burst, 7 instances. When Burst is back at 20 the 7
// stay for another minute; then 20 asks for 3, and from 7 ready one step may
// not go below floor(7/2) = 3.
func size(d Demand, concurrency, ready int, was burst, now int64) (int, burst) {
	per := utilization * float64(max(concurrency, 1))
	base := float64(max(ready, 1))
	low := math.Floor(float64(ready) / maxDownRate)
	clamp := func(want float64) float64 { return min(max(want, low), math.Ceil(maxUpRate*base)) }

	stable, quick := math.Ceil(d.Stable/per), math.Ceil(d.Burst/per)
	if ready == 0 {
		instant := math.Ceil(float64(d.Now) / float64(max(concurrency, 1)))
		stable, quick = instant, instant
	}
	// From one instance a mean just above its target would already be "twice":
	// KPA's rule, and right, since one instance has no neighbour to lean on.
	if ready > 0 && quick/base >= burstThreshold {
		was.over = now
	}
	if was.over != 0 && now-was.over >= stableSeconds*1e9 {
		was = burst{}
	}
	want := clamp(stable)
	if was.over != 0 {
		want = max(want, clamp(quick), float64(was.peak))
		was.peak = uint32(min(want, math.MaxUint32))
	}
	return int(min(want, math.MaxInt32)), was
}
