package policy

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/bench/sheet"
)

// Command returns "policy", for the command "polder bench".
func Command() *cobra.Command {
	o := DefaultOptions()
	var out sheet.Sheet
	var svg, half string
	var memory float64
	cmd := &cobra.Command{
		Use:   "policy TRACE",
		Short: "Replay a trace through the predictor and the policies of the literature",
		Long: `Replays the calls of a recorded trace in virtual time, through the code that
starts and stops real instances and through the policies of the literature,
and compares how many calls find no warm instance with what that costs.

TRACE is a file of the Azure Functions 2019 data set (calls per minute) or of
the 2021 one (single calls), as .csv, .gz, .xz, .zip or .tar.`,
		Args:         cobra.ExactArgs(1),
		SilenceUsage: true,
		PreRunE:      func(*cobra.Command, []string) error { return out.Check() },
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Trace, o.Half, o.Memory = args[0], Half(half), polder.Bytes(memory*(1<<20))
			report, err := Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			return errors.Join(sheet.File(svg, report.WriteSVG), out.Write(cmd.OutOrStdout(), report))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Weights, "weights", o.Weights, "`file` with a weight per function (HashFunction,weight)")
	flags.StringVar(&half, "functions", string(o.Half), "which functions: all, fitted or held-out (nothing that ships was fitted on those)")
	flags.IntVar(&o.From, "from", o.From, "first counted `minute`; what comes before warms up")
	flags.IntVar(&o.To, "to", o.To, "first `minute` that is not counted any more")
	flags.Float64SliceVar(&o.Thresholds, "thresholds", o.Thresholds, "chances of a call above which the predictor keeps an instance")
	flags.IntSliceVar(&o.KeepAlives, "keep-alive", o.KeepAlives, "fixed keep-alives in minutes")
	flags.IntVar(&o.Concurrency, "concurrency", o.Concurrency, "calls in progress that one instance takes, for a trace of single calls")
	flags.DurationVar(&o.StartUp, "start-up", o.StartUp, "what a start takes, for a trace of single calls")
	flags.Float64Var(&memory, "memory", float64(o.Memory)/(1<<20), "memory of one instance in `MiB`, for the price")
	flags.Int64Var((*int64)(&o.Prices.GiBSecond), "gib-second", int64(o.Prices.GiBSecond), "price of a GiB-second in `billionths` of the currency")
	flags.StringVar(&o.Prices.Currency, "currency", o.Prices.Currency, "currency of the price")
	flags.IntVar(&o.Workers, "workers", o.Workers, "functions simulated at the same time")
	flags.Lookup("workers").DefValue = "one per CPU"
	out.Flags(flags)
	flags.StringVar(&svg, "svg", "", "write the plot to this `file`")
	return cmd
}
