package trace

import (
	"bytes"
	"slices"
	"testing"
)

// The mix of rates is that of the public data: a 1,350-function sample of it has
// 43 % called fewer than 24 times a day and 89 % less than once a minute.
func TestSyntheticRateMix(t *testing.T) {
	for seed := range uint64(2) {
		s := Synthetic{Functions: 1500, Minutes: MinutesPerDay, Seed: seed}
		seldom, slow := 0, 0
		for f := range s.All() {
			total := f.Total()
			if total == 0 {
				t.Fatalf("function %s is never called", f.Name)
			}
			if total < 24 {
				seldom++
			}
			if total < MinutesPerDay {
				slow++
			}
		}
		if share := float64(seldom) / 1500; share < 0.38 || share > 0.48 {
			t.Errorf("seed %d: %.3f are called fewer than 24 times a day", seed, share)
		}
		if share := float64(slow) / 1500; share < 0.86 || share > 0.92 {
			t.Errorf("seed %d: %.3f are called less than once a minute", seed, share)
		}
	}
}

// Each kind is what its name says.
func TestSyntheticKinds(t *testing.T) {
	s := Synthetic{Functions: 300, Minutes: 3 * MinutesPerDay, Seed: 5}
	seen := make(map[Kind]int)
	for i := range s.Functions {
		f, kind := s.Function(i)
		seen[kind]++
		switch kind {
		case Rare:
			if perDay := float64(f.Total()) / 3; perDay > 50 {
				t.Errorf("rare function %d has %.0f calls a day", i, perDay)
			}
		case Periodic:
			if f.Trigger != "timer" {
				t.Errorf("periodic function %d has trigger %s", i, f.Trigger)
			}
			if common, share := commonGap(f.Counts); share < 0.8 {
				t.Errorf("periodic function %d: the commonest gap, %d minutes, has a share of only %.2f", i, common, share)
			}
		case Bursty:
			if active := activeShare(f.Counts); active > 0.5 {
				t.Errorf("bursty function %d is called in %.2f of the minutes", i, active)
			}
		case Diurnal:
			day, night := hours(f.Counts, 11, 17), hours(f.Counts, 23, 29)
			if f.Total() > 3000 && day <= night {
				t.Errorf("diurnal function %d has %d calls by day and %d by night", i, day, night)
			}
		}
	}
	for kind, share := range shares {
		if seen[Kind(kind)] < share*300/100/2 {
			t.Errorf("only %d functions of 300 are %v", seen[Kind(kind)], Kind(kind))
		}
	}
}

// commonGap finds the commonest distance of active minutes; late and missed
// calls make others.
func commonGap(counts []uint32) (gap int, share float64) {
	gaps, last, total := make(map[int]int), -1, 0
	for m, c := range counts {
		if c == 0 {
			continue
		}
		if last >= 0 {
			gaps[m-last]++
			total++
		}
		last = m
	}
	if total < 30 { // too few to judge: one late call makes two odd gaps
		return 0, 1
	}
	for g, n := range gaps {
		if n > gaps[gap] {
			gap = g
		}
	}
	return gap, float64(gaps[gap]) / float64(total)
}

func activeShare(counts []uint32) float64 {
	active := 0
	for _, c := range counts {
		if c > 0 {
			active++
		}
	}
	return float64(active) / float64(len(counts))
}

// hours sums the calls from one hour of the day to another, over all days.
func hours(counts []uint32, from, to int) (sum uint64) {
	for m, c := range counts {
		if h := m / 60 % 24; h >= from && h < to || h+24 >= from && h+24 < to {
			sum += uint64(c)
		}
	}
	return sum
}

// The same seed gives the same trace, byte for byte, and a longer one begins
// with the shorter one.
func TestSyntheticIsSeeded(t *testing.T) {
	text := func(functions int, seed uint64) []byte {
		var out bytes.Buffer
		if err := Write(&out, 120, (Synthetic{Functions: functions, Minutes: 120, Seed: seed}).All()); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	if !bytes.Equal(text(50, 1), text(50, 1)) {
		t.Error("one seed gave two traces")
	}
	if !bytes.HasPrefix(text(50, 1), text(20, 1)) {
		t.Error("more functions change the first ones")
	}
	if bytes.Equal(text(50, 1), text(50, 2)) {
		t.Error("two seeds gave one trace")
	}
	seen := names(slices.Collect(Synthetic{Functions: 2000, Minutes: 1, Seed: 1}.All()))
	slices.Sort(seen)
	if len(slices.Compact(seen)) != 2000 {
		t.Error("two functions share a name")
	}
}
