package cold

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/polder/polder/bench/sheet"
)

// Command returns "cold", for the command "polder bench".
func Command() *cobra.Command {
	o := DefaultOptions()
	var out sheet.Sheet
	cmd := &cobra.Command{
		Use:   "cold",
		Short: "Measure what callers of sleeping services feel, beside bare starts",
		Long: `Runs regions with a real Envoy and services that fall asleep after half a second,
and measures: each program's bare start against the first request of the sleeping
service, in turn; Envoy's processor time for warm requests, in turn with a bare
Envoy that has the same listener and no Polder; how much of a start the
ClientHello hides, from several distances; many callers of one sleeper, many
sleepers at once, and callers that come while services fall asleep, until these
have been woken often enough. All of it takes some five minutes. It fails when any
caller got an error, and when anything was started that nobody waited for.

Leave the machine alone meanwhile: the report tells its load, and what stands
side by side in one report means more than its figures.`,
		Example: `  polder bench cold --html cold.html
  polder bench cold --programs go,python --rounds 100 --rtt 0s --callers 0 --sleepers 0 --cycles 0`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		PreRunE: func(*cobra.Command, []string) error {
			if err := out.Check(); err != nil {
				return err
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
			return errors.Join(out.Write(cmd.OutOrStdout(), report), report.Faults())
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&o.Rounds, "rounds", o.Rounds, "cold starts of each program")
	flags.StringSliceVar(&o.Programs, "programs", o.Programs, "which programs")
	flags.DurationSliceVar(&o.RTTs, "rtt", o.RTTs, "round trips of the callers whose ClientHello wakes")
	flags.IntVar(&o.Hellos, "hellos", o.Hellos, "connections at each distance, with and without the wake-up")
	flags.IntVar(&o.Callers, "callers", o.Callers, "callers of one sleeper at once; 0 leaves them out")
	flags.IntVar(&o.Sleepers, "sleepers", o.Sleepers, "sleepers that are called at once; 0 leaves them out")
	flags.IntVar(&o.Warm, "warm", o.Warm, "warm requests through each of two Envoys, the region's and a bare one; 0 leaves them out")
	flags.IntVar(&o.Cycles, "cycles", o.Cycles, "times that services fall asleep and are woken under load; 0 leaves them out")
	flags.StringVar(&o.Samples, "samples", o.Samples, "`folder` of the sample services")
	flags.StringVar(&o.Sleeper, "sleeper", o.Sleeper, "`path` of the artificial program, which make bench-cold builds")
	flags.StringVar(&o.Tools, "tools", o.Tools, "`folder` with the Envoy of make envoy; else the one on PATH is taken")
	out.Flags(flags)
	return cmd
}
