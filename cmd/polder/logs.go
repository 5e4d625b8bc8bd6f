package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
)

func logsCommand() *cobra.Command {
	q := gateway.LogQuery{}
	c := &cobra.Command{
		Use:   "logs SERVICE",
		Short: "Show what a service's instances wrote to stdout and stderr",
		Long: `Shows what the instances of a service wrote in all regions that run with the
state folder, those that have ended included.`,
		Example: `  polder logs billing
  polder logs billing --lines 0 --follow`,
		Args: cobra.ExactArgs(1),
	}
	output := outputFlag(c)
	state := stateFlag(c)
	c.ValidArgsFunction = completeServices(state)
	c.Flags().IntVarP(&q.Lines, "lines", "n", 50, fmt.Sprintf("past `lines` to show of each instance, at most %d", gateway.MaxLogLines))
	c.Flags().BoolVarP(&q.Follow, "follow", "f", false, "go on with what is written until Ctrl-C")
	c.RunE = func(c *cobra.Command, args []string) error {
		if q.Lines < 0 || q.Lines > gateway.MaxLogLines {
			return misused("--lines is %d, want 0 to %d", q.Lines, gateway.MaxLogLines)
		}
		q.Service = polder.ServiceName(args[0])
		statuses, err := askAll(c.Context(), *state)
		if err != nil {
			return err
		}
		known := false
		for _, s := range statuses {
			_, here := find(s, q.Service)
			known = known || here
		}
		if !known {
			return noSuchService(q.Service, statuses)
		}
		lines := &logPrinter{to: c.OutOrStdout(), format: *output}
		if err := showLogs(c.Context(), *state, q, lines.print); err != nil {
			return err
		}
		if lines.seen == 0 && *output == formatText {
			fmt.Fprintf(c.ErrOrStderr(), "service %q has written nothing in any region yet\n", q.Service)
		}
		return nil
	}
	return c
}

// showLogs merges what all regions have.
func showLogs(ctx context.Context, state string, q gateway.LogQuery, print func(gateway.LogLine) error) error {
	layouts, err := layoutsOf(state)
	if err != nil {
		return err
	}
	group, asking := errgroup.WithContext(ctx)
	for _, layout := range layouts {
		group.Go(func() error {
			client := gateway.NewClient(layout)
			defer client.Close()
			err := client.Logs(asking, q, print)
			if errors.Is(err, gateway.ErrNotRunning) || ctx.Err() != nil { // Ctrl-C is how following ends
				return nil
			}
			return err
		})
	}
	return group.Wait()
}

// logPrinter prints lines from several goroutines.
type logPrinter struct {
	format format

	mu   sync.Mutex // guards the two below
	to   io.Writer
	seen int
}

func (p *logPrinter) print(l gateway.LogLine) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen++
	if p.format == formatJSON {
		return jsonLine(p.to, l)
	}
	_, err := fmt.Fprintf(p.to, "%s %s %s\n", l.Region, l.Instance, l.Line)
	return err
}
