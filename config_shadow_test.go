package polder

import (
	"strings"
	"testing"
	"time"
)

const shadowed = `regions:
  fr: { jurisdiction: [FR], location: [48.86, 2.35] }
prices: { currency: EUR, default: { gib-second: 0.0000025, vcpu-second: 0.000024, request: 0 } }
services:
  billing: { hosts: [billing.example.com], residency: { allow: [fr] }, run: { command: [./billing] }, scale: SCALE }
`

func TestShadowTakesWhatItLeavesOutFromTheScale(t *testing.T) {
	for text, want := range map[string]Shadow{
		"{ keep-alive: 10m, prewarm: off, shadow: { keep-alive: auto, prewarm: auto } }": {KeepAlive: AutoKeepAlive, Prewarm: PrewarmAuto},
		"{ keep-alive: 10m, prewarm: off, shadow: { keep-alive: 1h } }":                  {KeepAlive: time.Hour, Prewarm: PrewarmOff},
		"{ cold-start: 0.001, shadow: { cold-start: 0.002 } }":                           {KeepAlive: AutoKeepAlive, Prewarm: PrewarmAuto, ColdStart: 2_000_000},
		"{ cold-start: 0.001, shadow: { keep-alive: 0s } }":                              {Prewarm: PrewarmAuto, ColdStart: 1_000_000},
	} {
		m := decodeGood(t, strings.ReplaceAll(shadowed, "SCALE", text))
		s := m.Services[0].Scale
		if s.Shadow == nil || *s.Shadow != want {
			t.Errorf("%s: %+v, want %+v", text, s.Shadow, want)
			continue
		}
		if other := s.Shadowed(); other.KeepAlive != want.KeepAlive || other.Prewarm != want.Prewarm || other.ColdStart != want.ColdStart ||
			other.Max != s.Max || other.Shadow != nil {
			t.Errorf("%s: as a scale it is %+v", text, other)
		}
	}
}

func TestShadowFaults(t *testing.T) {
	for text, want := range map[string]string{
		"{ keep-alive: 10m, shadow: { keep-alive: 10m } }": "services.billing.scale.shadow | the shadow is the policy that acts",
		"{ shadow: {} }":                         "services.billing.scale.shadow | the shadow is the policy that acts",
		"{ shadow: { keep-alive: 31d } }":        `services.billing.scale.shadow.keep-alive | "31d" is out of bounds`,
		"{ shadow: { prewarm: maybe } }":         `services.billing.scale.shadow.prewarm | "maybe" is not a choice`,
		"{ shadow: { keep-alive: 1h, max: 3 } }": `services.billing.scale.shadow.max | unknown key "max"`,
	} {
		faults := Decode([]File{{Name: "polder.yaml", Data: []byte(strings.ReplaceAll(shadowed, "SCALE", text))}}).Faults
		if len(faults) != 1 || !strings.HasPrefix(faults[0].Path+" | "+faults[0].Message, want) {
			t.Errorf("%s: %v, want %s", text, faults, want)
		}
	}
}
