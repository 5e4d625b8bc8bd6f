package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/source"
)

// checkReport is what polder check tells programs.
type checkReport struct {
	Regions  int            `json:"regions"`
	Services int            `json:"services"`
	Fatal    bool           `json:"fatal"`
	Faults   []polder.Fault `json:"faults"`
}

func checkCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "check [PATH]",
		Short: "Check a configuration and show every fault with its place and remedy",
		Long: `Checks a configuration file, or a folder of .yaml files (default polder.yaml).
Exit code 3 means that it has faults.`,
		Args: usage(cobra.MaximumNArgs(1)),
	}
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		path := "polder.yaml"
		if len(args) == 1 {
			path = args[0]
		}
		files, err := source.Source{Path: path}.Read()
		if err != nil {
			return &exitError{exitFaults, err}
		}
		result := polder.Decode(files)
		report := checkReport{Fatal: result.Fatal, Faults: result.Faults}
		if result.Model != nil {
			report.Regions, report.Services = len(result.Model.Regions), len(result.Model.Services)
		}
		if *output == formatJSON {
			err = printJSON(c.OutOrStdout(), report)
		} else if len(result.Faults) > 0 {
			err = polder.RenderFaults(c.ErrOrStderr(), result.Faults, files)
		} else {
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %d regions, %d services, no faults\n", path, report.Regions, report.Services)
		}
		if err == nil && len(result.Faults) > 0 {
			return &exitError{code: exitFaults}
		}
		return err
	}
	return c
}
