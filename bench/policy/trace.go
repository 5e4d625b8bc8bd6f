package policy

import (
	"fmt"

	"github.com/polder/polder/loadtest/trace"
	"github.com/spf13/cobra"
)

// TraceCommand returns "trace", for the command "polder bench".
func TraceCommand() *cobra.Command {
	single := false
	s := trace.Synthetic{Functions: 4000, Minutes: trace.MinutesPerDay, Seed: 1}
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Write a synthetic trace with the shape of the public ones",
		Long: `Writes calls per minute of made-up functions, in the layout of the Azure Functions 2019
data set: rare, periodic, bursty and diurnal ones, in the mix and at the rates of that
set. With --single it writes the calls one by one with their durations, in the layout
of the 2021 set. Equal flags write equal bytes. Such a trace shows that something works, and how
fast; what a policy is worth, only real traces show.`,
		Example: `  polder bench trace >synthetic.csv && polder bench policy synthetic.csv
  polder bench trace --single --functions 200 >single.csv && polder bench policy single.csv
  polder bench trace --functions 100 --seed 7 | xz >small.csv.xz`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.Functions < 1 || s.Functions > maxFunctions {
				return fmt.Errorf("--functions is %d, want 1 to %d", s.Functions, maxFunctions)
			}
			if s.Minutes < 1 || s.Minutes > trace.MaxMinutes {
				return fmt.Errorf("--minutes is %d, want 1 to %d", s.Minutes, trace.MaxMinutes)
			}
			if single {
				return trace.WriteInvocations(cmd.OutOrStdout(), s.Invocations())
			}
			return trace.Write(cmd.OutOrStdout(), s.Minutes, s.All())
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&single, "single", false, "write single calls with durations instead of calls per minute")
	flags.IntVar(&s.Functions, "functions", s.Functions, "how many `functions`")
	flags.IntVar(&s.Minutes, "minutes", s.Minutes, fmt.Sprintf("how many `minutes`, 1 to %d", trace.MaxMinutes))
	flags.Uint64Var(&s.Seed, "seed", s.Seed, "another `number` makes other functions")
	return cmd
}
