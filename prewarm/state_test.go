package prewarm

import (
	"testing"
	"time"
)

// TestServiceCorrectsTheModel: a service that does what the population would not
// is judged by its own record in the end, in both directions and within bounds.
func TestServiceCorrectsTheModel(t *testing.T) {
	for name, c := range map[string]struct {
		calls func(minute int) bool
		sign  float32
	}{
		"called oftener than thought": {func(int) bool { return true }, 1},
		"called more rarely":          {func(minute int) bool { return minute < 3 }, -1},
	} {
		t.Run(name, func(t *testing.T) {
			var s State
			var biasAtHour float32
			for minute := range 24 * 60 {
				obs := Observation{Now: time.Unix(int64(minute)*60, 0)}
				if c.calls(minute) {
					obs.Arrivals = 1
				}
				s.Observe(obs)
				if minute == 60 {
					biasAtHour = s.bias
				}
			}
			if s.bias*c.sign <= 0 || biasAtHour*c.sign <= 0 {
				t.Errorf("the correction is %g after an hour and %g after a day", biasAtHour, s.bias)
			}
			if s.bias > biasRate/(1-biasFade) || s.bias < -biasRate/(1-biasFade) {
				t.Errorf("the correction %g has left its bounds", s.bias)
			}
		})
	}
}
