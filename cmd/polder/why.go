package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/regions/law"
)

const (
	// whyShown is how many cold requests of a service are shown.
	whyShown = 10
	// barWidth is the length of a phase that took all of the time, in characters.
	barWidth = 40
)

// whyAnswer is what polder why --output json prints.
type whyAnswer struct {
	Asked    string                `json:"asked"`
	Requests []gateway.ColdRequest `json:"requests"` // the latest first
	Services []whyService          `json:"services"` // by region: the service as it is now
}

// whyService is a service in one region, now.
type whyService struct {
	Region polder.RegionName `json:"region"`
	gateway.ServiceStatus
}

func whyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "why REQUEST-ID|SERVICE",
		Short: "Tell where a cold request went, what it waited for, and why",
		Long: fmt.Sprintf(`Tells of one request, by the x-request-id of its answer: which region and instance it
went to, how long each step of the cold start took, and why the instance was started.
Each region remembers its last %d cold requests. A request that found its instance
ready went straight from Envoy to it and is remembered by nobody.

Tells of a service: what each region decides for it now and why, and its last cold
requests.`, gateway.MaxColdRequests),
		Example: `  polder why 0c7e2f7c-5f3c-9f0f-8a3f-6ac1e1b0a0f4
  polder why billing --output json`,
		Args: cobra.ExactArgs(1),
	}
	output := outputFlag(c)
	state := stateFlag(c)
	c.ValidArgsFunction = completeServices(state)
	c.RunE = func(c *cobra.Command, args []string) error {
		answer, err := why(c.Context(), *state, args[0])
		if err != nil {
			return err
		}
		if *output == formatJSON {
			return printJSON(c.OutOrStdout(), answer)
		}
		return writeWhy(c.OutOrStdout(), answer, time.Now())
	}
	return c
}

// why asks every region of a request or a service.
func why(ctx context.Context, state, asked string) (whyAnswer, error) {
	answer := whyAnswer{Asked: asked}
	statuses, err := askAll(ctx, state)
	if err != nil {
		return answer, err
	}
	name := polder.ServiceName(asked)
	answer.Services = inRegions(statuses, name)
	query := gateway.ColdQuery{ID: asked, Limit: gateway.MaxColdRequests}
	if len(answer.Services) > 0 {
		query = gateway.ColdQuery{Service: name, Limit: whyShown}
	}
	if answer.Requests, err = coldRequests(ctx, state, statuses, query); err != nil {
		return answer, err
	}
	if len(answer.Services) > 0 {
		answer.Requests = answer.Requests[:min(len(answer.Requests), whyShown)]
		return answer, nil
	}
	if len(answer.Requests) == 0 {
		return answer, &exitError{exitNotThere, fmt.Errorf("no region remembers a cold request %q: it went straight to a ready instance, or is older than each region's last %d; and there is no service of that name, there are %s",
			asked, gateway.MaxColdRequests, listed(namesOf(statuses)))}
	}
	answer.Services = inRegions(statuses, answer.Requests[0].Service)
	return answer, nil
}

func inRegions(statuses []gateway.Status, name polder.ServiceName) []whyService {
	var list []whyService
	for _, s := range statuses {
		if service, ok := find(s, name); ok {
			list = append(list, whyService{s.Region, service})
		}
	}
	return list
}

// coldRequests gathers what the regions remember, the latest first.
func coldRequests(ctx context.Context, state string, statuses []gateway.Status, q gateway.ColdQuery) ([]gateway.ColdRequest, error) {
	parts := make([][]gateway.ColdRequest, len(statuses))
	group, ctx := errgroup.WithContext(ctx)
	for i, s := range statuses {
		layout, err := gateway.NewLayout(state, s.Region)
		if err != nil {
			return nil, err
		}
		group.Go(func() error {
			client := gateway.NewClient(layout.Of(s.Peer))
			defer client.Close()
			var err error
			if parts[i], err = client.Cold(ctx, q); errors.Is(err, gateway.ErrNotRunning) {
				return nil // it stopped since it was asked for its status
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := slices.Concat(parts...)
	slices.SortStableFunc(all, func(a, b gateway.ColdRequest) int { return b.Noticed.Compare(a.Noticed) })
	return slices.Concat([]gateway.ColdRequest{}, all), nil
}

func writeWhy(w io.Writer, a whyAnswer, now time.Time) error {
	if len(a.Services) == 0 || string(a.Services[0].Service) != a.Asked {
		for _, c := range a.Requests {
			writeCold(w, c, now)
		}
	} else {
		writeColdTable(w, a.Requests, now)
	}
	return writeNow(w, a.Services)
}

// writeCold tells of one request.
func writeCold(w io.Writer, c gateway.ColdRequest, now time.Time) {
	fmt.Fprintf(w, "request %s for %s, %s ago\n", c.ID, c.Service, now.Sub(c.Noticed).Round(time.Second))
	went := fmt.Sprintf("region %s, to no instance", c.Region)
	if c.Instance != "" {
		went = fmt.Sprintf("region %s, instance %s", c.Region, c.Instance)
	}
	fmt.Fprintf(w, "  went to   %s\n  answered  %s\n", went, outcome(c))
	if c.Cause != "" {
		fmt.Fprintf(w, "  because   %s\n", strings.ReplaceAll(c.Cause, "\n", "\n            "))
	}
	if c.Reason != "" && c.Instance == "" {
		fmt.Fprintf(w, "  see       polder logs %s\n", c.Service)
	}
	if c.Why != "" {
		fmt.Fprintf(w, "  started   %s\n", c.Why)
	}
	if c.Wakes > 1 {
		fmt.Fprintf(w, "  woken     %d times: the first instance was gone before the request reached it\n", c.Wakes)
	}
	fmt.Fprintln(w)
	for _, p := range c.Phases {
		fmt.Fprintf(w, "  %-10s %12s  %s\n", p.Phase, milliseconds(p.Took), bar(p.Took, c.Total))
	}
	fmt.Fprintf(w, "  %-10s %12s\n\n", "total", milliseconds(c.Total))
}

func outcome(c gateway.ColdRequest) string {
	switch {
	case c.Berth && c.Status != 0:
		return fmt.Sprintf("%d by the instance, at whose inherited socket it waited", c.Status)
	case c.Status == 0:
		return "not at all: the caller had left"
	case c.Moved:
		return "by the instance, to which Envoy sent it itself once it knew the instance: streams do not stay with the activator"
	case c.Answer != "":
		return fmt.Sprintf("%d at once, without an instance: the service's cold.answer for it is %s", c.Status, c.Answer)
	case c.Reason != "":
		return fmt.Sprintf("%d, %s", c.Status, c.Reason)
	}
	if c.Class == activator.Saturation {
		return fmt.Sprintf("%d by the instance, when it had room: all instances were busy", c.Status)
	}
	return fmt.Sprintf("%d by the instance, after it had started", c.Status)
}

// writeColdTable lists requests, a line each.
func writeColdTable(w io.Writer, requests []gateway.ColdRequest, now time.Time) {
	if len(requests) == 0 {
		fmt.Fprint(w, "No region remembers a cold request for it.\n\n")
		return
	}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "AGO\tREGION\tREQUEST\tINSTANCE\tANSWER\tTOTAL\tLONGEST")
	for _, c := range requests {
		longest := slices.MaxFunc(c.Phases, func(a, b gateway.ColdPhase) int { return int(a.Took - b.Took) })
		answer := fmt.Sprint(c.Status)
		id := c.ID
		switch {
		case c.Reason != "":
			answer = string(c.Reason)
		case c.Berth && c.Status == 0:
			id, answer = "at the socket", "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s %s\n", now.Sub(c.Noticed).Round(time.Second), c.Region, id, c.Instance,
			answer, milliseconds(c.Total), longest.Phase, milliseconds(longest.Took))
	}
	table.Flush()
	fmt.Fprintln(w)
}

// writeNow tells what each region decides for the service now.
func writeNow(w io.Writer, services []whyService) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "NOW\tHERE\tINSTANCES\tWHY")
	for _, s := range services {
		reasons := s.Reason
		if s.Verdict == law.Serve && s.Decision != "" {
			reasons = s.Decision
		}
		if s.Saturated != "" {
			reasons += "; all instances are busy: " + s.Saturated
		}
		if s.Failure != "" {
			reasons += "; the last start failed: " + firstLine(s.Failure)
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\n", s.Region, s.Verdict, len(s.Instances), reasons)
	}
	return table.Flush()
}

// milliseconds writes microseconds for people.
func milliseconds(us int64) string { return fmt.Sprintf("%.2f ms", float64(us)/1000) }

// bar draws a share of a whole. What took any time has at least a thin line.
func bar(part, whole int64) string {
	if part <= 0 || whole <= 0 {
		return ""
	}
	if n := int(part * barWidth / whole); n > 0 {
		return strings.Repeat("█", n)
	}
	return "▏"
}
