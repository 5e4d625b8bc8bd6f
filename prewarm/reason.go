package prewarm

import (
	"fmt"
	"strings"
	"time"
)

// Reason says in words, and in money where there is a price list, why the
// decision was made. It is written on demand, since most decisions are never
// asked about.
func (d Decision) Reason() string {
	var b strings.Builder
	in := d.Inputs
	fmt.Fprintf(&b, "%s: ", d.Action)
	switch d.Rule {
	case RuleBudget:
		fmt.Fprintf(&b, "the budget is on the rung %q: no instance may start", in.Terms.Rung)
	case RuleDemand:
		requests := "requests"
		if in.Demand.Now == 1 {
			requests = "request"
		}
		fmt.Fprintf(&b, "%d %s in progress or waiting (mean %.1f over 60 s, %.1f over 6 s) at %d per instance ask for %d",
			in.Demand.Now, requests, in.Demand.Stable, in.Demand.Burst, in.Scale.Concurrency, in.Sized)
		if in.Held {
			fmt.Fprintf(&b, ", which were needed within the last %s", downHold)
		}
	case RuleMinimum:
		fmt.Fprintf(&b, "scale.min is %d", in.Scale.Min)
	case RuleSchedule:
		fmt.Fprintf(&b, "the schedule %q asks for %d until %s", in.Scheduled.Name, in.Scheduled.Min, in.Scheduled.Until.UTC().Format(time.RFC3339))
	case RuleAnnounced:
		fmt.Fprintf(&b, "a caller was announced for %s", in.Announced.UTC().Format(time.RFC3339))
		if in.Terms.Announcer != "" {
			fmt.Fprintf(&b, " by %s", in.Terms.Announcer)
		}
	case RuleKeepAlive:
		d.idleReason(&b, fmt.Sprintf("scale.keep-alive is %s", in.Scale.KeepAlive))
	case RuleNoData:
		d.idleReason(&b, fmt.Sprintf("not enough data for a forecast, so the keep-alive is %s", fallbackKeepAlive))
	case RuleForecast:
		d.forecastReason(&b)
	}
	if d.Paused > 0 && d.Rule != RuleForecast {
		fmt.Fprintf(&b, "; idle for longer than scale.pause (%s), it is paused", in.Scale.Pause)
	}
	if d.Rule != RuleBudget {
		d.boundReason(&b)
	}
	if in.Terms.Standing != "" {
		fmt.Fprintf(&b, "; %s", in.Terms.Standing)
	}
	return b.String()
}

func (d Decision) idleReason(b *strings.Builder, what string) {
	b.WriteString(what)
	if d.Inputs.Called {
		fmt.Fprintf(b, " and the last call was %s ago", d.Inputs.Idle.Round(time.Second))
	} else {
		b.WriteString(" and nobody has called yet")
	}
	if d.Desired > 0 && d.WarmCost > 0 {
		fmt.Fprintf(b, "; a minute warm costs %s", d.WarmCost.Format(d.Inputs.Terms.Prices.Currency))
	}
}

func (d Decision) forecastReason(b *strings.Builder) {
	f, p := d.Inputs.Forecast, d.Inputs.Terms.Prices
	fmt.Fprintf(b, "the chance of a call is %.2g %% this minute and %.2g %% in the next; an instance is worth it above %.2g %%",
		100*f.Now, 100*f.Next, 100*d.Threshold)
	if p.ColdStart > 0 && d.WarmCost > 0 {
		fmt.Fprintf(b, ", since a minute warm costs %s and a cold start is rated at %s",
			d.WarmCost.Format(p.Currency), p.ColdStart.Format(p.Currency))
	} else if d.WarmCost > 0 {
		fmt.Fprintf(b, " (the shipped balance, which rates a cold start at %s: a minute warm costs %s)",
			Nanos(float64(d.WarmCost)/defaultThreshold).Format(p.Currency), d.WarmCost.Format(p.Currency))
	} else {
		b.WriteString(" (the shipped default, since there is no price list)")
	}
	if p.Start > 0 && p.ColdStart > 0 {
		fmt.Fprintf(b, "; a start costs %s, and a call comes within %d minutes with %.2g %%", p.Start.Format(p.Currency), lookAhead, 100*f.Soon)
	}
	if d.Paused > 0 {
		b.WriteString("; one instance stays paused")
	}
}

func (d Decision) boundReason(b *strings.Builder) {
	in := d.Inputs
	switch ceiling := d.ceiling(); {
	case d.Desired != ceiling:
	case ceiling < in.Scale.Max:
		fmt.Fprintf(b, "; the budget is on the rung %q, which allows %d", in.Terms.Rung, ceiling)
	case in.Sized > ceiling:
		fmt.Fprintf(b, "; scale.max is %d", in.Scale.Max)
	}
}
