package prewarm

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/polder/polder"
)

// kpa is the Knative pod autoscaler, said again from its documentation
// (knative.dev/docs/serving/autoscaling) and its defaults, as an oracle: a stable
// window of 60 s and a panic window of a tenth of it, over both of which it is given
// the mean concurrency; a target of 70 % of what a pod takes; panic from twice the
// ready pods on, until a stable window has passed without; at most 1000 times as
// many pods and at least half as many in one step.
type kpa struct {
	panicked time.Duration // when the panic threshold was last reached
	panics   bool
	most     float64 // pods that were wanted while it panics
}

func (k *kpa) scale(now time.Duration, stable, panic float64, concurrency, ready int) int {
	target, pods := 0.7*float64(concurrency), math.Max(1, float64(ready))
	bounded := func(want float64) float64 { return math.Min(math.Max(want, math.Floor(pods/2)), 1000*pods) }
	slow, quick := math.Ceil(stable/target), math.Ceil(panic/target)
	if quick/pods >= 2 {
		k.panicked, k.panics = now, true
	} else if k.panics && now-k.panicked > time.Minute {
		k.panics, k.most = false, 0
	}
	want := bounded(slow)
	if k.panics {
		k.most = math.Max(k.most, math.Max(want, bounded(quick)))
		want = k.most
	}
	return int(want)
}

// TestSizeIsTheKPAs gives both the same windows and the same ready instances, of
// which there are some: they ask for the same number, step by step.
func TestSizeIsTheKPAs(t *testing.T) {
	bursts := 0
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 3))
		concurrency := 1 + random.IntN(100)
		var k kpa
		var memory burst
		now, ready := time.Hour, 1+random.IntN(20)
		for range 200 {
			now += 2*time.Second + time.Duration(1+random.IntN(1000))*time.Millisecond // never a stable window to the nanosecond
			stable := random.Float64() * 20 * float64(concurrency)
			quick := stable * (0.2 + 3*random.Float64()*random.Float64())
			want := k.scale(now, stable, quick, concurrency, ready)
			var got int
			if got, memory = size(Demand{int(quick), stable, quick}, concurrency, ready, memory, int64(now)); got != want {
				t.Fatalf("seed %d: %.1f and %.1f in progress at %d per instance with %d ready: %d, and the KPA asks for %d", seed, stable, quick, concurrency, ready, got, want)
			}
			if k.panics {
				bursts++
			}
			ready = max(1, (ready+want)/2)
		}
	}
	if bursts < 1000 {
		t.Errorf("only %d steps in a burst: this shows nothing", bursts)
	}
}

// autoscaled is a service under load, with instances that take a while to start.
type autoscaled struct {
	ready   int
	coming  []time.Duration // when those that start are ready
	starts  int
	most    int
	lacking float64 // request-seconds beyond what ready instances take
}

const autoscaledStart = 2 * time.Second

func (a *autoscaled) arrive(now time.Duration) {
	for len(a.coming) > 0 && a.coming[0] <= now {
		a.coming, a.ready = a.coming[1:], a.ready+1
	}
	a.most = max(a.most, a.ready)
}

func (a *autoscaled) aim(now time.Duration, want int) {
	for a.ready+len(a.coming) < want {
		a.coming = append(a.coming, now+autoscaledStart)
		a.starts++
	}
	a.ready = min(a.ready, want)
}

// under runs ten minutes of load, requests in progress at each instant, through the
// KPA and through Step. Both are told of it as in production: the KPA looks every
// two seconds, Step every second and at once when callers find no instance.
func under(load func(time.Duration) int, concurrency int) (knative, ours autoscaled) {
	const tick = 100 * time.Millisecond
	var k kpa
	var s State
	var levels []int // one each tick
	service := polder.Service{Scale: scale(10 * time.Minute)}
	service.Scale.Concurrency, service.Scale.Max = concurrency, 1000
	mean := func(span time.Duration) float64 {
		n := min(len(levels), int(span/tick))
		sum := 0
		for _, l := range levels[len(levels)-n:] {
			sum += l
		}
		return float64(sum) / float64(n)
	}
	for now := time.Duration(0); now < 10*time.Minute; now += tick {
		level := load(now)
		levels = append(levels, level)
		knative.arrive(now)
		ours.arrive(now)
		knative.lacking += max(0, float64(level-knative.ready*concurrency)) * tick.Seconds()
		ours.lacking += max(0, float64(level-ours.ready*concurrency)) * tick.Seconds()
		if now%(2*time.Second) == 0 {
			want := k.scale(now, mean(time.Minute), mean(6*time.Second), concurrency, knative.ready)
			if knative.ready+len(knative.coming) == 0 && level > 0 {
				want = max(want, 1) // its activator reports at once
			}
			knative.aim(now, want)
		}
		held := ours.ready == 0 && level > 0
		if now%time.Second == 0 || held {
			obs := Observation{Now: noon.Add(now), InProgress: level, Instances: Instances{Ready: ours.ready, Starting: len(ours.coming)}}
			if held {
				obs.InProgress, obs.Waiting = 0, level
			}
			if level > 0 {
				obs.Arrivals = 1
			}
			ours.aim(now, Step(&s, service, obs, Terms{}).Desired)
		}
	}
	return knative, ours
}

// TestAgainstTheKPA puts both under steady load, bursts and swings. Given the same
// ready instances they ask for the same; what differs is when they look, the start
// from zero, and that ours holds on for a while.
func TestAgainstTheKPA(t *testing.T) {
	const m, s = time.Minute, time.Second
	for _, c := range []struct {
		name string
		load func(time.Duration) int
		same int     // instances at the end, of both; 0 for whatever
		late float64 // request-seconds that ours may lack more: a second of the load's rise, which load reports tell by then
		calm bool    // ours starts no more often
	}{
		{"steady", func(time.Duration) int { return 50 }, 8, 0, false},
		{"a crowd from zero", func(at time.Duration) int {
			if at < 2*m {
				return 0
			}
			return 100
		}, 15, 0, false},
		{"a burst of ten seconds", func(at time.Duration) int {
			if at > 4*m && at < 4*m+10*s {
				return 200
			}
			return 20
		}, 3, 180, false},
		{"a ramp", func(at time.Duration) int { return int(at / (5 * s)) }, 0, 1, false},
		{"a swing about a boundary", func(at time.Duration) int {
			if at/(45*s)%2 == 0 {
				return 12
			}
			return 22
		}, 0, 10, true},
		{"waves", func(at time.Duration) int { return int(40 + 30*math.Sin(at.Seconds()/20)) }, 0, 0, true},
	} {
		knative, ours := under(c.load, 10)
		t.Logf("%-26s KPA: %2d starts, most %2d, lacks %6.1f, ends with %2d; ours: %2d, %2d, %6.1f, %2d", c.name,
			knative.starts, knative.most, knative.lacking, knative.ready, ours.starts, ours.most, ours.lacking, ours.ready)
		if c.same > 0 && (ours.ready != c.same || knative.ready != c.same) {
			t.Errorf("%s: it ends with %d instances, and the KPA with %d, want %d", c.name, ours.ready, knative.ready, c.same)
		}
		if ours.lacking > knative.lacking+c.late {
			t.Errorf("%s: it lacks %.1f request-seconds, and the KPA %.1f", c.name, ours.lacking, knative.lacking)
		}
		if c.calm && ours.starts > knative.starts {
			t.Errorf("%s: it starts %d times, and the KPA %d", c.name, ours.starts, knative.starts)
		}
	}
}
