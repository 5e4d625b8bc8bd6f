// Command polder runs regions of a multi-region edge gateway and asks them how
// they are. See polder help, and docs/cli.md for every command and exit code.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/polder/polder/bench/policy"
	"github.com/polder/polder/gateway"
)

// Exit codes, documented in docs/cli.md.
const (
	exitFailed   = 1 // the command could not do what was asked
	exitUsage    = 2 // wrong flags or arguments
	exitFaults   = 3 // the configuration has faults
	exitNotThere = 4 // the region or service asked for is not there
)

// exitError carries an exit code. An error without one exits with exitFailed.
type exitError struct {
	code int
	err  error // nil when everything was said already
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(execute(ctx, os.Args[1:]))
}

func execute(ctx context.Context, args []string) int {
	command := root()
	command.SetArgs(args)
	err := command.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(os.Stderr, "polder:", text)
	}
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.Is(err, gateway.ErrNotRunning):
		return exitNotThere
	}
	return exitFailed
}

func root() *cobra.Command {
	command := &cobra.Command{
		Use:   "polder",
		Short: "Multi-region edge gateway that starts services from zero, where their owners allow",
		Long: `Polder is the control plane of one Envoy per region. It routes to services that
may only live, and only be decrypted, where their owners allow, starts their
instances from zero when a request comes, and puts them to sleep again.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	command.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &exitError{exitUsage, fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	command.AddCommand(upCommand(), runCommand(), checkCommand(), statusCommand(), logsCommand(),
		loadCommand(), benchCommand(), versionCommand(), guardCommand())
	return command
}

func benchCommand() *cobra.Command {
	c := &cobra.Command{Use: "bench", Short: "Measure what Polder promises"}
	c.AddCommand(policy.Command())
	return c
}

// usage wraps a check of arguments so that it exits with exitUsage.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return &exitError{exitUsage, fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
		}
		return nil
	}
}
