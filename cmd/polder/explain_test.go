package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestExplainMarksWhoStandsIn: in the answer for a service, the regions that may
// serve at times only have a sign, and which it is.
func TestExplainMarksWhoStandsIn(t *testing.T) {
	now := time.Now().UTC()
	broken := fmt.Sprintf("break-glass: [nl], broken: { from: %s, until: %s, reason: smoke in Warsaw }",
		now.Add(-time.Minute).Format(time.RFC3339), now.Add(time.Hour).Format(time.RFC3339))
	text, err := os.ReadFile("testdata/glass.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "polder.yaml")
	for failover, want := range map[string]string{
		"break-glass: [nl]": "nl (nl), behind glass: pass to pl",
		broken:              "nl (nl), behind broken glass: pass to pl",
		"listed: [nl]":      "nl (nl), stands by: pass to pl",
	} {
		if err := os.WriteFile(config, []byte(strings.Replace(string(text), "break-glass: [nl]", failover, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := run(t, "check", config, "--explain", "fire")
		if code != exitDone || !strings.Contains(out, want) || strings.Contains(out, "fr (fr),") || strings.Contains(out, "pl (pl),") {
			t.Errorf("%s: exit %d, want %q and no other sign in\n%s%s", failover, code, want, out, errs)
		}
	}
}
