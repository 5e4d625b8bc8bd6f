package prewarm

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// TestLn is within one unit of the last place of the library's.
func TestLn(t *testing.T) {
	check := func(t interface{ Fatalf(string, ...any) }, x float32) {
		want := float32(math.Log(float64(x)))
		got := ln(x)
		if got != want && got != math.Nextafter32(want, 9) && got != math.Nextafter32(want, -9) {
			t.Fatalf("ln(%g): got %g, want %g", x, got, want)
		}
	}
	for _, x := range []float32{certain, 1 - certain, certain / (1 - certain), (1 - certain) / certain, 0.5, 1, 2, 1e-16, math.Sqrt2, math.Sqrt2 / 2} {
		check(t, x)
	}
	rapid.Check(t, func(t *rapid.T) {
		for range 100 {
			check(t, rapid.Float32Range(1e-17, 1e17).Draw(t, "x"))
		}
	})
	if ln(1) != 0 {
		t.Errorf("ln(1) is %g", ln(1))
	}
}

// TestMixingByAgeLearnsWhomToTrustWhen: one expert knows what happens just after a
// call, the other what happens later, and each is as sure as wrong the rest of the time.
// Only who weighs them by age can follow both.
func TestMixingByAgeLearnsWhomToTrustWhen(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var m mixer
	var flat, byAge float64
	const slots = 6000
	for i := range slots {
		active, age := random.IntN(2) == 0, uint32(1+i%2*20)
		right := float32(0.1)
		if active {
			right = 0.9
		}
		v := vector{}
		if age == 1 {
			v.chance("knows soon", right)
			v.chance("knows late", 1-right)
		} else {
			v.chance("knows soon", 1-right)
			v.chance("knows late", right)
		}
		m.judge(&v, age)
		if i >= slots/2 {
			flat += float64(loss(m.chance[0], active))
			byAge += float64(loss(m.chance[1], active))
		}
		m.learn(active)
	}
	if flat, byAge = flat/(slots/2), byAge/(slots/2); flat < 0.6 || byAge > 0.2 {
		t.Errorf("mean loss: %.3f for all ages alike, want that of a coin (0.69); %.3f by age, want below 0.2", flat, byAge)
	}
}

func TestAgeKinds(t *testing.T) {
	for age, want := range map[uint32]int{1: 0, 2: 1, 4: 1, 5: 2, 12: 2, 13: 3, 60: 3, 61: 4, math.MaxUint32: 4} {
		if got := ageKind(age); got != want {
			t.Errorf("age %d: got kind %d, want %d", age, got, want)
		}
	}
}
