package live

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polder/polder"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func small() Options {
	o := DefaultOptions()
	o.Functions, o.From, o.To, o.Sleeper = 10, 120, 150, "/bin/sleeper"
	return o
}

func TestParts(t *testing.T) {
	o := small()
	list, err := parts(o)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2*o.Functions {
		t.Fatalf("%d services", len(list))
	}
	for i, p := range list {
		if len(p.counts) != o.To || len(p.warm) != o.To || slices.Max(p.counts) > uint32(o.Calls) {
			t.Errorf("%s: %d counts up to %d, %d slots", p.name, len(p.counts), slices.Max(p.counts), len(p.warm))
		}
		if last := p.phase + callPause*float64(o.Calls-1); p.phase < firstPhase || last >= 1 {
			t.Errorf("%s: calls from %.2f to %.2f of a slot", p.name, p.phase, last)
		}
		if other := list[i^1]; !slices.Equal(p.counts, other.counts) || p.region != other.region {
			t.Errorf("%s and %s are not the same function in the same region", p.name, other.name)
		}
	}
	result := polder.Decode([]polder.File{{Name: "polder.yaml", Data: []byte(configuration(o, list))}})
	if len(result.Faults) > 0 {
		t.Fatal(result.Faults)
	}
	for i, s := range result.Model.Services {
		if want := policies(o)[list[i].policy].simulated; s.Scale.KeepAlive != want.KeepAlive || s.Scale.Prewarm != want.Prewarm ||
			s.Scale.Max != want.Max || s.Scale.Pause != want.Pause || s.Scale.Concurrency != want.Concurrency {
			t.Errorf("%s runs at %+v and is simulated at %+v", s.Name, s.Scale, want)
		}
	}
	for region := range o.Regions {
		for name, state := range learned(o, list, region) {
			i := slices.IndexFunc(list, func(p part) bool { return p.name == name })
			var calls uint64
			for _, n := range list[i].counts[:o.first()] {
				calls += uint64(n)
			}
			if state.Calls() != calls {
				t.Errorf("%s learned of %d calls, want %d", name, state.Calls(), calls)
			}
		}
	}
}

func TestReport(t *testing.T) {
	o := Options{From: 2, To: 6, LeadIn: 1, Speed: 60, Within: 0.1, KeepAlive: time.Minute}
	list := []part{
		{policy: 0, counts: []uint32{9, 1, 1, 1, 1, 1}, warm: []bool{false, false, false, true, true, false}},
		{policy: 1, counts: []uint32{9, 1, 0, 1, 1, 1}, warm: []bool{true, true, true, true, true, true}},
	}
	r := newReport(o, list, played{counted: 3, outcomes: []outcome{
		// minutes 1 to 5; the first is the lead-in
		{cold: []bool{true, true, false, true, false}, calls: 5, colds: 3},
		{cold: []bool{true, false, true, true, false}, calls: 4, failed: 1, fault: errTooSlow},
	}})
	fixed, auto := r.Policies[0], r.Policies[1]
	if fixed.Active != 4 || fixed.Simulated != (Share{2, .5}) || fixed.Measured != (Share{2, .5}) || fixed.Both != 1 || fixed.OnlySimulated != 1 ||
		fixed.OnlyMeasured != 1 || fixed.Difference != 0 || !fixed.Within {
		t.Errorf("%+v", fixed)
	}
	if !slices.Equal(fixed.SimulatedBy, []int{1, 1, 1, 2}) || !slices.Equal(fixed.MeasuredBy, []int{1, 1, 2, 2}) {
		t.Errorf("by minute: %v and %v", fixed.SimulatedBy, fixed.MeasuredBy)
	}
	if auto.Active != 3 || auto.Simulated.Cold != 0 || auto.Measured.Cold != 2 || auto.Within || r.Within {
		t.Errorf("two cold minutes where none are expected: %+v", auto)
	}
	var text, page strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"keep-alive 1m0s", "NOT within 10 %", errTooSlow.Error(), "9 calls, 3 of them cold as callers saw and 3 as the regions count"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	if !strings.Contains(page.String(), "<svg") || strings.Contains(page.String(), "src=") {
		t.Error("the page has no plot, or needs something else")
	}
}

func TestFewColdMinutesMayDifferByOne(t *testing.T) {
	for _, c := range []struct {
		simulated, measured int
		within              bool
	}{{0, 0, true}, {0, 1, true}, {0, 2, false}, {5, 6, true}, {5, 7, false}, {100, 110, true}, {100, 111, false}, {100, 89, false}} {
		p := Policy{Both: min(c.simulated, c.measured), OnlySimulated: max(c.simulated-c.measured, 0), OnlyMeasured: max(c.measured-c.simulated, 0), Active: 1000}
		if p.close(0.1); p.Within != c.within {
			t.Errorf("%d simulated and %d measured: within is %t", c.simulated, c.measured, p.Within)
		}
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	err := Options{Functions: 501, Regions: 4, From: 10, To: 10, LeadIn: 11, Speed: 200}.Validate()
	for _, want := range []string{"501 functions", "4 regions", "0 calls", "11 minutes of lead-in", "from minute 10 to 10", "keep-alive of 0s", "speed of 200", "within 0"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %s in it", err, want)
		}
	}
}
