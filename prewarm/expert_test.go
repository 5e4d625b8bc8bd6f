package prewarm

import (
	"math"
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
