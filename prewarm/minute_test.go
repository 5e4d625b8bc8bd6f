//go:build unix

package prewarm

import (
	"syscall"
	"testing"
	"time"
)

// BenchmarkMinute is the whole step of a minute, for services of several kinds,
// of which a day is known. Beside the time on the clock it reports the processor
// time, which is what counts on a machine that others use too.
func BenchmarkMinute(b *testing.B) {
	each := func(period int) func(int) bool { return func(m int) bool { return m%period == 0 } }
	for _, bench := range []struct {
		name  string
		calls func(minute int) bool
	}{
		{"busy", each(1)},
		{"busy, irregular", func(m int) bool { return uint32(m)*2654435761>>24 < 100 }}, // two minutes of five
		{"every 3", each(3)},
		{"every 20", each(20)},
		{"rare", each(400)},
		{"idle", func(m int) bool { return m < 10 }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var s State
			minute, now := 0, noon
			step := func() {
				obs := Observation{Now: now}
				if bench.calls(minute) {
					obs.Arrivals = 1
				}
				s.Observe(obs)
				Decide(s.Inputs(scale(-1), obs, Terms{}))
				minute, now = minute+1, now.Add(time.Minute)
			}
			for range 1440 {
				step()
			}
			b.ReportAllocs()
			began := processorTime(b)
			for b.Loop() {
				step()
			}
			b.ReportMetric(float64(processorTime(b)-began)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkServices is the step of a minute for 200 services in turn, of which a day is
// known: as in a gateway, and unlike in BenchmarkMinute, the processor has not just
// learned where this service's past leads.
func BenchmarkServices(b *testing.B) {
	const services = 200
	states := make([]State, services)
	minute, now := 0, noon
	step := func(i int) {
		obs := Observation{Now: now}
		period := int(uint32(i+1)*2654435761>>8%60) + 1
		called := (minute+i)%period == 0
		if i%3 == 0 { // irregular, at rates of all sizes
			called = uint32(minute*977+i*31)*2654435761>>24 < uint32(i*128/services)
		}
		if called {
			obs.Arrivals = 1
		}
		states[i].Observe(obs)
		Decide(states[i].Inputs(scale(-1), obs, Terms{}))
	}
	i := 0
	next := func() {
		step(i)
		if i++; i == services {
			i, minute, now = 0, minute+1, now.Add(time.Minute)
		}
	}
	for range 1440 * services {
		next()
	}
	b.ReportAllocs()
	began := processorTime(b)
	for b.Loop() {
		next()
	}
	b.ReportMetric(float64(processorTime(b)-began)/float64(b.N), "cpu-ns/op")
}

// processorTime is what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
