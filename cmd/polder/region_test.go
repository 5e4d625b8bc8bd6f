package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polder/polder/gateway"
)

// runRegion runs region fr as in production, with the DNS address, until the test
// ends. SAMPLES in the configuration is the folder of the sample services.
func runRegion(t *testing.T, config, dns string) gateway.Layout {
	t.Helper()
	samples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "polder-run-") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file, state := filepath.Join(dir, "polder.yaml"), filepath.Join(dir, "state")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(config, "SAMPLES", samples)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := command(t, "run", "--region", "fr", "--config", file, "--state", state, "--tools", "../../.tools", "--dns", dns,
		"--https", freePort(t), "--http", freePort(t), "--peer", freePort(t), "--gossip", freePort(t))
	var log strings.Builder
	c.Stderr = &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Signal(os.Interrupt)
		if err := c.Wait(); err != nil || t.Failed() {
			t.Errorf("polder run: %v\n%s", err, log.String())
		}
	})
	layout, err := gateway.NewLayout(state, "fr")
	if err != nil {
		t.Fatal(err)
	}
	return layout
}
