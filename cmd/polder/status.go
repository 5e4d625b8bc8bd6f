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

	"github.com/polder/polder/gateway"
)

func statusCommand() *cobra.Command {
	var state string
	c := &cobra.Command{
		Use:   "status",
		Short: "Show regions, Envoys, services, instances and rejected resources",
		Args:  usage(cobra.NoArgs),
	}
	output := outputFlag(c)
	c.Flags().StringVar(&state, "state", localState, "state folder of the regions to ask")
	c.MarkFlagDirname("state")
	c.RunE = func(c *cobra.Command, _ []string) error {
		statuses, err := askAll(c.Context(), state)
		if err != nil {
			return err
		}
		if *output == formatJSON {
			return printJSON(c.OutOrStdout(), statuses)
		}
		return writeStatus(c.OutOrStdout(), statuses)
	}
	return c
}

// askAll asks every region that runs with the state folder.
func askAll(ctx context.Context, state string) ([]gateway.Status, error) {
	layouts, err := gateway.Regions(state)
	if err != nil {
		return nil, &exitError{exitNotThere, err}
	}
	var statuses []gateway.Status
	var last error
	for _, layout := range layouts {
		client := gateway.NewClient(layout)
		status, err := client.Status(ctx)
		client.Close()
		switch {
		case errors.Is(err, gateway.ErrNotRunning):
			last = err
		case err != nil:
			return nil, err
		default:
			statuses = append(statuses, status)
		}
	}
	if len(statuses) == 0 {
		return nil, last
	}
	return statuses, nil
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
