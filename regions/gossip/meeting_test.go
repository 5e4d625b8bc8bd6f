package gossip

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/internal/faketime"
	"github.com/polder/polder/regions"
)

// News does not wait for the exchange of tables, which comes every 15 seconds: a
// row that is too large for packets goes straight to everybody, and a forgery is
// contradicted as soon as it is heard of.
func TestNewsDoesNotWait(t *testing.T) {
	checkLeaks(t)
	faketime.Test(t, func(t *testing.T) {
		f := newFleet(t, 12)
		for i, name := range []string{"fr-1", "nl-1", "pl-1"} {
			f.start(name, i+1, 1)
		}
		f.all(f.names, "all three", 5*time.Second, healthy(f.names...))
		var warm []polder.ServiceName
		for i := range 900 {
			warm = append(warm, polder.ServiceName(fmt.Sprintf("%03d-orders", i)))
		}
		for round := range 5 {
			want := fmt.Sprint("large-", round)
			f.peers["pl-1"].say(polder.PeerRow{Healthy: true, Warm: warm, Digest: want})
			f.all(f.names, "a large row", time.Second, digest("pl-1", want))

			epoch := uint64(100 + round)
			double := polder.PeerRow{Peer: "fr-1", Region: "fr", Epoch: epoch, Sequence: 1, Digest: "double"}
			f.peers["nl-1"].box.put(rowMessage(sealedRow(double))) // as if it had come over the network
			f.all(f.names, "the own row above that of a double", time.Second, func(s *Snapshot) bool {
				p, _ := row(s, "fr-1")
				return p.Row.Epoch == epoch && p.Row.Digest == "" && p.Usable
			})
		}
	})
}

// A region that was taken out of the configuration, but whose peer is still
// there and hears everything, is told nothing that it may not know. When it has
// gone, the others are told.
func TestRegionTakenOut(t *testing.T) {
	checkLeaks(t)
	faketime.Test(t, func(t *testing.T) {
		f := newFleet(t, 13)
		for i, name := range []string{"fr-1", "nl-1", "pl-1"} {
			f.start(name, i+1, 1)
		}
		f.all(f.names, "all three", 5*time.Second, healthy(f.names...))
		west := regions.Disclosure{
			Regions:   []polder.RegionName{"fr", "nl"},
			Permitted: func(_ polder.ServiceName, r polder.RegionName) bool { return r != "pl" },
		}
		said := polder.PeerRow{Healthy: true, Warm: []polder.ServiceName{"only-west"}, Digest: "west"}
		for _, n := range []string{"fr-1", "nl-1"} {
			if err := f.peers[n].Publish(said, west); err != nil {
				t.Fatal(err)
			}
		}
		f.all(f.names[:2], "the row for two regions", 2*time.Second, func(s *Snapshot) bool {
			_, stranger := row(s, "pl-1")
			return digest("fr-1", "west")(s) && digest("nl-1", "west")(s) && !stranger
		})
		<-time.After(time.Minute) // fake time: exchanges of tables too
		for _, n := range f.names {
			if p, _ := row(f.peers[n].Snapshot(), "fr-1"); len(p.Row.Warm) > 0 {
				t.Errorf("%s was told that %v is warm in fr while pl heard it", n, p.Row.Warm)
			}
		}
		f.peers["pl-1"].end()
		f.all(f.names[:2], "what only two regions may know", 2*time.Second, func(s *Snapshot) bool {
			p, _ := row(s, "fr-1")
			return len(p.Row.Warm) == 1
		})
	})
}

// Two peers that refused each other, because neither's configuration knew the
// other's region, meet when both do.
func TestMutualStrangersMeet(t *testing.T) {
	checkLeaks(t)
	faketime.Test(t, func(t *testing.T) {
		f := newFleet(t, 14)
		for i, name := range []string{"fr-1", "nl-1"} {
			o := options(t, name, 1, place(1).String())
			o.network = f.air.join(place(i + 1)).network()
			o.Disclosure = regions.Disclosure{Regions: []polder.RegionName{o.Region}}
			f.names = append(f.names, name)
			f.peers[name] = run(t, o)
		}
		<-time.After(time.Minute) // fake time
		for _, n := range f.names {
			if s := f.peers[n].Snapshot(); s.Joined || len(s.Peers) > 1 || f.peers[n].Counters().Refused == 0 {
				t.Errorf("%s should have refused the other:\n%s", n, describe(s))
			}
		}
		for _, n := range f.names {
			f.peers[n].say(polder.PeerRow{Healthy: true})
		}
		f.all(f.names, "each other", 20*time.Second, healthy(f.names...))
	})
}

// Where packets are blocked and streams are not, nobody is taken for dead, and
// rows arrive with the exchanges of tables.
func TestWithoutUDP(t *testing.T) {
	checkLeaks(t)
	faketime.Test(t, func(t *testing.T) {
		f := newFleet(t, 2)
		f.air.loss = 1
		for i, name := range []string{"fr-1", "nl-1", "pl-1"} {
			f.start(name, i+1, 1)
		}
		f.all(f.names, "all three", 2*time.Minute, healthy(f.names...))
		calm := time.Now()
		f.peers["pl-1"].say(polder.PeerRow{Healthy: true, Digest: "late"})
		f.all(f.names, "a change", 2*time.Minute, digest("pl-1", "late"))
		<-time.After(5 * time.Minute) // fake time
		for _, n := range f.names {
			for _, p := range f.peers[n].Snapshot().Peers {
				if !p.Usable || p.Since.After(calm) {
					t.Errorf("%s took %s for dead: %+v", n, p.Row.Peer, p)
				}
			}
		}
	})
}

// A peer that restarts so quickly that nobody noticed its death is believed in
// its new life at once.
func TestQuickRestart(t *testing.T) {
	checkLeaks(t)
	faketime.Test(t, func(t *testing.T) {
		f := newFleet(t, 4)
		for i, name := range []string{"fr-1", "nl-1", "pl-1"} {
			f.start(name, i+1, 1)
		}
		f.all(f.names, "all three", 5*time.Second, healthy(f.names...))
		old := f.peers["pl-1"]
		f.kill("pl-1")
		f.start("pl-1", 3, 2)
		old.stop()
		f.peers["pl-1"].say(polder.PeerRow{Healthy: true, Digest: "second"})
		took := f.all(f.names, "the second life", 5*time.Second, func(s *Snapshot) bool {
			p, _ := row(s, "pl-1")
			return p.Row.Epoch == 2 && digest("pl-1", "second")(s) && healthy(f.names...)(s)
		})
		if slices.Max(took) > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// Peers that were parted find each other again even if the one address that they
// were configured to join is gone for good.
func TestHealingWithoutTheSeed(t *testing.T) {
	checkLeaks(t)
	faketime.Test(t, func(t *testing.T) {
		f := newFleet(t, 6)
		for i, name := range []string{"fr-1", "nl-1", "pl-1"} {
			f.start(name, i+1, 1)
		}
		f.all(f.names, "all three", 5*time.Second, healthy(f.names...))
		f.kill("fr-1") // everybody's seed
		rest := []string{"nl-1", "pl-1"}
		f.all(rest, "the death of fr-1", 10*time.Second, unhealthy("fr-1"))
		f.air.sever(func(_, _ netip.AddrPort) bool { return true })
		f.all(rest[:1], "pl gone", 20*time.Second, unhealthy("pl-1"))
		f.all(rest[1:], "nl gone", 20*time.Second, unhealthy("nl-1"))
		<-time.After(time.Hour) // fake time
		f.air.sever(nil)
		f.all(rest, "each other", 40*time.Second, healthy(rest...))
	})
}

// Run ends soon although it is about to dial an address that swallows
// everything, and although there is nobody to hear its goodbye.
func TestStoppingWaitsForNobody(t *testing.T) {
	checkLeaks(t)
	faketime.Test(t, func(t *testing.T) {
		for _, after := range []time.Duration{2 * time.Second, 5 * time.Second, 12 * time.Second, time.Minute} {
			f := newFleet(t, 1)
			f.profile = WAN
			p := f.start("nl-1", 2, 1) // place 1 is empty: packets and dials vanish
			<-time.After(after)        // fake time; a dial takes 10 s to fail
			began := time.Now()
			p.end()
			if took := time.Since(began); took > time.Second {
				t.Errorf("%v after the start it took %v", after, took)
			}
		}
	})
}

// A peer that flaps is used while there is nobody better, after the steady ones,
// and is trusted again when it has been steady for a while.
func TestFlappingRegionComesLast(t *testing.T) {
	checkLeaks(t)
	faketime.Test(t, func(t *testing.T) {
		f := newFleet(t, 3)
		f.air.delay = europe(map[netip.AddrPort]string{place(1): "fr-1", place(2): "nl-1", place(3): "pl-1"})
		for i, name := range []string{"fr-1", "nl-1", "pl-1"} {
			f.start(name, i+1, 1)
		}
		f.all(f.names, "all three", 5*time.Second, healthy(f.names...))
		order := func(s *Snapshot) string {
			return fmt.Sprint(regions.Order(polder.Location{}, []polder.Region{{Name: "nl"}, {Name: "pl"}}, s.View))
		}
		f.all([]string{"fr-1"}, "round trips", 10*time.Second, func(s *Snapshot) bool { return order(s) == "[nl pl]" && len(s.View.RTT) == 2 })
		for range 2 {
			f.peers["nl-1"].say(polder.PeerRow{Healthy: false})
			f.all([]string{"fr-1"}, "nl unhealthy", 4*time.Second, unhealthy("nl-1"))
			f.peers["nl-1"].say(polder.PeerRow{Healthy: true})
			f.all([]string{"fr-1"}, "nl healthy", 4*time.Second, healthy("nl-1"))
		}
		s := f.peers["fr-1"].Snapshot()
		if !s.View.Unsteady["nl"] || order(s) != "[pl nl]" {
			t.Errorf("after two faults nl is unsteady %t, order %s", s.View.Unsteady["nl"], order(s))
		}
		steady := f.all([]string{"fr-1"}, "nl steady", 2*time.Minute, func(s *Snapshot) bool { return !s.View.Unsteady["nl"] && order(s) == "[nl pl]" })
		if steady[0] < 30*time.Second {
			t.Errorf("trusted again after %v only", steady[0])
		}
	})
}

// A peer that is alone is ready, and one whose friends are not there yet is ready
// after a while, and finds them when they come.
func TestAloneAndLate(t *testing.T) {
	checkLeaks(t)
	faketime.Test(t, func(t *testing.T) {
		f := newFleet(t, 8)
		began := time.Now()
		alone := f.start("fr-1", 1, 1) // it is its own seed
		<-alone.Ready()
		if took := time.Since(began); took > time.Second {
			t.Errorf("who has nobody to join was ready after %v", took)
		}
		f.kill("fr-1")
		alone.end()
		began = time.Now()
		early := f.start("nl-1", 2, 1)
		<-early.Ready()
		if took, patience := time.Since(began), 3*time.Second; took < patience || took > patience+time.Second {
			t.Errorf("who waits for its seed was ready after %v, want its patience of %v", took, patience)
		}
		select {
		case <-early.Joined():
			t.Fatal("joined with whom?")
		case <-time.After(10 * time.Minute): // fake time
		}
		f.start("fr-1", 1, 2)
		began = time.Now()
		<-early.Joined()
		f.all(f.names, "each other", 20*time.Second, healthy("fr-1", "nl-1"))
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("the seed was found after %v", took)
		}
	})
}
