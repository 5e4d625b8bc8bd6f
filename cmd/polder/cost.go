package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/prewarm"
	"github.com/polder/polder/prewarm/budget"
)

// costAnswer is what polder cost --output json prints. Amounts are in billionths
// of the currency unit.
type costAnswer struct {
	Totals  []costTotal          `json:"totals"` // over the regions that run with the state folder
	Regions []gateway.CostReport `json:"regions"`
}

// costTotal is one service or tenant in all regions together.
type costTotal struct {
	Service  polder.ServiceName  `json:"service,omitempty"`
	Tenant   polder.TenantName   `json:"tenant,omitempty"`
	Currency string              `json:"currency,omitempty"`
	Budget   *polder.Money       `json:"budget,omitempty"`
	Regions  []polder.RegionName `json:"regions"`
	Spent    prewarm.Nanos       `json:"spent"`
	Reserved prewarm.Nanos       `json:"reserved"`
	Used     budget.Usage        `json:"used"`
	Forecast budget.Forecast     `json:"forecast"`
}

func costCommand() *cobra.Command {
	var html string
	c := &cobra.Command{
		Use:   "cost [SERVICE]",
		Short: "Show what services and tenants cost: past, now, and at the month's end",
		Long: `Shows for each tenant and service, in all regions that run with the state folder and
in each, what this month has cost, what is set aside for running instances, the share
of the budget, and what the month will come to if the days go on as the last ones did
(from the cheapest to the dearest of them). The bars are the last 24 hours.

A budget is split evenly over the regions that may serve: each keeps to its share, also
when it is cut off from the others.`,
		Example: `  polder cost
  polder cost billing --output json
  polder cost --html cost.html`,
		Args: cobra.MaximumNArgs(1),
	}
	output := outputFlag(c)
	state := stateFlag(c)
	c.Flags().StringVar(&html, "html", "", "write a page with plots to this `file`")
	c.ValidArgsFunction = completeServices(state)
	c.RunE = func(c *cobra.Command, args []string) error {
		reports, err := costs(c.Context(), *state)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			if reports = costOf(reports, polder.ServiceName(args[0])); len(reports) == 0 {
				return &exitError{exitNotThere, fmt.Errorf("no region that runs here has an account of a service %q: see polder cost", args[0])}
			}
		}
		answer := costAnswer{Totals: costTotals(reports), Regions: reports}
		if html != "" {
			if err := writeCostPage(html, answer); err != nil {
				return err
			}
		}
		if *output == formatJSON {
			return printJSON(c.OutOrStdout(), answer)
		}
		return writeCost(c.OutOrStdout(), answer)
	}
	return c
}

// costs asks every region that runs with the state folder.
func costs(ctx context.Context, state string) ([]gateway.CostReport, error) {
	reports, _, err := askEach(ctx, state, (*gateway.Client).Cost)
	return reports, err
}

// costOf keeps one service, in the regions that know it.
func costOf(reports []gateway.CostReport, name polder.ServiceName) []gateway.CostReport {
	var kept []gateway.CostReport
	for _, r := range reports {
		i := slices.IndexFunc(r.Services, func(a gateway.Account) bool { return a.Service == name })
		if i >= 0 {
			r.Services, r.Tenants = r.Services[i:i+1], []gateway.Account{}
			kept = append(kept, r)
		}
	}
	return kept
}

// costTotals adds the regions up: tenants first, each by name.
func costTotals(reports []gateway.CostReport) []costTotal {
	totals := []costTotal{}
	add := func(r gateway.CostReport, a gateway.Account) {
		tenant := a.Tenant
		i := slices.IndexFunc(totals, func(t costTotal) bool {
			return t.Service == a.Service && t.Tenant == tenant && t.Currency == r.Currency
		})
		if i < 0 {
			i = len(totals)
			totals = append(totals, costTotal{Service: a.Service, Tenant: tenant, Currency: r.Currency, Budget: a.Budget, Forecast: budget.Forecast{Known: true}})
		}
		t := &totals[i]
		t.Regions = append(t.Regions, r.Region)
		t.Spent += a.Spent
		t.Reserved += a.Reserved
		t.Used.Add(a.Used)
		t.Forecast.Known = t.Forecast.Known && a.Forecast.Known
		t.Forecast.Low += a.Forecast.Low
		t.Forecast.Likely += a.Forecast.Likely
		t.Forecast.High += a.Forecast.High
	}
	for _, r := range reports {
		for _, a := range r.Tenants {
			add(r, a)
		}
		for _, a := range r.Services {
			add(r, a)
		}
	}
	slices.SortStableFunc(totals, func(a, b costTotal) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Service, b.Service))
	})
	return totals
}

func rank(t costTotal) int {
	if t.Service == "" {
		return 0
	}
	return 1
}

func writeCost(w io.Writer, a costAnswer) error {
	if !slices.ContainsFunc(a.Regions, func(r gateway.CostReport) bool { return r.Currency != "" }) {
		fmt.Fprint(w, "There is no price list (prices, in the configuration), so only use is counted.\n\n")
	}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "TENANT\tSERVICE\tREGIONS\tSPENT\tSET ASIDE\tBUDGET\tMONTH'S END\tINSTANCE-H\tGiB-H\tVCPU-H\tREQUESTS")
	for _, t := range a.Totals {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t%.2f\t%.3f\t%d\n", orDash(t.Tenant), orDash(t.Service), joined(t.Regions),
			t.Spent.Format(t.Currency), t.Reserved.Format(t.Currency), moneyOrDash(t.Budget), forecastText(t.Forecast, t.Currency),
			t.Used.Instances/3600, t.Used.Memory/3600, t.Used.CPU/3600, t.Used.Requests)
	}
	fmt.Fprintln(table, "\nREGION\tACCOUNT\tSPENT\tOF ITS SHARE\tMONTH'S END\tRUNNING\tLADDER\tLAST 24 HOURS")
	for _, r := range a.Regions {
		for _, x := range slices.Concat(r.Tenants, r.Services) {
			share := "–"
			if x.Limit != nil {
				share = fmt.Sprintf("%s %s", gauge(x.Spent+x.Reserved, *x.Limit), x.Limit.Format(r.Currency))
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", r.Region, accountName(x), x.Spent.Format(r.Currency), share,
				forecastText(x.Forecast, r.Currency), x.Running, cmp.Or(x.Rung, "–"), sparkline(x.Hours, 24))
		}
	}
	writePast(table, a.Regions)
	return table.Flush()
}

// writePast lists the bills of past months.
func writePast(w io.Writer, reports []gateway.CostReport) {
	headed := false
	for _, r := range reports {
		for _, x := range slices.Concat(r.Tenants, r.Services) {
			for _, bill := range x.Past {
				if !headed {
					fmt.Fprintln(w, "\nMONTH\tREGION\tACCOUNT\tSPENT\tREQUESTS")
					headed = true
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\n", bill.Month, r.Region, accountName(x), bill.Spent.Format(r.Currency), bill.Used.Requests)
			}
		}
	}
}

func accountName(a gateway.Account) string {
	if a.Service == "" {
		return "tenant " + string(a.Tenant)
	}
	return string(a.Service)
}

func forecastText(f budget.Forecast, currency string) string {
	if !f.Known {
		return "not known yet"
	}
	return fmt.Sprintf("%s (%s – %s)", f.Likely.Format(currency), f.Low.Format(currency), f.High.Format(currency))
}

func orDash[T ~string](s T) string { return cmp.Or(string(s), "–") }

func joined[T ~string](list []T) string {
	words := make([]string, len(list))
	for i, w := range list {
		words[i] = string(w)
	}
	return strings.Join(words, ", ")
}

func moneyOrDash(m *polder.Money) string {
	if m == nil {
		return "–"
	}
	return m.String()
}

// gauge draws a share of a limit, ten characters long.
func gauge(part, whole prewarm.Nanos) string {
	const width = 10
	n := width
	if whole > 0 {
		n = int(min(width, float64(part)/float64(whole)*width))
	}
	return strings.Repeat("█", n) + strings.Repeat("░", width-n)
}

// sparkline draws the last n values, each as high as its share of the highest.
func sparkline(values []prewarm.Nanos, n int) string {
	steps := []rune("▁▂▃▄▅▆▇█")
	values = values[max(0, len(values)-n):]
	var most prewarm.Nanos
	for _, v := range values {
		most = max(most, v)
	}
	var b strings.Builder
	for _, v := range values {
		if v == 0 {
			b.WriteByte(' ')
			continue
		}
		b.WriteRune(steps[int(float64(v)/float64(most)*float64(len(steps)-1))])
	}
	return b.String()
}

func writeCostPage(name string, a costAnswer) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("page of costs: %w", err)
	}
	err = costPage(f, a)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("page of costs %s: %w", name, err)
	}
	return nil
}
