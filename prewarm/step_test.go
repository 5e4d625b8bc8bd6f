package prewarm

import (
	"testing"
	"time"

	"github.com/polder/polder"
)

func TestStepFollowsOneServiceThroughADay(t *testing.T) {
	service := polder.Service{Name: "billing", Scale: scale(5 * time.Minute), Run: &polder.Run{Memory: 1 << 28}}
	terms := Terms{Prices: Prices{GiBSecond: 2500}}
	var s State
	at := func(d time.Duration, obs Observation) Decision {
		obs.Now = noon.Add(d)
		return Step(&s, service, obs, terms)
	}
	check := func(what string, d Decision, desired int, rule Rule) {
		t.Helper()
		if d.Desired != desired || d.Rule != rule {
			t.Fatalf("%s: got %d by %q, want %d by %q: %s", what, d.Desired, d.Rule, desired, rule, d.Reason())
		}
	}
	check("asleep", at(0, Observation{}), 0, RuleKeepAlive)
	check("the first caller", at(time.Hour, Observation{Arrivals: 1, Waiting: 1}), 1, RuleDemand)
	d := at(time.Hour+time.Second, Observation{Instances: Instances{Ready: 1}, StartUps: []time.Duration{time.Second}})
	check("served", d, 1, RuleKeepAlive)
	if d.WarmCost != 37_500 {
		t.Errorf("a minute of 256 MiB at 2500 nanos per GiB-second: got %d nanos, want 37500", d.WarmCost)
	}
	end := time.Hour + 5*time.Minute
	if want := noon.Add(time.Hour + time.Second + time.Minute); !d.Until.Equal(want) {
		t.Errorf("ask again at %v, want %v", d.Until, want)
	}
	warm := Observation{Instances: Instances{Ready: 1}}
	check("a second before the end", at(end-time.Second, warm), 1, RuleKeepAlive)
	check("the end", at(end, warm), 0, RuleKeepAlive)

	open := Observation{Instances: Instances{Ready: 1}, InProgress: 1}
	check("a stream opens", at(2*time.Hour, open), 1, RuleDemand)
	check("an open stream keeps it awake", at(4*time.Hour, open), 1, RuleDemand)
	check("it closes", at(4*time.Hour+time.Second, warm), 1, RuleKeepAlive)

	crowd := Observation{Arrivals: 400, InProgress: 400, Instances: Instances{Ready: 1}}
	at(5*time.Hour, crowd)
	check("a crowd for six seconds", at(5*time.Hour+6*time.Second, crowd), 8, RuleDemand)
	if d := at(time.Hour, Observation{}); d.Inputs.Now.Before(noon.Add(5 * time.Hour)) {
		t.Errorf("a clock that jumped back moved the state to %v", d.Inputs.Now)
	}
}

func TestStepAnnouncedCaller(t *testing.T) {
	service := polder.Service{Scale: scale(time.Minute)}
	var s State
	step := func(d time.Duration, obs Observation) Decision {
		obs.Now = noon.Add(d)
		return Step(&s, service, obs, Terms{})
	}
	due := 10 * time.Second
	d := step(0, Observation{Expected: noon.Add(due)})
	if want := noon.Add(due - defaultStartUp - leadMargin); d.Desired != 0 || !d.Until.Equal(want) {
		t.Fatalf("got %d until %v, want to be asked again at %v", d.Desired, d.Until, want)
	}
	if d = step(due-defaultStartUp-leadMargin, Observation{}); d.Desired != 1 || d.Action != Start {
		t.Fatalf("its start-up time before the caller: got %s %d", d.Action, d.Desired)
	}
	if d = step(due+announcedGrace, Observation{Instances: Instances{Ready: 1}}); d.Desired != 1 || d.Rule != RuleKeepAlive {
		t.Fatalf("nobody came: got %d by %q, want the keep-alive to run from the first observation", d.Desired, d.Rule)
	}
	if d = step(due+2*time.Minute, Observation{Instances: Instances{Ready: 1}}); d.Desired != 0 {
		t.Fatalf("and it ends: got %d", d.Desired)
	}
}
