package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/polder/polder/gateway"
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
	fmt.Fprintln(table, "REGION\tPEER\tHTTPS\tENVOY\tRESTARTS\tRESOURCES\tREJECTED\tCONFIG\tUP")
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
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s\n", s.Region, s.Peer, s.Listen.HTTPS, s.Envoy.State,
			s.Envoy.Restarts, resources, rejected, short(s.Config.Digest), time.Since(s.Started).Round(time.Second))
	}
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
	if err := table.Flush(); err != nil {
		return err
	}
	return writeTroubles(w, statuses)
}

// writeTroubles lists what someone should look at: faults of the configuration,
// rejected resources, what the machine does not allow.
func writeTroubles(w io.Writer, statuses []gateway.Status) error {
	for _, s := range statuses {
		for _, f := range s.Config.Faults {
			fmt.Fprintf(w, "\n%s: configuration: %s\n", s.Region, f.Error())
		}
		for _, n := range s.Nodes {
			for _, r := range n.Rejections {
				fmt.Fprintf(w, "\n%s: node %s rejected %s %s:\n  %s\n", s.Region, n.Node, shortType(r.Type), r.Name, r.Reason)
			}
		}
		for _, line := range s.Refused {
			fmt.Fprintf(w, "\n%s: the proof refused a change: %s\n", s.Region, line)
		}
		for _, line := range s.Degraded {
			fmt.Fprintf(w, "\n%s: %s\n", s.Region, line)
		}
	}
	return nil
}

func short(digest string) string { return digest[:min(8, len(digest))] }

// shortType is the last word of a resource's type URL.
func shortType(url string) string { return url[strings.LastIndexByte(url, '.')+1:] }

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
