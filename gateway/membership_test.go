package gateway

import (
	"slices"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
	"github.com/polder/polder/regions/gossip"
)

// TestCallersAreSentToALostRegionUntilItIsGivenUp: while the law waits whether a
// region comes back its last addresses are tried, for want of others; then nobody is
// sent there, and never where a peer has said goodbye.
func TestCallersAreSentToALostRegionUntilItIsGivenUp(t *testing.T) {
	m := &polder.Model{Regions: testRegions}
	peer := func(name string, region polder.RegionName, standing regions.Standing) regions.Peer {
		p := lives(name, region, "10.0.0."+name[3:]+":7443")
		p.Standing = standing
		p.Able, p.Usable = standing == regions.Alive, standing == regions.Alive
		return p
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	v := vitals{}
	look := func(at time.Duration, of ...regions.Peer) []string {
		peers := append([]regions.Peer{peer("nl-9", "nl", regions.Alive)}, of...)
		s := survey(m, self{peer: "nl-9", region: "nl", address: "10.0.0.9:7443"}, &gossip.Snapshot{Peers: peers, View: regions.See(peers)}, v, start.Add(at))
		for _, a := range s.peerOf["fr"] {
			if !slices.Contains(s.known["fr"], a) {
				t.Errorf("after %v callers are sent to %s, which the proof is not told of", at, a)
			}
		}
		return s.peerOf["fr"]
	}
	for _, c := range []struct {
		why  string
		at   time.Duration
		of   []regions.Peer
		want []string
	}{
		{"both live", 0, []regions.Peer{peer("fr-1", "fr", regions.Alive), peer("fr-2", "fr", regions.Alive)}, []string{"10.0.0.1:7443", "10.0.0.2:7443"}},
		{"one is dead", time.Second, []regions.Peer{peer("fr-1", "fr", regions.Dead), peer("fr-2", "fr", regions.Alive)}, []string{"10.0.0.2:7443"}},
		{"both are dead, the law waits", 2 * time.Second, []regions.Peer{peer("fr-1", "fr", regions.Dead), peer("fr-2", "fr", regions.Dead)}, []string{"10.0.0.1:7443", "10.0.0.2:7443"}},
		{"one has left", 3 * time.Second, []regions.Peer{peer("fr-1", "fr", regions.Left), peer("fr-2", "fr", regions.Dead)}, []string{"10.0.0.2:7443"}},
		{"the region is given up", time.Second + takeover, []regions.Peer{peer("fr-1", "fr", regions.Dead), peer("fr-2", "fr", regions.Dead)}, nil},
		{"one is back", 10 * time.Second, []regions.Peer{peer("fr-1", "fr", regions.Dead), peer("fr-2", "fr", regions.Alive)}, []string{"10.0.0.2:7443"}},
	} {
		if got := look(c.at, c.of...); !slices.Equal(got, c.want) {
			t.Errorf("%s: callers are sent to %v, want %v", c.why, got, c.want)
		}
	}
}
