package gateway

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/polder/polder/xds"
)

// TestGateProvesTheBootstrap: an Envoy starts with a file that asks this region's
// Polder and nobody else, or not at all.
func TestGateProvesTheBootstrap(t *testing.T) {
	const ejections = "/run/polder/ejections.log"
	g := newGate(slog.New(slog.DiscardHandler), nil, xds.Gateway{}, xds.NodeConfig{Region: "fr", Ejections: ejections})
	good := xds.Bootstrap{Node: "fr-1", Region: "fr", ControlPlane: "/run/polder/xds.sock", Admin: "/run/polder/admin.sock", Ejections: ejections}
	elsewhere, noted, away := good, good, good
	elsewhere.Region = "nl"
	noted.Ejections = "/mnt/elsewhere"
	away.Remote = &xds.RemoteControl{Address: "203.0.113.9:7444", TrustDomain: "polder.internal", Region: "fr", Files: "/etc/polder"}
	for name, c := range map[string]struct {
		bootstrap xds.Bootstrap
		want      string // "" when it passes
	}{
		"the one of this region": {good, ""},
		"of another region":      {elsewhere, "nl"},
		"a file of somebody's":   {noted, "/mnt/elsewhere"},
		"another control plane":  {away, "203.0.113.9:7444"},
	} {
		data, err := c.bootstrap.JSON()
		if err != nil {
			t.Fatal(err)
		}
		err = g.bootstrap(data)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "Envoy is not started")) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}
