package prewarm

import (
	"testing"
	"time"
	"unsafe"

	"github.com/polder/polder"
)

func TestShadowIsBounded(t *testing.T) {
	if n := unsafe.Sizeof(Shadow{}); n > ShadowBytes {
		t.Errorf("a Shadow takes %d bytes, more than %d", n, ShadowBytes)
	}
}

// shadowed is a service under a keep-alive of a minute, with instances that start
// at once, and a Shadow that keeps them for ten.
type shadowed struct {
	state   State
	shadow  Shadow
	service polder.Service
	other   polder.Scale
	terms   Terms
	have    Instances
}

func newShadowed() *shadowed {
	s := &shadowed{service: polder.Service{Scale: scale(time.Minute), Run: &polder.Run{Memory: 1 << 30}}, other: scale(10 * time.Minute)}
	s.terms.Prices = Prices{Currency: "EUR", GiBSecond: 1000}
	return s
}

// at steps both policies at an instant after noon.
func (s *shadowed) at(after time.Duration, obs Observation) {
	obs.Now, obs.Instances = noon.Add(after), s.have
	d := Step(&s.state, s.service, obs, s.terms)
	s.shadow.Step(&s.state, s.service, s.other, obs, s.terms)
	s.have = Instances{Ready: d.Desired}
}

// TestShadowScoresBothAlike has a call every five minutes for an hour.
func TestShadowScoresBothAlike(t *testing.T) {
	s := newShadowed()
	const second = time.Second
	for at := time.Duration(0); at < time.Hour; at += 10 * second {
		obs := Observation{}
		if at%(5*time.Minute) == 30*second {
			obs.Arrivals = 1
		}
		s.at(at, obs)
	}
	x := s.shadow
	if !x.Since.Equal(noon) || x.Acting.Active != 12 || x.Other.Active != 12 {
		t.Errorf("since %s, %d and %d minutes with calls, want 12", x.Since, x.Acting.Active, x.Other.Active)
	}
	if x.Acting.Cold != 12 || x.Acting.Starts != 12 || x.Other.Cold != 1 || x.Other.Starts != 1 {
		t.Errorf("acting %+v, shadow %+v", x.Acting, x.Other)
	}
	// From its first call on, half a minute after noon, to the last step.
	if want := time.Hour - 40*second; x.Other.Warm != want || x.Other.Cost != 1000*Nanos(want.Seconds()) {
		t.Errorf("the shadow is warm for %s at %d nanos, want %s", x.Other.Warm, x.Other.Cost, want)
	}
	if x.Acting.Idle >= x.Acting.Warm || x.Acting.Warm >= x.Other.Warm || x.Acting.Idle == 0 {
		t.Errorf("acting %+v, shadow %+v", x.Acting, x.Other)
	}
	if d := x.Decision(); d.Rule != RuleKeepAlive || d.Inputs.Scale.KeepAlive != 10*time.Minute {
		t.Errorf("the shadow decides by %s: %s", d.Rule, d.Reason())
	}
}

// TestShadowWaitsForItsOwnStarts: a start that takes a minute leaves a shadow
// cold whose acting policy was warm.
func TestShadowWaitsForItsOwnStarts(t *testing.T) {
	s := newShadowed()
	s.service.Scale.Min, s.other.KeepAlive = 1, 0
	s.have = Instances{Ready: 1}
	s.at(0, Observation{StartUps: []time.Duration{70 * time.Second}})
	s.at(10*time.Second, Observation{}) // by now the shadow has let its instance go
	s.at(30*time.Second, Observation{Arrivals: 1, InProgress: 1})
	s.at(90*time.Second, Observation{Arrivals: 1, InProgress: 1})
	s.at(150*time.Second, Observation{Arrivals: 1, InProgress: 1})
	if x := s.shadow; x.Acting.Cold != 0 || x.Other.Cold != 2 || x.Other.Active != 3 || x.Other.Starts != 1 {
		t.Errorf("acting %+v, shadow %+v", x.Acting, x.Other)
	}
}

// TestShadowCountsWhoWaitsInTheKernel: callers of a berth are seen in progress
// before they are counted, and the minute is cold once.
func TestShadowCountsWhoWaitsInTheKernel(t *testing.T) {
	s := newShadowed()
	s.at(0, Observation{})
	s.at(10*time.Second, Observation{InProgress: 1})
	s.at(11*time.Second, Observation{InProgress: 1})
	s.at(12*time.Second, Observation{Arrivals: 1})
	if x := s.shadow; x.Acting.Active != 1 || x.Acting.Cold != 1 || x.Other.Cold != 1 {
		t.Errorf("acting %+v, shadow %+v", x.Acting, x.Other)
	}
}

// TestShadowDoesNotScoreWhatNobodySaw: callers who go elsewhere, and a machine
// that sleeps.
func TestShadowDoesNotScoreWhatNobodySaw(t *testing.T) {
	s := newShadowed()
	s.at(0, Observation{Arrivals: 1})
	s.at(10*time.Second, Observation{})
	warm := s.shadow.Other.Warm
	s.shadow.Rest()
	s.at(5*time.Minute, Observation{})
	if got := s.shadow.Other.Warm; got != warm {
		t.Errorf("%s warm after a rest, %s before", got, warm)
	}
	s.at(time.Hour, Observation{})
	if got := s.shadow.Other.Warm; got != warm {
		t.Errorf("%s warm after an hour without a step, %s before", got, warm)
	}
}
