package gossip

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

// These tests run real memberlists over the air in fake time: minutes of gossip
// take well under a second. Nothing here depends on how fast the machine is, so
// times may be asserted.

// fleet is peers over one air. Every peer's address follows from its number.
type fleet struct {
	t       *testing.T
	air     *air
	profile Profile
	peers   map[string]*peer
	ends    map[string]*end
	names   []string
}

func newFleet(t *testing.T, seed uint64) *fleet {
	// Runs after all peers have ended: memberlist's last probes need time to fail,
	// and fake time stands still once the test is over.
	t.Cleanup(func() { <-time.After(time.Minute) })
	return &fleet{t: t, air: newAir(seed), peers: map[string]*peer{}, ends: map[string]*end{}}
}

func place(number int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(number >> 8), byte(number)}), 7946)
}

// start starts a peer at a numbered place; it joins by place 1.
func (f *fleet) start(name string, number int, epoch uint64) *peer {
	f.t.Helper()
	o := options(f.t, name, epoch, place(1).String())
	o.Profile = f.profile
	e := f.air.join(place(number))
	o.network = e.network()
	if _, ok := f.peers[name]; !ok {
		f.names = append(f.names, name)
	}
	p := run(f.t, o)
	p.say(polder.PeerRow{Healthy: true})
	f.peers[name], f.ends[name] = p, e
	return p
}

// kill closes a peer's sockets; its process goes on in vain until the test ends.
func (f *fleet) kill(name string) {
	f.ends[name].Shutdown()
	f.air.mu.Lock()
	defer f.air.mu.Unlock()
	delete(f.air.ends, f.ends[name].at)
}

// when reports the instant at which a peer's snapshot was first as wanted; zero
// if that takes longer than patience.
func when(p *peer, patience time.Duration, ok func(*Snapshot) bool) <-chan time.Time {
	result := make(chan time.Time, 1)
	go func() {
		deadline := time.NewTimer(patience)
		defer deadline.Stop()
		for {
			if ok(p.Snapshot()) {
				result <- time.Now()
				return
			}
			select {
			case <-p.Changes():
			case <-deadline.C:
				result <- time.Time{}
				return
			}
		}
	}()
	return result
}

// all waits until the snapshots of the named peers are as wanted, and returns how
// long each took, in their order.
func (f *fleet) all(names []string, what string, patience time.Duration, ok func(*Snapshot) bool) []time.Duration {
	f.t.Helper()
	start := time.Now()
	var waits []<-chan time.Time
	for _, n := range names {
		waits = append(waits, when(f.peers[n], patience, ok))
	}
	var took []time.Duration
	for i, w := range waits {
		at := <-w
		if at.IsZero() {
			f.t.Fatalf("after %v %s does not see %s; it sees:\n%s", patience, names[i], what, describe(f.peers[names[i]].Snapshot()))
		}
		took = append(took, at.Sub(start))
	}
	return took
}

// lastWords are the rows that one snapshot shows, without what differs by
// observer.
func lastWords(s *Snapshot) string {
	text := ""
	for _, p := range s.Peers {
		text += fmt.Sprintf("%+v\n", p.Row)
	}
	return text
}

// europe delays as between Paris, Amsterdam and Warsaw.
func europe(numbers map[netip.AddrPort]string) func(from, to netip.AddrPort) time.Duration {
	roundTrip := map[string]time.Duration{
		"fr-nl": 10 * time.Millisecond, "fr-pl": 30 * time.Millisecond, "nl-pl": 25 * time.Millisecond,
	}
	return func(from, to netip.AddrPort) time.Duration {
		a, b := numbers[from][:2], numbers[to][:2]
		return max(roundTrip[a+"-"+b], roundTrip[b+"-"+a], 400*time.Microsecond) / 2
	}
}

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
			synctest.Test(t, func(t *testing.T) { weather(t, seed) })
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
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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

// A peer that is alone is ready, and one whose friends are not there yet is ready
// after a while, and finds them when they come.
func TestAloneAndLate(t *testing.T) {
	checkLeaks(t)
	synctest.Test(t, func(t *testing.T) {
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

// Where packets are blocked and streams are not, nobody is taken for dead, and
// rows arrive with the exchanges of tables.
func TestWithoutUDP(t *testing.T) {
	checkLeaks(t)
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1)
		f.profile = WAN
		p := f.start("nl-1", 2, 1) // place 1 is empty: packets and dials vanish
		<-time.After(30 * time.Second)
		began := time.Now()
		p.end()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// A peer that flaps is used while there is nobody better, after the steady ones,
// and is trusted again when it has been steady for a while.
func TestFlappingRegionComesLast(t *testing.T) {
	checkLeaks(t)
	synctest.Test(t, func(t *testing.T) {
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
