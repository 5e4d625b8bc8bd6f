package gateway

import (
	"net"
	"testing"

	"github.com/polder/polder"
)

// TestDegraded says nothing of what the machine allows, nor of a port that is
// in use: it may be our own Envoy's.
func TestDegraded(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if lines := notOurs("127.0.0.1:0", taken.Addr().String()); lines != nil {
		t.Errorf("refused: %v, want none", lines)
	}
	before := degraded(polder.Listen{HTTPS: "127.0.0.1:0", HTTP: "127.0.0.1:0"})
	if again := degraded(polder.Listen{HTTPS: "127.0.0.1:0", HTTP: "127.0.0.1:0"}); len(again) != len(before) {
		t.Errorf("asked again it says %v, before %v: the probe left something behind", again, before)
	}
}
