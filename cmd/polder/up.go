package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/gateway/fleet"
	"github.com/polder/polder/gateway/source"
	"github.com/polder/polder/regions"
)

func upCommand() *cobra.Command {
	var (
		config, state, tools string
		traces               string
		port, peers          int
		plain                bool
	)
	c := &cobra.Command{
		Use:   "up",
		Short: "Run every region of a configuration on this machine",
		Long: `Runs every region of a configuration as a process of its own, on loopback, with a
local certificate authority. Ctrl-C stops everything that it started, and so does
its own end, whatever the cause.

On a terminal it shows a living overview, otherwise plain lines. With --output json
it prints a line per event: "ready" for each region, then "curl" for each way to
call a service, and "log" all the time.`,
		Example: `  polder up --config examples/polder.yaml
  polder up --port 0 --plain`,
		Args: cobra.NoArgs,
	}
	output := outputFlag(c)
	f := c.Flags()
	f.StringVar(&config, "config", defaultConfig, "`path` of the configuration: a file, or a folder of .yaml files")
	f.StringVar(&state, "state", localState, "`folder` for what must survive a restart")
	f.StringVar(&tools, "tools", ".tools", "`folder` in which make envoy put Envoy, for when PATH has none")
	f.IntVar(&port, "port", 8443, "HTTPS `port` of the first region, the next ones follow; 0 takes free ports")
	f.IntVar(&peers, "peers", 1, "`number` of peers that each region runs")
	f.StringVar(&traces, "traces", "", "export what cold requests waited for as spans, over OTLP, to this collector, such as http://127.0.0.1:4317; it counts as being in each region")
	f.BoolVar(&plain, "plain", false, "print plain lines even on a terminal")
	folder(c, "state", "tools")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := absolute(&config, &state, &tools); err != nil {
			return err
		}
		model, err := firstModel(c.ErrOrStderr(), config)
		if err != nil {
			return err
		}
		if peers < 1 || peers*len(model.Regions) > regions.MaxPeers {
			return misused("--peers is %d, want 1 to %d: a membership of %d regions has at most %d peers",
				peers, regions.MaxPeers/max(1, len(model.Regions)), len(model.Regions), regions.MaxPeers)
		}
		if err := fleet.CheckPort(port, peers*len(model.Regions)); err != nil {
			return misused("--port: %w", err)
		}
		program, err := os.Executable()
		if err != nil {
			return fmt.Errorf("path of this program: %w", err)
		}
		view := newView(c.OutOrStdout(), c.ErrOrStderr(), *output, plain)
		plan, err := fleet.New(fleet.Options{
			Program: program, Config: config, State: state, Port: port, Peers: peers,
			Extra: []string{"--tools", tools, "--server-timing", "--traces", traces},
			Log:   slog.New(slog.NewTextHandler(view, nil)), Output: view.line,
		}, model.Regions)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(state, 0o700); err != nil {
			return err
		}
		if len(plan.Members()) == 0 {
			return &exitError{exitFaults, fmt.Errorf("%s names no region", config)}
		}
		ca, err := authority.Open(plan.Members()[0].Layout.Authority())
		if err != nil {
			return err
		}
		group, ctx := errgroup.WithContext(c.Context())
		ctx, done := context.WithCancel(ctx)
		group.Go(func() error { defer done(); return plan.Run(ctx) })
		group.Go(func() error { defer done(); return view.show(ctx, plan.Members(), ca.RootFile()) })
		return group.Wait()
	}
	return c
}

// firstModel reads the configuration once: which regions there are.
func firstModel(w io.Writer, config string) (*polder.Model, error) {
	reading := source.Source{Path: config}.Load()
	if err := polder.RenderFaults(w, reading.Faults, reading.Files); err != nil {
		return nil, err
	}
	if reading.Fatal {
		return nil, &exitError{code: exitFaults}
	}
	return reading.Model, nil
}
