package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is set by the linker when a release is built.
var release = ""

// version names what is running: the release, or the commit it was built from.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "commit " + s.Value[:min(12, len(s.Value))]
		}
	}
	return "development"
}

func versionCommand() *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Print the version", Args: usage(cobra.NoArgs)}
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *output == formatJSON {
			return printJSON(c.OutOrStdout(), map[string]string{"version": version(), "go": runtime.Version()})
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "polder %s (%s)\n", version(), runtime.Version())
		return err
	}
	return c
}
