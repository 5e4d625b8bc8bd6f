package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
)

// localState is the state folder of polder up, and what other commands look at.
const localState = ".polder"

func logsCommand() *cobra.Command {
	var state string
	q := gateway.LogQuery{}
	c := &cobra.Command{
		Use:   "logs SERVICE",
		Short: "Show what a service's instances wrote to stdout and stderr",
		Args:  usage(cobra.ExactArgs(1)),
		ValidArgsFunction: func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return serviceNames(c.Context(), state), cobra.ShellCompDirectiveNoFileComp
		},
	}
	output := outputFlag(c)
	c.Flags().StringVar(&state, "state", localState, "state folder of the regions to ask")
	c.Flags().IntVarP(&q.Lines, "lines", "n", 50, "past lines to show, per instance")
	c.Flags().BoolVarP(&q.Follow, "follow", "f", false, "go on showing new lines until Ctrl-C")
	c.MarkFlagDirname("state")
	c.RunE = func(c *cobra.Command, args []string) error {
		q.Service = polder.ServiceName(args[0])
		layouts, err := gateway.Regions(state)
		if err != nil {
			return &exitError{exitNotThere, err}
		}
		var mu sync.Mutex
		seen, answered := 0, 0
		show := func(l gateway.LogLine) error {
			mu.Lock()
			defer mu.Unlock()
			seen++
			if *output == formatJSON {
				return printLine(c, l)
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s %s %s\n", l.Region, l.Instance, l.Line)
			return err
		}
		group, ctx := errgroup.WithContext(c.Context())
		for _, layout := range layouts {
			group.Go(func() error {
				client := gateway.NewClient(layout)
				defer client.Close()
				err := client.Logs(ctx, q, show)
				if errors.Is(err, gateway.ErrNotRunning) {
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				answered++
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if answered == 0 {
			return &exitError{exitNotThere, errors.New("no region runs with this state folder: start one with polder up")}
		}
		if seen == 0 && *output == formatText {
			fmt.Fprintf(c.ErrOrStderr(), "service %q has written nothing in any region yet\n", q.Service)
		}
		return nil
	}
	return c
}

func printLine(c *cobra.Command, value any) error {
	return jsonLine(c.OutOrStdout(), value)
}

// serviceNames asks the running regions which services there are.
func serviceNames(ctx context.Context, state string) []string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	statuses, _ := askAll(ctx, state)
	seen := map[string]bool{}
	var names []string
	for _, s := range statuses {
		for _, service := range s.Services {
			if name := string(service.Service); !seen[name] {
				seen[name], names = true, append(names, name)
			}
		}
	}
	return names
}
