package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/source"
)

// defaultConfig is where commands look for the configuration.
const defaultConfig = "polder.yaml"

// checkReport is what polder check tells programs.
type checkReport struct {
	Regions  int            `json:"regions"`
	Services int            `json:"services"`
	Fatal    bool           `json:"fatal"` // nothing of it can be used
	Faults   []polder.Fault `json:"faults"`
}

func checkCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "check [PATH]",
		Short: "Check a configuration and show every fault with its place and remedy",
		Long: `Checks a configuration file, or a folder of .yaml files (default polder.yaml),
and shows all faults at once. Nothing needs to run.

With --explain it shows what each region does with the callers of a service, and
every end that a connection or request can come to there, as the proof finds them
in what Envoy would be given: all regions are taken to live, and one instance of
each service to run wherever it may. Exit code 5 means that the proof refuses it.`,
		Example: `  polder check examples/polder.yaml
  polder check /etc/polder --output json
  polder check examples/polder.yaml --explain billing`,
		Args: cobra.MaximumNArgs(1),
	}
	output := outputFlag(c)
	var explain, path string
	c.Flags().StringVar(&path, "config", defaultConfig, "`path` to check, as the other commands take it; PATH says the same")
	c.Flags().StringVar(&explain, "explain", "", "`service` whose ways to show, region by region: where its callers can get, and why")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			if c.Flags().Changed("config") {
				return misused("what to check is said twice: --config %s and %s; say one of them", path, args[0])
			}
			path = args[0]
		}
		reading := source.Source{Path: path}.Load()
		if explain != "" && !reading.Fatal {
			return explainService(c, *output, reading.Model, polder.ServiceName(explain))
		}
		report := checkReport{Fatal: reading.Fatal, Faults: reading.Faults}
		if reading.Model != nil {
			report.Regions, report.Services = len(reading.Model.Regions), len(reading.Model.Services)
		}
		var err error
		switch {
		case *output == formatJSON:
			if report.Faults == nil {
				report.Faults = []polder.Fault{}
			}
			err = printJSON(c.OutOrStdout(), report)
		case len(report.Faults) > 0:
			err = polder.RenderFaults(c.ErrOrStderr(), report.Faults, reading.Files)
		default:
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s, %s, no faults\n", path, counted(report.Regions, "region"), counted(report.Services, "service"))
		}
		if err == nil && len(report.Faults) > 0 {
			return &exitError{code: exitFaults}
		}
		return err
	}
	return c
}

// counted is a number of things, one of which has this name.
func counted(n int, name string) string {
	if n != 1 {
		name += "s"
	}
	return fmt.Sprintf("%d %s", n, name)
}
