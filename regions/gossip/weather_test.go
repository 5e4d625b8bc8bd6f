package gossip

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/internal/faketime"
	"github.com/polder/polder/regions"
)

// These tests run real memberlists over the air in fake time: minutes of gossip
// take well under a second. Nothing here depends on how fast the machine is, so
// times may be asserted.

// What this proves, in order:
//
//  1. five peers of three regions meet through one of them, over a network that
//     loses a packet in twenty;
//  2. round trips are measured, and the regions are ordered by them;
//  3. during two minutes every change of a row is seen by all within seconds,
//     and nobody is taken for dead;
//  4. a death is noticed by all within the profile's word, and a second life is
//     believed;
//  5. a partition that lasts longer than memberlist remembers the dead heals, and
//     then all hold the same rows: the newest of each peer.
func TestTwoMinutesOfWeather(t *testing.T) {
	checkLeaks(t)
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			faketime.Test(t, func(t *testing.T) { weather(t, seed) })
		})
	}
}

func weather(t *testing.T, seed uint64) {
	f := newFleet(t, seed)
	f.air.loss = 0.05
	numbers := map[netip.AddrPort]string{
		place(1): "fr-1", place(2): "fr-2", place(3): "nl-1", place(4): "nl-2", place(5): "pl-1", place(6): "pl-1",
	}
	f.air.delay = europe(numbers)
	for i, name := range []string{"fr-1", "fr-2", "nl-1", "nl-2", "pl-1"} {
		f.start(name, i+1, 1)
	}

	// 1
	f.all(f.names, "all five", 5*time.Second, healthy(f.names...))

	// 3, with 2 on the way
	calm := time.Now()
	for round := range 24 {
		speaker := f.names[round%len(f.names)]
		want := fmt.Sprint("round-", round)
		f.peers[speaker].say(polder.PeerRow{Healthy: true, Digest: want})
		f.all(f.names, "a change of "+speaker, 4*time.Second, digest(speaker, want))
		<-time.After(5*time.Second - time.Since(calm)%(5*time.Second)) // fake time
	}
	for _, n := range f.names {
		for _, p := range f.peers[n].Snapshot().Peers {
			if !p.Usable || p.Since.After(calm) {
				t.Errorf("%s took %s for dead in calm weather: %+v", n, p.Row.Peer, p)
			}
		}
	}

	// 2
	view := f.peers["fr-1"].Snapshot().View
	for region, want := range map[polder.RegionName]time.Duration{"nl": 10 * time.Millisecond, "pl": 30 * time.Millisecond} {
		if got := view.RTT[region]; (got - want).Abs() > want/10 {
			t.Errorf("round trip from fr to %s is measured as %v, want about %v", region, got, want)
		}
	}
	places := []polder.Region{{Name: "pl"}, {Name: "fr"}, {Name: "nl"}}
	if got := fmt.Sprint(regions.Order(polder.Location{}, places, view)); got != "[fr nl pl]" {
		t.Errorf("from fr regions are tried in the order %s", got)
	}

	// 4
	f.kill("pl-1")
	rest := []string{"fr-1", "fr-2", "nl-1", "nl-2"}
	f.all(rest, "the death of pl-1", 6*time.Second, unhealthy("pl-1"))
	f.peers["pl-1"].stop()
	f.start("pl-1", 6, 2)
	f.all(f.names, "the second life of pl-1", 10*time.Second, healthy(f.names...))

	// 5
	west := map[netip.AddrPort]bool{place(1): true, place(2): true}
	f.air.sever(func(a, b netip.AddrPort) bool { return west[a] != west[b] })
	f.all([]string{"fr-1", "fr-2"}, "the east gone", 20*time.Second, func(s *Snapshot) bool {
		return unhealthy("nl-1")(s) && unhealthy("nl-2")(s) && unhealthy("pl-1")(s) && healthy("fr-1", "fr-2")(s)
	})
	f.all([]string{"nl-1", "nl-2", "pl-1"}, "the west gone", 20*time.Second, func(s *Snapshot) bool {
		return unhealthy("fr-1")(s) && unhealthy("fr-2")(s) && healthy("nl-1", "nl-2", "pl-1")(s)
	})
	f.peers["fr-2"].say(polder.PeerRow{Healthy: true, Digest: "west"})
	f.peers["pl-1"].say(polder.PeerRow{Healthy: true, Digest: "east"})
	<-time.After(2 * time.Minute) // fake time; memberlist has long forgotten the dead
	f.air.sever(nil)
	f.all(f.names, "everybody, with the newest rows", 40*time.Second, func(s *Snapshot) bool {
		return healthy(f.names...)(s) && digest("fr-2", "west")(s) && digest("pl-1", "east")(s)
	})
	synctest.Wait()
	for _, n := range f.names {
		if got, want := lastWords(f.peers[n].Snapshot()), lastWords(f.peers["fr-1"].Snapshot()); got != want {
			t.Errorf("%s holds\n%s\nfr-1 holds\n%s", n, got, want)
		}
	}
}

// The WAN profile keeps its word where the LAN profile could not: round trips of
// 400 ms and a lossy network. Nobody is taken for dead in calm weather, a row
// reaches all within seconds, and a death is noticed in time.
func TestWAN(t *testing.T) {
	checkLeaks(t)
	faketime.Test(t, func(t *testing.T) {
		f := newFleet(t, 11)
		f.profile = WAN
		f.air.loss = 0.05
		f.air.delay = func(from, to netip.AddrPort) time.Duration { return 200 * time.Millisecond }
		for i, name := range []string{"fr-1", "fr-2", "nl-1", "nl-2", "pl-1"} {
			f.start(name, i+1, 1)
		}
		f.all(f.names, "all five", 20*time.Second, healthy(f.names...))
		calm := time.Now()
		for round := range 10 {
			want := fmt.Sprint("round-", round)
			f.peers["pl-1"].say(polder.PeerRow{Healthy: true, Digest: want})
			f.all(f.names, "a change of pl-1", 8*time.Second, digest("pl-1", want))
			<-time.After(12*time.Second - time.Since(calm)%(12*time.Second)) // fake time
		}
		for _, n := range f.names {
			for _, p := range f.peers[n].Snapshot().Peers {
				if !p.Usable || p.Since.After(calm) {
					t.Errorf("%s took %s for dead in calm weather: %+v", n, p.Row.Peer, p)
				}
			}
		}
		f.kill("pl-1")
		f.all([]string{"fr-1", "fr-2", "nl-1", "nl-2"}, "the death of pl-1", 15*time.Second, unhealthy("pl-1"))
	})
}

// A network that carries packets in one direction only (pl-1 is heard and hears
// nothing) ends with everybody agreeing: pl-1 is of no use to the others, and
// they are of none to it.
func TestOneWayPartition(t *testing.T) {
	checkLeaks(t)
	faketime.Test(t, func(t *testing.T) {
		f := newFleet(t, 5)
		for i, name := range []string{"fr-1", "nl-1", "pl-1"} {
			f.start(name, i+1, 1)
		}
		f.all(f.names, "all three", 5*time.Second, healthy(f.names...))
		f.air.sever(func(_, to netip.AddrPort) bool { return to == place(3) })
		f.all([]string{"fr-1", "nl-1"}, "pl gone", 20*time.Second, unhealthy("pl-1"))
		f.all([]string{"pl-1"}, "the others gone", 20*time.Second, func(s *Snapshot) bool {
			return unhealthy("fr-1")(s) && unhealthy("nl-1")(s)
		})
		f.air.sever(nil)
		f.all(f.names, "all three again", 40*time.Second, healthy(f.names...))
	})
}
