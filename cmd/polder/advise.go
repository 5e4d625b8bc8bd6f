package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/bench/policy"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/books"
	"github.com/polder/polder/prewarm"
)

// regionAdvice is what polder advise --output json prints for each region.
type regionAdvice struct {
	Region   polder.RegionName     `json:"region"`
	From     time.Time             `json:"from"`
	Currency string                `json:"currency,omitempty"`
	StartUp  time.Duration         `json:"start_up"` // p95, in nanoseconds: what a cold caller waits
	Advice   policy.Advice         `json:"advice"`
	More     *policy.AdviceChoice  `json:"more,omitempty"` // what so much more a month would buy
	TooShort string                `json:"too_short,omitempty"`
	Shadow   *gateway.ShadowStatus `json:"shadow,omitempty"` // the policy that is scored without acting, as it went
}

// trial is a scale to score, as flags.
type trial struct {
	keepAlive, prewarm, coldStart string
}

func adviseCommand() *cobra.Command {
	var try trial
	more := "1"
	c := &cobra.Command{
		Use:   "advise SERVICE",
		Short: "Tell what other policies would have cost a service, and how often it had been cold",
		Long: fmt.Sprintf(`Replays the calls of a service that each region has on record (of the last %d days)
through the code that decides, and through fixed keep-alives: how often a call found no
instance, against what instances cost in 30 days like these. Says what to write for each,
and what a little more money would buy. Nothing is started, stopped or changed, and no
record leaves its region but to whoever runs this command there.

With --keep-alive, --prewarm or --cold-start a policy of one's own is scored beside them.
One instance is reckoned with, and a call takes no time.`, books.Days),
		Example: `  polder advise billing
  polder advise billing --more 0.50
  polder advise billing --keep-alive 20m --prewarm off`,
		Args: cobra.ExactArgs(1),
	}
	output := outputFlag(c)
	state := stateFlag(c)
	c.Flags().StringVar(&more, "more", more, "how much `money` more a month may cost")
	c.Flags().StringVar(&try.keepAlive, "keep-alive", "", "score this keep-alive: a `duration`, or auto")
	c.Flags().StringVar(&try.prewarm, "prewarm", "", "score with prewarm `auto|off`")
	c.Flags().StringVar(&try.coldStart, "cold-start", "", "score with a cold start rated at this much `money`")
	c.ValidArgsFunction = completeServices(state)
	c.RunE = func(c *cobra.Command, args []string) error {
		extra, err := polder.ParseRate(more)
		if err != nil {
			return misused("--more: %w", err)
		}
		if _, err := try.apply(polder.Scale{}); err != nil {
			return err
		}
		records, err := recordsOf(c.Context(), *state, polder.ServiceName(args[0]))
		if err != nil {
			return err
		}
		list, err := advise(records, try, prewarm.Nanos(extra))
		if err != nil {
			return err
		}
		if *output == formatJSON {
			return printJSON(c.OutOrStdout(), list)
		}
		return writeAdvice(c.OutOrStdout(), list, more)
	}
	return c
}

// apply changes a scale by the flags; false if there are none.
func (t trial) apply(s polder.Scale) (polder.Scale, error) {
	if t.keepAlive == "auto" {
		s.KeepAlive = polder.AutoKeepAlive
	} else if t.keepAlive != "" {
		d, err := polder.ParseDuration(t.keepAlive)
		if err != nil || d < 0 {
			return s, misused("--keep-alive is %q, want a duration such as 20m, or auto", t.keepAlive)
		}
		s.KeepAlive = d
	}
	switch t.prewarm {
	case "":
	case string(polder.PrewarmAuto), string(polder.PrewarmOff):
		s.Prewarm = polder.Prewarm(t.prewarm)
	default:
		return s, misused("--prewarm is %q, want auto or off", t.prewarm)
	}
	if t.coldStart != "" {
		rate, err := polder.ParseRate(t.coldStart)
		if err != nil {
			return s, misused("--cold-start: %w", err)
		}
		s.ColdStart = rate
	}
	return s, nil
}

// recordsOf asks every region that runs for the service's calls.
func recordsOf(ctx context.Context, state string, name polder.ServiceName) ([]gateway.CallRecord, error) {
	statuses, err := askAll(ctx, state)
	if err != nil {
		return nil, err
	}
	var records []gateway.CallRecord
	for _, s := range statuses {
		service, known := find(s, name)
		if !known || service.Decision == "" {
			continue // not served, or not started, there
		}
		layout, err := gateway.NewLayout(state, s.Region)
		if err != nil {
			return nil, err
		}
		client := gateway.NewClient(layout)
		record, err := client.Calls(ctx, name)
		client.Close()
		if err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	if len(records) == 0 {
		if len(inRegions(statuses, name)) == 0 {
			return nil, noSuchService(name, statuses)
		}
		return nil, &exitError{exitNotThere, fmt.Errorf("service %s is started in none of the regions that run here, so none has its calls on record", name)}
	}
	return records, nil
}

func advise(records []gateway.CallRecord, try trial, more prewarm.Nanos) ([]regionAdvice, error) {
	var list []regionAdvice
	for _, r := range records {
		recorded := policy.Recorded{From: r.From, Counts: r.Counts, Scale: r.Scale, Prices: r.Prices, Footprint: r.Footprint}
		if try != (trial{}) {
			scale, err := try.apply(r.Scale)
			if err != nil {
				return nil, err
			}
			recorded.Try = &scale
		}
		a := regionAdvice{Region: r.Region, From: r.From, Currency: r.Prices.Currency, StartUp: r.StartUp, Shadow: r.Shadow}
		var err error
		a.Advice, err = policy.Advise(recorded)
		switch {
		case errors.Is(err, policy.ErrTooShort):
			a.TooShort = err.Error()
		case err != nil:
			return nil, err
		default:
			if c, found := a.Advice.More(more); found {
				a.More = &c
			}
		}
		list = append(list, a)
	}
	return list, nil
}

func writeAdvice(w io.Writer, list []regionAdvice, more string) error {
	tables := 0
	for _, a := range list {
		if a.TooShort != "" {
			fmt.Fprintf(w, "%s: %s\n", a.Region, a.TooShort)
			writeShadow(w, a)
			continue
		}
		fmt.Fprintf(w, "%s: %d calls in %d of %d minutes since %s; a cold one waits for some %s\n", a.Region, a.Advice.Calls, a.Advice.Active,
			a.Advice.Minutes, a.From.Add(time.Duration(a.Advice.Warmup)*time.Minute).Format("2006-01-02 15:04 UTC"), a.StartUp.Round(time.Millisecond))
		table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		fmt.Fprintln(table, "\tCOST A MONTH\tWARM\tCOLD\tCOLD MINUTES A MONTH\t\tPOLICY\tscale")
		for _, c := range a.Advice.Choices {
			mark := " "
			switch {
			case c.Present:
				mark = "▶"
			case c.Tried:
				mark = "?"
			case c.Best:
				mark = "•"
			}
			cost := "–"
			if a.Currency != "" {
				cost = c.Cost.Format(a.Currency)
			}
			fmt.Fprintf(table, "%s\t%s\t%.1f %%\t%.1f %%\t%.0f\t%s\t%s\t%s\n", mark, cost, 100*c.Warm, 100*c.Cold, c.PerMonth,
				strings.Repeat("█", int(c.Cold*20+0.5)), c.Policy, toWrite(c.Scale))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		writeMore(w, a, more)
		writeShadow(w, a)
		tables++
	}
	if tables == 0 {
		return nil
	}
	_, err := fmt.Fprintln(w, "▶ as it is now   • nothing else is both cheaper and less often cold   ? as asked")
	return err
}

// writeShadow says how the service's shadow fared, measured and not replayed.
func writeShadow(w io.Writer, a regionAdvice) {
	if a.Shadow != nil {
		fmt.Fprintf(w, "The shadow %s was scored as calls came: %s.\n", toWrite(a.Shadow.Scale()), a.Shadow)
	}
	fmt.Fprintln(w)
}

// writeMore says what more money would buy.
func writeMore(w io.Writer, a regionAdvice, more string) {
	now := a.Advice.Present()
	switch {
	case a.More == nil:
		fmt.Fprintf(w, "%s %s more a month would buy nothing.\n", more, a.Currency)
	case a.More.Cost <= now.Cost:
		fmt.Fprintf(w, "For no more money, %.0f cold minutes a month instead of %.0f: write %s.\n", a.More.PerMonth, now.PerMonth, toWrite(a.More.Scale))
	default:
		fmt.Fprintf(w, "%s more a month would buy %.0f cold minutes instead of %.0f: write %s.\n",
			(a.More.Cost - now.Cost).Format(a.Currency), a.More.PerMonth, now.PerMonth, toWrite(a.More.Scale))
	}
}

// toWrite is how the configuration says it.
func toWrite(s polder.Scale) string {
	var words []string
	if s.Min > 0 {
		words = append(words, fmt.Sprintf("min: %d", s.Min))
	}
	keepAlive := "auto"
	if s.KeepAlive >= 0 {
		keepAlive = s.KeepAlive.String()
		for _, zero := range []string{"m0s", "h0m"} {
			if strings.HasSuffix(keepAlive, zero) {
				keepAlive = keepAlive[:len(keepAlive)-2]
			}
		}
	}
	words = append(words, "keep-alive: "+keepAlive, "prewarm: "+string(s.Prewarm))
	if s.ColdStart > 0 {
		words = append(words, fmt.Sprintf("cold-start: %s", s.ColdStart))
	}
	return "{ " + strings.Join(words, ", ") + " }"
}
