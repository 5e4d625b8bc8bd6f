package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/polder/polder/gateway/envoy"
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
	commit, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = ", changed"
		}
	}
	if commit == "" {
		return "development"
	}
	return "commit " + commit + changed
}

// versionReport is what polder version tells programs.
type versionReport struct {
	Version string `json:"version"`
	Envoy   string `json:"envoy"` // the one version that is run
	Go      string `json:"go"`
}

func versionCommand() *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Print the version, and that of the Envoy that is run", Args: cobra.NoArgs}
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		v := versionReport{Version: version(), Envoy: envoy.Version, Go: runtime.Version()}
		if *output == formatJSON {
			return printJSON(c.OutOrStdout(), v)
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "polder %s (Envoy %s, %s)\n", v.Version, v.Envoy, v.Go)
		return err
	}
	return c
}
