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
