package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/polder/polder/gateway"
	"github.com/polder/polder/prewarm"
	"github.com/polder/polder/xds/server"
)

func statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show regions, Envoys, services, instances and rejected resources",
		Long: `Shows every region that runs with the state folder: its Envoy and what that
accepted or rejected, what happens to callers of each service there and why, and,
last, everything that someone should look at.`,
		Example: `  polder status
  polder status --state /var/lib/polder --output json`,
		Args: cobra.NoArgs,
	}
	output := outputFlag(c)
	state := stateFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		statuses, absent, err := ask(c.Context(), *state)
		if err != nil {
			return err
		}
		if *output == formatJSON {
			return printJSON(c.OutOrStdout(), statuses)
		}
		for _, region := range absent {
			fmt.Fprintf(c.ErrOrStderr(), "%s: ran with this state folder once and does not run now\n", region)
		}
		return writeStatus(c.OutOrStdout(), statuses)
	}
	return c
}

func writeStatus(w io.Writer, statuses []gateway.Status) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "REGION\tPEER\tHTTPS\tENVOY\tRESTARTS\tRESOURCES\tREJECTED\tPEERS\tCONFIG\tUP")
	for _, s := range statuses {
		accepted, pending, rejected := 0, 0, 0
		for _, n := range s.Nodes {
			rejected += len(n.Rejections)
			for _, t := range n.Types {
				accepted, pending = accepted+t.Accepted, pending+t.Pending
			}
		}
		resources := fmt.Sprint(accepted)
		if pending > 0 {
			resources += fmt.Sprintf(" (+%d)", pending)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s\t%s\n", s.Region, s.Peer, s.Listen.HTTPS, s.Envoy.State,
			s.Envoy.Restarts, resources, rejected, peersOf(s), short(s.Config.Digest), time.Since(s.Started).Round(time.Second))
	}
	writeNodes(table, statuses)
	fmt.Fprintln(table, "\nSERVICE\tREGION\tHERE\tINSTANCES\tREQUESTS\tDIRECT\tCOLD\tFAILED\tWHY")
	for _, s := range statuses {
		for _, v := range s.Services {
			here, why := string(v.Verdict), v.Reason
			if len(v.Targets) > 0 {
				names := make([]string, len(v.Targets))
				for i, t := range v.Targets {
					names[i] = string(t)
				}
				here += " → " + strings.Join(names, ", ")
			}
			switch {
			case v.Saturated != "":
				why = "all instances are busy: " + v.Saturated
			case v.Failure != "":
				why = v.Failure
			case v.Decision != "":
				why = v.Decision
			}
			ready := 0
			for _, i := range v.Instances {
				if i.State == "ready" {
					ready++
				}
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", v.Service, s.Region, here, ready,
				v.Totals.Requests, v.Totals.Direct, v.Totals.Cold, v.Totals.Failed, firstLine(why))
		}
	}
	writeShadows(table, statuses)
	if err := table.Flush(); err != nil {
		return err
	}
	return writeTroubles(w, statuses)
}

// writeShadows lists the policies that are scored beside those that act.
func writeShadows(table io.Writer, statuses []gateway.Status) {
	titled := false
	for _, s := range statuses {
		for _, v := range s.Services {
			x := v.Shadow
			if x == nil {
				continue
			}
			if !titled {
				fmt.Fprintln(table, "\nSHADOW OF\tREGION\tPOLICY\tCOLD\tSTARTS\tWARM\tIN VAIN\tCOST\tSINCE")
				titled = true
			}
			for _, row := range []struct {
				policy string
				score  prewarm.Score
			}{{"as it acts", x.Acting}, {toWrite(x.Scale()), x.Shadow}} {
				cost := "–"
				if x.Currency != "" {
					cost = row.score.Cost.Format(x.Currency)
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%d of %d (%.2f %%)\t%d\t%s\t%s\t%s\t%s\n", v.Service, s.Region, row.policy, row.score.Cold, row.score.Active,
					100*row.score.ColdShare(), row.score.Starts, row.score.Warm.Round(time.Second), row.score.Idle.Round(time.Second), cost, x.Since.UTC().Format("2006-01-02 15:04 UTC"))
			}
		}
	}
}

// writeNodes lists the Envoys, and the clients without one, of regions that have more
// than the one beside Polder.
func writeNodes(table io.Writer, statuses []gateway.Status) {
	titled := false
	for _, s := range statuses {
		if !slices.ContainsFunc(s.Nodes, func(n server.NodeStatus) bool { return n.Remote || n.Client }) {
			continue
		}
		if !titled {
			fmt.Fprintln(table, "\nNODE\tREGION\tWHERE\tRESOURCES\tPENDING\tREJECTED\tUP")
			titled = true
		}
		for _, n := range s.Nodes {
			where := "this machine"
			switch {
			case n.Remote:
				where = "other machine"
			case n.Client:
				where = "without an Envoy"
			}
			accepted, pending := 0, 0
			for _, t := range n.Types {
				accepted, pending = accepted+t.Accepted, pending+t.Pending
			}
			up := "not connected"
			if !n.Since.IsZero() {
				up = time.Since(n.Since).Round(time.Second).String()
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\t%s\n", n.Node, s.Region, where, accepted, pending, len(n.Rejections), up)
		}
	}
}

// peersOf says how many peers the region knows, and how many of them can serve.
func peersOf(s gateway.Status) string {
	healthy := 0
	for _, p := range s.Peers {
		if p.Healthy {
			healthy++
		}
	}
	return fmt.Sprintf("%d of %d", healthy, len(s.Peers))
}

// writeTroubles lists what someone should look at.
func writeTroubles(w io.Writer, statuses []gateway.Status) error {
	for _, t := range troubles(statuses) {
		if _, err := fmt.Fprintf(w, "\n%s: %s\n", t.where, t.text); err != nil {
			return err
		}
	}
	return nil
}

func short(digest string) string { return digest[:min(8, len(digest))] }
