package prewarm

import (
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func scale(keepAlive time.Duration) polder.Scale {
	return polder.Scale{Max: 10, Concurrency: 80, KeepAlive: keepAlive, Pause: polder.AutoPause, Prewarm: polder.PrewarmAuto}
}

func TestDecide(t *testing.T) {
	priced := Terms{
		Prices:    Prices{GiBSecond: 2500, ColdStart: 1_000_000},
		Footprint: Footprint{Memory: 1 << 28}, // a minute costs 37,500 nanos: λ = 3.75 %
	}
	starts := priced
	starts.Prices.Start = 500_000
	on := func(t Terms, r Rung) Terms { t.Rung = r; return t }
	pausing := func(t Terms) Terms {
		t.Pausing = Pausing{Possible: true, Share: 0.05, Resume: 30 * time.Millisecond}
		return t
	}
	resting := func(pause time.Duration) polder.Scale { s := scale(5 * time.Minute); s.Pause = pause; return s }
	tests := []struct {
		name    string
		in      Inputs
		action  Action
		desired int
		paused  int
		rule    Rule
		reason  string // must occur in the words
	}{
		{"nobody ever called", Inputs{Scale: scale(5 * time.Minute)}, Keep, 0, 0, RuleKeepAlive, "nobody has called yet"},
		{"a caller waits", Inputs{Scale: scale(5 * time.Minute), Sized: 1, Demand: Demand{Now: 1}}, Start, 1, 0, RuleDemand, "ask for 1"},
		{"within the keep-alive", Inputs{Scale: scale(5 * time.Minute), Called: true, Idle: 299 * time.Second, Instances: Instances{Ready: 1}},
			Keep, 1, 0, RuleKeepAlive, "4m59s ago"},
		{"at its end", Inputs{Scale: scale(5 * time.Minute), Called: true, Idle: 5 * time.Minute, Instances: Instances{Ready: 1}},
			Stop, 0, 0, RuleKeepAlive, "keep-alive is 5m0s"},
		{"keep-alive does not start anything", Inputs{Scale: scale(5 * time.Minute), Called: true, Idle: time.Second}, Keep, 0, 0, RuleKeepAlive, ""},
		{"idle for scale.pause", Inputs{Scale: resting(time.Minute), Called: true, Idle: time.Minute, Instances: Instances{Ready: 1}, Terms: pausing(Terms{})},
			Stop, 0, 1, RuleKeepAlive, "scale.pause (1m0s), it is paused"},
		{"not yet for scale.pause", Inputs{Scale: resting(time.Minute), Called: true, Idle: 59 * time.Second, Instances: Instances{Ready: 1}, Terms: pausing(Terms{})},
			Keep, 1, 0, RuleKeepAlive, ""},
		{"stays paused", Inputs{Scale: resting(time.Minute), Called: true, Idle: 299 * time.Second, Instances: Instances{Paused: 1}, Terms: pausing(Terms{})},
			Keep, 0, 1, RuleKeepAlive, "it is paused"},
		{"paused until the keep-alive ends", Inputs{Scale: resting(time.Minute), Called: true, Idle: 5 * time.Minute, Instances: Instances{Paused: 1}, Terms: pausing(Terms{})},
			Keep, 0, 0, RuleKeepAlive, ""},
		{"a caller of a paused one", Inputs{Scale: resting(0), Called: true, Sized: 1, Demand: Demand{Now: 1}, Instances: Instances{Paused: 1}, Terms: pausing(Terms{})},
			Start, 1, 0, RuleDemand, ""},
		{"never paused", Inputs{Scale: resting(polder.NeverPause), Called: true, Idle: 4 * time.Minute, Instances: Instances{Ready: 1}, Terms: pausing(Terms{})},
			Keep, 1, 0, RuleKeepAlive, ""},
		{"cannot be paused", Inputs{Scale: resting(0), Called: true, Idle: time.Minute, Instances: Instances{Ready: 1}},
			Keep, 1, 0, RuleKeepAlive, ""},
		{"no data: the fallback", Inputs{Scale: scale(polder.AutoKeepAlive), Called: true, Idle: 9 * time.Minute, Instances: Instances{Ready: 1}},
			Keep, 1, 0, RuleNoData, "not enough data"},
		{"bounded by max", Inputs{Scale: scale(time.Minute), Sized: 12, Demand: Demand{Now: 900}}, Start, 10, 0, RuleDemand, "scale.max is 10"},
		{"the minimum", Inputs{Scale: polder.Scale{Min: 2, Max: 10, Concurrency: 80}, Instances: Instances{Ready: 1}}, Start, 2, 0, RuleMinimum, "scale.min is 2"},
		{"announced", Inputs{Scale: scale(time.Minute), Announced: noon.Add(200 * time.Millisecond), StartUp: time.Second}, Start, 1, 0, RuleAnnounced, "announced"},
		{"announced, too early", Inputs{Scale: scale(time.Minute), Announced: noon.Add(5 * time.Second), StartUp: time.Second}, Keep, 0, 0, RuleKeepAlive, ""},
		{"announced, never came", Inputs{Scale: scale(time.Minute), Announced: noon.Add(-time.Minute), StartUp: time.Second, Idle: time.Hour, Instances: Instances{Ready: 1}},
			Stop, 0, 0, RuleKeepAlive, ""},
		{"worth keeping", Inputs{Scale: scale(polder.AutoKeepAlive), Instances: Instances{Ready: 1}, Forecast: Forecast{Known: true, Now: 0.03}, Terms: priced},
			Keep, 1, 0, RuleForecast, "0.000037 EUR"},
		{"not worth starting: hysteresis", Inputs{Scale: scale(polder.AutoKeepAlive), Forecast: Forecast{Known: true, Now: 0.03}, Terms: priced},
			Keep, 0, 0, RuleForecast, "above 3.8 %"},
		{"not worth keeping", Inputs{Scale: scale(polder.AutoKeepAlive), Called: true, Instances: Instances{Ready: 1}, Forecast: Forecast{Known: true, Now: 0.027}, Terms: priced},
			Stop, 0, 0, RuleForecast, "cold start is rated at 0.0010 EUR"},
		{"worth starting", Inputs{Scale: scale(polder.AutoKeepAlive), Forecast: Forecast{Known: true, Now: 0.04}, Terms: priced}, Start, 1, 0, RuleForecast, ""},
		{"worth starting with a fixed keep-alive too", Inputs{Scale: scale(time.Minute), Idle: time.Hour, Forecast: Forecast{Known: true, Now: 0.04}, Terms: priced},
			Start, 1, 0, RuleForecast, ""},
		{"prewarm off", Inputs{Scale: polder.Scale{Max: 1, KeepAlive: polder.AutoKeepAlive, Prewarm: polder.PrewarmOff}, Forecast: Forecast{Known: true, Now: 0.9}, Terms: priced},
			Keep, 0, 0, RuleForecast, ""},
		{"prewarm off keeps what is warm", Inputs{Scale: polder.Scale{Max: 1, KeepAlive: polder.AutoKeepAlive, Prewarm: polder.PrewarmOff},
			Instances: Instances{Ready: 1}, Forecast: Forecast{Known: true, Now: 0.9}, Terms: priced}, Keep, 1, 0, RuleForecast, ""},
		{"paused is cheaper", Inputs{Scale: scale(polder.AutoKeepAlive), StartUp: time.Second, Instances: Instances{Ready: 1},
			Forecast: Forecast{Known: true, Now: 0.015}, Terms: pausing(priced)}, Stop, 0, 1, RuleForecast, "stays paused"},
		{"stopped is cheaper still", Inputs{Scale: scale(polder.AutoKeepAlive), StartUp: time.Second, Instances: Instances{Paused: 1},
			Forecast: Forecast{Known: true, Now: 0.0001}, Terms: pausing(priced)}, Keep, 0, 0, RuleForecast, ""},
		{"nothing is started to be paused", Inputs{Scale: scale(polder.AutoKeepAlive), StartUp: time.Second,
			Forecast: Forecast{Known: true, Now: 0.015}, Terms: pausing(priced)}, Keep, 0, 0, RuleForecast, ""},
		{"a start that no call follows soon is not worth it", Inputs{Scale: scale(polder.AutoKeepAlive), Forecast: Forecast{Known: true, Now: 0.04, Soon: 0.3}, Terms: starts},
			Keep, 0, 0, RuleForecast, "a start costs 0.00050 EUR"},
		{"one that a call follows soon is", Inputs{Scale: scale(polder.AutoKeepAlive), Forecast: Forecast{Known: true, Now: 0.5, Soon: 0.9}, Terms: starts},
			Start, 1, 0, RuleForecast, ""},
		{"a stop that a start follows soon is not", Inputs{Scale: scale(polder.AutoKeepAlive), Instances: Instances{Ready: 1},
			Forecast: Forecast{Known: true, Now: 0.001, Soon: 0.1}, Terms: starts}, Keep, 1, 0, RuleForecast, ""},
		{"less prewarm", Inputs{Scale: scale(polder.AutoKeepAlive), Forecast: Forecast{Known: true, Now: 0.9}, Terms: on(priced, RungPrewarm)}, Keep, 0, 0, RuleForecast, ""},
		{"shorter keep-alive", Inputs{Scale: scale(time.Hour), Idle: time.Minute, Instances: Instances{Ready: 1}, Terms: on(Terms{}, RungShort)}, Stop, 0, 0, RuleKeepAlive, ""},
		{"fewer instances", Inputs{Scale: scale(time.Hour), Sized: 5, Demand: Demand{Now: 400}, Instances: Instances{Ready: 1}, Terms: on(Terms{}, RungFewer)},
			Keep, 1, 0, RuleDemand, "fewer instances"},
		{"held: nothing starts", Inputs{Scale: scale(time.Hour), Sized: 1, Demand: Demand{Now: 1}, Terms: on(Terms{}, RungHeld)}, Keep, 0, 0, RuleBudget, "held"},
		{"held: what runs finishes", Inputs{Scale: scale(time.Hour), Sized: 1, Demand: Demand{Now: 1}, Instances: Instances{Ready: 1}, Terms: on(Terms{}, RungHeld)},
			Keep, 1, 0, RuleDemand, ""},
		{"refused: what runs is paid for", Inputs{Scale: polder.Scale{Min: 1, Max: 2}, Instances: Instances{Ready: 1}, Terms: on(Terms{}, RungRefused)}, Keep, 1, 0, RuleMinimum, "refused"},
		{"refused: the minimum does not start", Inputs{Scale: polder.Scale{Min: 2, Max: 2}, Instances: Instances{Ready: 1}, Terms: on(Terms{Standing: "service a has spent 3 EUR"}, RungRefused)}, Keep, 1, 0, RuleBudget, "service a has spent 3 EUR"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.in.Now = noon
			d := Decide(tt.in)
			if d.Action != tt.action || d.Desired != tt.desired || d.Paused != tt.paused || d.Rule != tt.rule {
				t.Errorf("got %s %d (paused %d) by %q, want %s %d (paused %d) by %q; it says: %s",
					d.Action, d.Desired, d.Paused, d.Rule, tt.action, tt.desired, tt.paused, tt.rule, d.Reason())
			}
			if !strings.Contains(d.Reason(), tt.reason) {
				t.Errorf("the reason %q does not say %q", d.Reason(), tt.reason)
			}
			if !d.Until.After(tt.in.Now) {
				t.Errorf("ask again at %v, which is not after now", d.Until)
			}
		})
	}
}

// TestForecastLead starts an instance its own start-up time before the minute
// that it is needed in, and not earlier.
func TestForecastLead(t *testing.T) {
	in := Inputs{
		Now: noon.Add(30 * time.Second), Scale: scale(polder.AutoKeepAlive), StartUp: 10 * time.Second,
		Forecast: Forecast{Known: true, Next: 0.9},
	}
	d := Decide(in)
	lead := 10*time.Second + leadMargin
	if want := noon.Add(time.Minute - lead); d.Desired != 0 || !d.Until.Equal(want) {
		t.Fatalf("at 12:00:30: got %d until %v, want 0 until %v", d.Desired, d.Until, want)
	}
	in.Now = d.Until
	if d = Decide(in); d.Desired != 1 || d.Action != Start {
		t.Fatalf("at %v: got %s %d, want start 1", in.Now, d.Action, d.Desired)
	}
}

func genInputs(t *rapid.T) Inputs {
	count := rapid.IntRange(-1, 50)
	return Inputs{
		Now: noon.Add(time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "now"))),
		Scale: polder.Scale{
			Min: count.Draw(t, "min"), Max: count.Draw(t, "max"), Concurrency: count.Draw(t, "concurrency"),
			KeepAlive: time.Duration(rapid.Int64Range(-1, 1e12).Draw(t, "keep-alive")),
			Prewarm:   rapid.SampledFrom([]polder.Prewarm{polder.PrewarmAuto, polder.PrewarmOff, ""}).Draw(t, "prewarm"),
		},
		Instances: Instances{Ready: rapid.IntRange(0, 50).Draw(t, "ready"), Starting: rapid.IntRange(0, 5).Draw(t, "starting"), Paused: rapid.IntRange(0, 5).Draw(t, "paused")},
		Sized:     rapid.IntRange(0, 100).Draw(t, "sized"),
		Demand:    Demand{Now: rapid.IntRange(0, 100).Draw(t, "demand")},
		Idle:      time.Duration(rapid.Int64Range(0, 1e13).Draw(t, "idle")),
		StartUp:   time.Duration(rapid.Int64Range(0, 1e11).Draw(t, "start-up")),
		Forecast:  Forecast{Known: rapid.Bool().Draw(t, "known"), Now: rapid.Float64Range(0, 1).Draw(t, "p"), Next: rapid.Float64Range(0, 1).Draw(t, "next")},
		Terms: Terms{
			Rung:      Rung(rapid.IntRange(0, 7).Draw(t, "rung")),
			Prices:    Prices{GiBSecond: Nanos(rapid.Int64Range(0, 1e6).Draw(t, "gib")), ColdStart: Nanos(rapid.Int64Range(0, 1e9).Draw(t, "cold"))},
			Footprint: Footprint{Memory: polder.Bytes(rapid.Int64Range(0, 1<<40).Draw(t, "memory"))},
			Pausing:   Pausing{Possible: rapid.Bool().Draw(t, "pause"), Share: rapid.Float64Range(0, 1).Draw(t, "share"), Resume: time.Second},
		},
	}
}

func TestDecideProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genInputs(t)
		d := Decide(in)
		if d.Desired < 0 || d.Desired > max(in.Scale.Max, 0) {
			t.Fatalf("%d instances, though at most %d may run", d.Desired, in.Scale.Max)
		}
		if in.Terms.Rung >= RungHeld && d.Desired > in.Instances.Warm() {
			t.Fatalf("rung %q starts an instance", in.Terms.Rung)
		}
		if d.Paused > 0 && d.Paused+d.Desired > in.Instances.Warm()+in.Instances.Paused {
			t.Fatalf("%d paused and %d warm out of %+v", d.Paused, d.Desired, in.Instances)
		}
		if in.Terms.Rung == RungFree && in.Demand.Now > 0 && in.Sized > 0 && in.Scale.Max > 0 && d.Desired == 0 {
			t.Fatal("a caller waits and nothing starts")
		}
		if d.Reason() == "" || d.Rule == "" || !d.Until.After(in.Now) {
			t.Fatalf("incomplete: %+v", d)
		}
		again := in
		again.Terms.Rung = min(in.Terms.Rung+1, RungRefused)
		if e := Decide(again); e.Desired > d.Desired && in.Terms.Rung < RungRefused {
			t.Fatalf("less money, more instances: %d on %q, %d on %q", d.Desired, in.Terms.Rung, e.Desired, again.Terms.Rung)
		}
	})
}
