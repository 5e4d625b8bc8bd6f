package convergence

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/polder/polder/bench/sheet"
)

// Command returns "xds", for the command "polder bench".
func Command() *cobra.Command {
	o := DefaultOptions()
	var out sheet.Sheet
	var svg string
	cmd := &cobra.Command{
		Use:   "xds",
		Short: "Measure how fast a change reaches the callers, against the number of services",
		Long: `Starts a real Envoy with each number of services, changes one service at a
time, and measures how long until Envoy acknowledged it and until callers on
every worker see it, with the bytes, CPU and memory that it takes. The usual
shape, one route configuration for all behind go-control-plane's SnapshotCache,
is measured beside it. At the end many fake Envoys share one control plane.

Leave the machine alone meanwhile: the report tells its load, and ratios within
one report mean more than its figures.`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		PreRunE:      func(*cobra.Command, []string) error { return out.Check() },
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Progress = sheet.Progress(cmd.ErrOrStderr())
			report, err := Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			return errors.Join(sheet.File(svg, report.WriteSVG), out.Write(cmd.OutOrStdout(), report))
		},
	}
	flags := cmd.Flags()
	flags.IntSliceVar(&o.Services, "services", o.Services, "how many services, ascending")
	flags.IntVar(&o.Changes, "changes", o.Changes, "changes of each kind, at most")
	flags.IntVar(&o.Workers, "workers", o.Workers, "worker threads of Envoy")
	flags.BoolVar(&o.Usual, "usual", o.Usual, "measure the usual shape as well")
	flags.IntVar(&o.Envoys, "envoys", o.Envoys, "fake Envoys of the fan-out; 0 leaves it out")
	flags.IntVar(&o.FanOut, "fan-out-services", o.FanOut, "services of the fan-out")
	flags.StringVar(&o.Tools, "tools", o.Tools, "`folder` with the Envoy of make envoy; else the one on PATH is taken")
	out.Flags(flags)
	flags.StringVar(&svg, "svg", "", "write the plot to this `file`")
	return cmd
}
