package live

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/polder/polder/bench/sheet"
)

// Command returns "live", for the command "polder bench".
func Command() *cobra.Command {
	o := DefaultOptions()
	var out sheet.Sheet
	cmd := &cobra.Command{
		Use:   "live [TRACE]",
		Short: "Replay a trace over real regions, and hold the simulator against them",
		Long: `Replays a part of a recorded trace over regions as polder up runs them, with real
Envoys and real instances, a minute in two seconds, under a fixed keep-alive and
under the predictor; and the same functions and minutes through the simulator of
polder bench policy. Compares how many minutes with calls began cold: it fails when
a measured share differs from the simulated one by more than --within, or a call
failed.

Only the predictor's clock is replaced: it shows the trace's time and runs faster,
so that slots, keep-alives, windows and lead times shrink alike. Instances start as
fast as they do, and callers are real. TRACE is as for polder bench policy; without
one, a synthetic trace is made.

Leave the machine alone meanwhile: everything runs on its processors.`,
		Example: `  polder bench live --html live.html
  polder bench live --weights azure2019-oneday.weights.csv azure2019-oneday.csv.xz
  polder bench live --functions 20 --regions 1 --to 780 azure2019-oneday.csv.xz`,
		Args:         cobra.MaximumNArgs(1),
		SilenceUsage: true,
		PreRunE: func(_ *cobra.Command, args []string) error {
			if err := out.Check(); err != nil {
				return err
			}
			if len(args) > 0 {
				o.Trace = args[0]
			}
			return o.Validate()
		},
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Polder, err = os.Executable(); err != nil {
				return fmt.Errorf("path of this program: %w", err)
			}
			o.Progress = sheet.Progress(cmd.ErrOrStderr())
			report, err := Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if err := out.Write(cmd.OutOrStdout(), report); err != nil {
				return err
			}
			switch {
			case report.Failed > 0:
				return fmt.Errorf("%d calls were not answered as they should", report.Failed)
			case !report.Within:
				return fmt.Errorf("measured cold shares are not within %.0f %% of the simulated ones", 100*report.Wanted)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Weights, "weights", o.Weights, "`file` with a weight per function (HashFunction,weight)")
	flags.IntVar(&o.Functions, "functions", o.Functions, "how many functions of the trace, picked so that they represent it")
	flags.Uint64Var(&o.Seed, "seed", o.Seed, "another `number` picks other functions")
	flags.Float64Var(&o.MaxRate, "max-rate", o.MaxRate, "leave out functions with more `calls` a minute on average, which no policy lets sleep; 0 for none")
	flags.IntVar(&o.From, "from", o.From, "first counted `minute`; what comes before is learned")
	flags.IntVar(&o.To, "to", o.To, "first `minute` that is not counted any more")
	flags.IntVar(&o.LeadIn, "lead-in", o.LeadIn, "`minutes` before the first counted one that are played too")
	flags.DurationVar(&o.KeepAlive, "keep-alive", o.KeepAlive, "keep-alive of the fixed policy, in the trace's time")
	flags.IntVar(&o.Calls, "calls", o.Calls, "most calls of one minute that are made, and simulated")
	flags.Float64Var(&o.Speed, "speed", o.Speed, "minutes of the trace in a minute")
	flags.IntVar(&o.Regions, "regions", o.Regions, "regions that share the functions")
	flags.Float64Var(&o.Within, "within", o.Within, "largest difference of the cold shares, relative to the simulated one")
	flags.StringVar(&o.Sleeper, "sleeper", o.Sleeper, "`path` of the program that instances run, which make bench-live builds")
	flags.StringVar(&o.Tools, "tools", o.Tools, "`folder` with the Envoy of make envoy; else the one on PATH is taken")
	out.Flags(flags)
	return cmd
}
