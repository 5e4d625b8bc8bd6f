package failover

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/polder/polder/bench/sheet"
	"github.com/polder/polder/bench/testbed"
)

// Command returns "regions", for the command "polder bench".
func Command() *cobra.Command {
	o := DefaultOptions()
	var out sheet.Sheet
	cmd := &cobra.Command{
		Use:   "regions",
		Short: "Measure what callers feel when an Envoy, a machine or a region is lost",
		Long: `Runs three regions of real peers, each in a network namespace of its own, with the
delays of Paris, Amsterdam and Warsaw between them. Calls a service through a
gateway that lives while an Envoy, a machine or the region that serves is lost, and
measures the time from the loss to the last error and to the first answer from
elsewhere; and what the membership sends at rest.

It needs root, or a kernel that lets users make namespaces; it touches nothing of
the machine's network. make bench-regions adds what the simulation says of
memberships of 3 to 200 peers.

Leave the machine alone meanwhile: everything runs on its processors.`,
		Example: `  polder bench regions --html regions.html
  polder bench regions --rounds 1 --peers 1`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		PreRunE: func(*cobra.Command, []string) error {
			if err := out.Check(); err != nil {
				return err
			}
			return o.Validate()
		},
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if inside, err := testbed.Enter(); !inside {
				return err
			}
			if o.Polder, err = os.Executable(); err != nil {
				return fmt.Errorf("path of this program: %w", err)
			}
			o.Progress = sheet.Progress(cmd.ErrOrStderr())
			report, err := Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			return out.Write(cmd.OutOrStdout(), report)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&o.Rounds, "rounds", o.Rounds, "losses of each kind")
	flags.IntVar(&o.Peers, "peers", o.Peers, "peers of each region")
	flags.Float64Var(&o.Rate, "rate", o.Rate, "calls a second")
	flags.StringVar(&o.Gossip, "gossip", "", "`file` with what the membership's benchmark printed, to show beside")
	flags.StringVar(&o.Samples, "samples", o.Samples, "`folder` of the sample services, built")
	flags.StringVar(&o.Tools, "tools", o.Tools, "`folder` with the Envoy of make envoy; else the one on PATH is taken")
	out.Flags(flags)
	return cmd
}
