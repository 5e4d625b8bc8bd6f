package convergence

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// Command returns "xds", for the command "polder bench".
func Command() *cobra.Command {
	o := DefaultOptions()
	var output, html, svg string
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
		RunE: func(cmd *cobra.Command, _ []string) error {
			began := time.Now()
			o.Progress = func(format string, values ...any) {
				fmt.Fprintf(cmd.ErrOrStderr(), "%5.0f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, values...))
			}
			report, err := Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), report, output, html, svg)
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
	flags.StringVarP(&output, "output", "o", "text", "text or json")
	flags.StringVar(&html, "html", "", "write a page with the plot to this `file`")
	flags.StringVar(&svg, "svg", "", "write the plot to this `file`")
	return cmd
}

func write(w io.Writer, r Report, output, html, svg string) error {
	if html != "" {
		if err := writeFile(html, r.WriteHTML); err != nil {
			return err
		}
	}
	if svg != "" {
		if err := writeFile(svg, r.WriteSVG); err != nil {
			return err
		}
	}
	switch output {
	case "text":
		return r.WriteText(w)
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return fmt.Errorf("output %q: want text or json", output)
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := write(f); err != nil {
		f.Close()
		return fmt.Errorf("write report %s: %w", name, err)
	}
	return f.Close()
}
