// Command polder runs regions of a multi-region edge gateway and asks them how
// they are. See polder help, and docs/cli.md for every command and exit code.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	_ "time/tzdata" // schedules name time zones, also on machines without their tables

	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/bench/cold"
	"github.com/polder/polder/bench/convergence"
	"github.com/polder/polder/bench/failover"
	"github.com/polder/polder/bench/live"
	"github.com/polder/polder/bench/policy"
	"github.com/polder/polder/gateway"
)

// Exit codes.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitFaults   = 3
	exitNotThere = 4
	exitUnlawful = 5
	exitRefused  = 6
)

// exitCodes says what each one means; docs/cli.md is made from it.
var exitCodes = [...]string{
	exitDone:     "The command did what was asked, or was ended by Ctrl-C or SIGTERM as it is meant to be.",
	exitFailed:   "It could not: the message says what failed. `polder load` also exits so when a request was not answered as it should.",
	exitUsage:    "The command line is wrong: a command, flag, argument or value that does not exist, is missing or is out of range. Nothing was done.",
	exitFaults:   "The configuration has faults, or cannot be read.",
	exitNotThere: "Nothing runs with that state folder, or the region or service asked for is not there.",
	exitRefused:  "Draining would leave a service without a home. Nothing was done.",
	exitUnlawful: "A violation of the law was found: an Envoy that is not as it was published, a change that the proof refuses, or a ledger that another hand wrote to.",
}

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

// misused is the error of a command line that says something impossible.
func misused(format string, values ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, values...)}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once, unless the command is patient
	os.Exit(execute(ctx, os.Args[1:]))
}

// sayArguments has every command below c that has no commands of its own say what
// it takes when it is given something else.
func sayArguments(c *cobra.Command) {
	for _, child := range c.Commands() {
		sayArguments(child)
	}
	fits := c.Args
	if fits == nil || c.HasSubCommands() {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		switch err := fits(c, args); {
		case err == nil:
			return nil
		case len(args) == 0:
			return fmt.Errorf("an argument is missing: write %s", c.UseLine())
		default:
			return fmt.Errorf("%q is an argument too many: write %s", args[len(args)-1], c.UseLine())
		}
	}
}

func execute(ctx context.Context, args []string) int {
	command := root()
	begun := false
	noteBegin(command, &begun)
	sayArguments(command)
	command.SetArgs(args)
	failed, err := command.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	code := exitCode(err)
	if !begun {
		code = exitUsage // cobra found fault with the command line
	}
	text := err.Error()
	if code == exitUsage {
		text += "; see " + failed.CommandPath() + " --help"
	}
	if err.Error() != "" {
		fmt.Fprintln(os.Stderr, "polder:", text)
	}
	return code
}

func exitCode(err error) int {
	var exit *exitError
	var fault polder.Fault
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &fault):
		return exitFaults
	case errors.Is(err, gateway.ErrNotRunning), errors.Is(err, gateway.ErrNoRegion):
		return exitNotThere
	}
	return exitFailed
}

// noteBegin makes every command tell when its own work begins.
func noteBegin(c *cobra.Command, begun *bool) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*begun = true
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		noteBegin(sub, begun)
	}
}

func root() *cobra.Command {
	command := &cobra.Command{
		Use:   "polder",
		Short: "Multi-region edge gateway that starts services from zero, where their owners allow",
		Long: `Polder is the control plane of one Envoy per region. It routes to services that
may only live, and only be decrypted, where their owners allow, starts their
instances from zero when a request comes, and puts them to sleep again.`,
		SilenceUsage:               true,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 2,
	}
	command.AddCommand(upCommand(), runCommand(), checkCommand(), statusCommand(), logsCommand(), whyCommand(), costCommand(), adviseCommand(), auditCommand(), drainCommand(), undrainCommand(), nodeCommand(), clientCommand(), dnsCommand(),
		loadCommand(), benchCommand(), versionCommand(), guardCommand(), keepCommand())
	command.SetHelpCommand(helpCommand())
	command.InitDefaultHelpCmd()
	command.InitDefaultCompletionCmd()
	describeCompletion(command)
	groups(command)
	return command
}

// describeCompletion words cobra's own command as ours are.
func describeCompletion(root *cobra.Command) {
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Short = "Print completions for bash, zsh, fish or powershell"
			c.Long = `Prints the completions for a shell. Names of regions and services are completed as
well, from what runs. The help of each shell's command says where to put them.`
			c.Example = `  source <(polder completion bash)
  polder completion zsh >"${fpath[1]}/_polder"
  polder completion fish >~/.config/fish/completions/polder.fish`
		}
	}
}

// groups makes commands that only hold others show their help, and refuse what
// is none of theirs.
func groups(c *cobra.Command) {
	if c.HasSubCommands() && c.RunE == nil {
		c.Use, c.DisableFlagsInUseLine = c.Name()+" COMMAND", true
		c.Args = noSuchCommand
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	for _, sub := range c.Commands() {
		groups(sub)
	}
}

func noSuchCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	c.SuggestionsMinimumDistance = c.Root().SuggestionsMinimumDistance
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("%s has no command %q: did you mean %s?", c.CommandPath(), args[0], strings.Join(near, " or "))
	}
	return fmt.Errorf("%s has no command %q", c.CommandPath(), args[0])
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show help about a command",
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = noSuchCommand(about, rest)
			}
			if err != nil {
				return &exitError{exitUsage, err}
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

func benchCommand() *cobra.Command {
	c := &cobra.Command{Use: "bench", Short: "Measure what Polder promises"}
	c.AddCommand(policy.Command(), policy.TraceCommand(), convergence.Command(), cold.Command(), failover.Command(), live.Command())
	return c
}
