package regions

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/polder/polder"
)

func anyPeers(t *rapid.T) []string {
	return rapid.SliceOfNDistinct(rapid.StringMatching(`(fr|nl|pl)-[0-9]{1,2}`), 1, 12, rapid.ID[string]).Draw(t, "peers")
}

func TestHomeMovesLittle(t *testing.T) {
	services := names(200, "s")
	rapid.Check(t, func(t *rapid.T) {
		peers := anyPeers(t)
		gone := rapid.SampledFrom(peers).Draw(t, "gone")
		rest := slices.DeleteFunc(slices.Clone(peers), func(p string) bool { return p == gone })
		shuffled := rapid.Permutation(peers).Draw(t, "shuffled")
		for _, s := range services {
			before, ok := Home(s, peers)
			if !ok || !slices.Contains(peers, before) {
				t.Fatalf("home of %s is %q, not among %v", s, before, peers)
			}
			if again, _ := Home(s, shuffled); again != before {
				t.Fatalf("home of %s depends on the order of candidates: %s, %s", s, before, again)
			}
			order := Homes(s, peers)
			if order[0] != before {
				t.Fatalf("Homes begins with %s, Home is %s", order[0], before)
			}
			after, ok := Home(s, rest)
			switch {
			case ok != (len(rest) > 0):
				t.Fatalf("home among %v: %t", rest, ok)
			case before != gone && after != before:
				t.Fatalf("%s moved from %s to %s because %s went", s, before, after, gone)
			case before == gone && ok && after != order[1]:
				t.Fatalf("%s moved to %s, next in order was %s", s, after, order[1])
			}
		}
	})
}

// Homes spread evenly. With 6 candidates and 6000 services each should have
// 1000, standard deviation 29; the bound is five of them. Fixed names make this
// a test of the hash and not of luck.
func TestHomesSpread(t *testing.T) {
	peers := []string{"fr-1", "fr-2", "nl-1", "nl-2", "pl-1", "pl-2"}
	count := map[string]int{}
	for i := range 6000 {
		home, _ := Home(polder.ServiceName(fmt.Sprintf("customer-%d-orders", i)), peers)
		count[home]++
	}
	for _, p := range peers {
		if n := count[p]; n < 1000-145 || n > 1000+145 {
			t.Errorf("%s is home to %d of 6000, want about 1000 (%v)", p, n, count)
		}
	}
}

// frozenWeight was computed apart from this code, from the definitions of FNV-1a
// and of the mixer.
const frozenWeight = 0xba029bbd63faae79

// Peers of different versions must agree, so the weights are frozen.
func TestHomeIsFrozen(t *testing.T) {
	if got := weight("billing", "fr-1"); got != frozenWeight {
		t.Errorf("weight of (billing, fr-1) is %#x, was %#x", got, uint64(frozenWeight))
	}
}

func TestCandidates(t *testing.T) {
	peer := func(name string, usable, steady bool) Peer {
		return Peer{Row: polder.PeerRow{Peer: name, Region: polder.RegionName(name[:2])}, Usable: usable, Steady: steady}
	}
	inFR := func(r polder.RegionName) bool { return r == "fr" }
	peers := []Peer{peer("fr-1", true, false), peer("fr-2", true, true), peer("fr-3", false, false), peer("nl-1", true, true)}
	if got := fmt.Sprint(Candidates(peers, inFR)); got != "[fr-2]" {
		t.Errorf("%s, want the steady one in fr", got)
	}
	peers[1].Steady, peers[1].Usable = false, false
	if got := fmt.Sprint(Candidates(peers, inFR)); got != "[fr-1]" {
		t.Errorf("%s, want the one that flaps, for there is no other; never one outside fr", got)
	}
	peers[0].Usable = false
	if got := Candidates(peers, inFR); len(got) != 0 {
		t.Errorf("%v, want none: a service never borrows a region", got)
	}
}

func TestSaturatedComeLast(t *testing.T) {
	peers := crowd("fr-1", "nl-1")
	peers[0].Row.Load = Saturated
	if got := fmt.Sprint(Candidates(peers, anywhere)); got != "[nl-1]" {
		t.Errorf("%s, want the one with room", got)
	}
	peers[1].Row.Load = 100
	if got := fmt.Sprint(Candidates(peers, anywhere)); got != "[fr-1 nl-1]" {
		t.Errorf("%s, want both: there is nobody with room", got)
	}
}

func anywhere(polder.RegionName) bool { return true }

// crowd are peers in the best of health.
func crowd(names ...string) []Peer {
	var peers []Peer
	for _, name := range names {
		row := polder.PeerRow{Peer: name, Region: polder.RegionName(name[:2]), Epoch: 1, Sequence: 1, Healthy: true}
		peers = append(peers, Peer{Row: row, Standing: Alive, Able: true, Usable: true, Steady: true})
	}
	return peers
}

// The life of a service's home, step by step.
func TestChoose(t *testing.T) {
	const service = "orders"
	names := []string{"fr-1", "nl-1", "pl-1"}
	order := Homes(service, names)
	first, second := slices.Index(names, order[0]), slices.Index(names, order[1])
	peers := crowd(names...)
	want := func(step, now, next string) {
		t.Helper()
		if got, ok := Choose(service, peers, anywhere); !ok || got != (Choice{now, next}) {
			t.Errorf("%s: %+v %v, want %s and then %s", step, got, ok, now, next)
		}
	}
	warm := []polder.ServiceName{"alpha", service}
	want("asleep everywhere", order[0], order[0])
	peers[second].Row.Warm = warm
	want("warm somewhere else", order[1], order[1])
	peers[first].Row.Warm = warm
	want("warm at both", order[0], order[0])
	peers[second].Row.Warm = nil
	peers[first].Usable, peers[first].Row.Draining = false, true
	want("its home drains", order[0], order[1])
	peers[second].Row.Warm = warm
	want("the next one is warm", order[1], order[1])
	peers[first].Usable, peers[first].Row.Draining, peers[first].Row.Warm = true, false, nil
	want("its home is back", order[1], order[1])
	peers[second].Row.Warm = nil
	want("it fell asleep", order[0], order[0])
	peers[first].Able, peers[first].Usable, peers[first].Row.Warm = false, false, warm
	want("its home died warm", order[1], order[1])
	for i := range peers {
		peers[i].Usable = false
	}
	if got, ok := Choose(service, peers, anywhere); ok {
		t.Errorf("%+v, though nobody is usable", got)
	}
}

// Whatever the peers are: the choice is one of those that are permitted and able,
// it does not depend on their order, and who has callers next is usable.
func TestChooseIsLawful(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		peers := crowd("fr-1", "fr-2", "nl-1", "nl-2", "pl-1", "pl-2")
		for i := range peers {
			p := &peers[i]
			p.Able = rapid.Bool().Draw(t, "able")
			p.Row.Draining = rapid.Bool().Draw(t, "draining")
			p.Usable = p.Able && !p.Row.Draining && rapid.Bool().Draw(t, "unsuspected")
			p.Steady = p.Usable && rapid.Bool().Draw(t, "steady")
			p.Row.Load = rapid.SampledFrom([]uint8{0, 80, 90}).Draw(t, "load")
			if rapid.Bool().Draw(t, "warm") {
				p.Row.Warm = []polder.ServiceName{"orders"}
			}
		}
		regions := rapid.SliceOfDistinct(rapid.SampledFrom([]polder.RegionName{"fr", "nl", "pl"}), rapid.ID[polder.RegionName]).Draw(t, "permitted")
		permitted := func(r polder.RegionName) bool { return slices.Contains(regions, r) }
		got, ok := Choose("orders", peers, permitted)
		again, okAgain := Choose("orders", rapid.Permutation(peers).Draw(t, "shuffled"), permitted)
		if got != again || ok != okAgain {
			t.Fatalf("%+v or %+v, by the order of peers", got, again)
		}
		usable := false
		for _, p := range peers {
			usable = usable || p.Usable && permitted(p.Row.Region)
			if ok && p.Row.Peer == got.Now && (!p.Able || !permitted(p.Row.Region)) {
				t.Fatalf("%s has the callers: %+v", got.Now, p)
			}
			if ok && p.Row.Peer == got.Next && (!p.Usable || !permitted(p.Row.Region)) {
				t.Fatalf("%s shall have the callers: %+v", got.Next, p)
			}
		}
		if ok != usable {
			t.Fatalf("chosen: %v, somebody can: %v", ok, usable)
		}
	})
}
