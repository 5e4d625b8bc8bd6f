package gossip

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/polder/polder"
)

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
