package regions

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polder/polder"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newTable(own string) *Table {
	return NewTable(own, polder.RegionName(own[:2]), 1, DefaultDamping(), 10*time.Minute, start)
}

// rowsOf are the rows that a table holds of others.
func rowsOf(t *Table) []polder.PeerRow {
	var rows []polder.PeerRow
	for _, p := range t.Peers() {
		if p.Row.Peer != t.own && p.Row.Sequence > 0 {
			rows = append(rows, p.Row)
		}
	}
	return rows
}

func sameRows(a, b []polder.PeerRow) bool { return slices.EqualFunc(a, b, equalRows) }

// Merge, whatever the order, the repetition and the grouping, keeps the greatest
// row of each peer: what a deliberately dumb loop over all rows finds.
func TestMergeIsOrderFree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(anyRow(), 0, 12).Draw(t, "rows")
		want := greatest(rows, "fr-1")

		order := rapid.Permutation(rows).Draw(t, "order")
		repeated := append(slices.Clone(order), rapid.SliceOfN(rapid.SampledFrom(append(rows, plainRow2())), 0, 8).Draw(t, "repeated")...)
		want2 := greatest(append(slices.Clone(rows), repeated...), "fr-1")

		one := newTable("fr-1")
		for _, r := range order {
			one.Merge(r, start)
		}
		if !sameRows(rowsOf(one), want) {
			t.Fatalf("after %v:\n%v, want\n%v", order, rowsOf(one), want)
		}
		two := newTable("fr-1")
		for _, r := range repeated {
			two.Merge(r, start)
		}
		if !sameRows(rowsOf(two), want2) {
			t.Fatalf("after repeats:\n%v, want\n%v", rowsOf(two), want2)
		}

		// Grouped: two tables of other peers take a part each, then one takes in
		// the tables. (Their own rows aside, which nobody else may write.)
		cut := rapid.IntRange(0, len(order)).Draw(t, "cut")
		left, right := newTable("zz-1"), newTable("zz-2")
		for _, r := range order[:cut] {
			left.Merge(r, start)
		}
		for _, r := range order[cut:] {
			right.Merge(r, start)
		}
		grouped := newTable("fr-1")
		for _, r := range append(rowsOf(right), rowsOf(left)...) {
			grouped.Merge(r, start)
		}
		if !sameRows(rowsOf(grouped), want) {
			t.Fatalf("grouped:\n%v, want\n%v", rowsOf(grouped), want)
		}
	})
}

func plainRow2() polder.PeerRow {
	r := plainRow()
	r.Peer, r.Region = "nl-1", "nl"
	return r
}

func greatest(rows []polder.PeerRow, except string) []polder.PeerRow {
	best := map[string]polder.PeerRow{}
	for _, r := range rows {
		if held, ok := best[r.Peer]; !ok || compareRows(r, held) > 0 {
			best[r.Peer] = r
		}
	}
	delete(best, except)
	var out []polder.PeerRow
	for _, r := range best {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b polder.PeerRow) int { return slices.Compare([]byte(a.Peer), []byte(b.Peer)) })
	return out
}

// The outcome tells the truth: Changed exactly when the rows changed, and a
// second time the same row is Stale.
func TestMergeOutcome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := newTable("fr-1")
		for _, r := range rapid.SliceOfN(anyRow(), 1, 12).Draw(t, "rows") {
			before := rowsOf(table)
			own := table.Own()
			outcome := table.Merge(r, start)
			switch {
			case (outcome == Changed) != !sameRows(before, rowsOf(table)):
				t.Fatalf("%s, but rows were %v and are %v", outcome, before, rowsOf(table))
			case (outcome == Raised) != !equalRows(own, table.Own()):
				t.Fatalf("%s, but own row was %v and is %v", outcome, own, table.Own())
			case outcome == Raised && compareVersions(table.Own(), r) <= 0:
				t.Fatalf("raised to %v, which is not above %v", table.Own(), r)
			}
			if again := table.Merge(r, start); again != Stale {
				t.Fatalf("second time: %s", again)
			}
		}
	})
}

// Which peers a full table keeps does not depend on the order either.
func TestTableIsBounded(t *testing.T) {
	var rows []polder.PeerRow
	for i := range MaxPeers + 50 {
		r := plainRow()
		r.Peer = fmt.Sprintf("p-%04d", i)
		rows = append(rows, r)
	}
	forward, backward := newTable("zz-1"), newTable("zz-1")
	for i := range rows {
		forward.Merge(rows[i], start)
		backward.Merge(rows[len(rows)-1-i], start)
	}
	for name, table := range map[string]*Table{"forward": forward, "backward": backward} {
		if n := len(table.Peers()); n != MaxPeers {
			t.Errorf("%s: %d peers, want %d", name, n, MaxPeers)
		}
		if table.Own().Peer != "zz-1" {
			t.Errorf("%s: the own peer was pushed out", name)
		}
	}
	if !sameRows(rowsOf(forward), rowsOf(backward)) {
		t.Error("the order of arrival decided who stays")
	}
	late := plainRow()
	late.Peer = "p-9999"
	if outcome := forward.Merge(late, start); outcome != Full {
		t.Errorf("one more: %s, want %s", outcome, Full)
	}
}

func TestMergeLeavesItsInputAlone(t *testing.T) {
	table := newTable("nl-1")
	row := plainRow()
	table.Merge(row, start)
	row.Warm[0] = "changed-by-the-caller"
	if got := rowsOf(table)[0].Warm[0]; got != "billing" {
		t.Errorf("the table's row followed the caller's: %s", got)
	}
	said := []polder.ServiceName{"a"}
	table.Say(polder.PeerRow{Warm: said}, start)
	said[0] = "b"
	if got := table.Own().Warm[0]; got != "a" {
		t.Errorf("the own row followed the caller's: %s", got)
	}
}

func TestMergeRefusesInvalidRows(t *testing.T) {
	table := newTable("nl-1")
	if outcome := table.Merge(polder.PeerRow{Peer: "x y"}, start); outcome != Invalid {
		t.Errorf("outcome %s, want %s", outcome, Invalid)
	}
	top := polder.PeerRow{Peer: "nl-1", Region: "nl", Epoch: maxVersion - 1, Sequence: maxVersion - 1}
	if outcome := table.Merge(top, start); outcome != Invalid {
		t.Errorf("own row that nothing can rise above: outcome %s, want %s", outcome, Invalid)
	}
}

// usable is what the table's contract says, spelled out once more: only a peer
// that the failure detector calls alive, whose row is of that life and region,
// healthy, not draining, and not suspected.
func TestUsableNeedsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := newTable("zz-1")
		now := start
		standing := map[string]Standing{}
		life := map[string]uint64{}
		region := map[string]polder.RegionName{}
		suspected := map[string]time.Time{}
		steps := rapid.IntRange(1, 40).Draw(t, "steps")
		for range steps {
			peer := rapid.SampledFrom([]string{"fr-1", "nl-1", "pl-1"}).Draw(t, "peer")
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				r := anyRow().Draw(t, "row")
				r.Peer = peer
				table.Merge(r, now)
			case 1:
				if standing[peer] != Alive {
					delete(suspected, peer)
				}
				standing[peer] = Alive
				life[peer] = rapid.Uint64Range(1, 3).Draw(t, "life")
				region[peer] = rapid.SampledFrom([]polder.RegionName{"fr", "nl"}).Draw(t, "where")
				table.Alive(peer, region[peer], life[peer], now)
			case 2:
				if known(table, peer) {
					standing[peer] = Dead
				}
				table.Dead(peer, now)
			case 3:
				until := now.Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second)
				if known(table, peer) && until.After(suspected[peer]) {
					suspected[peer] = until
				}
				table.Suspect(peer, until, now)
			case 4:
				delete(suspected, peer)
				table.Trust(peer, now)
			case 5:
				now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "pass")) * time.Second)
				table.Advance(now)
			}
			for _, p := range table.Peers() {
				if p.Row.Peer == table.own {
					continue
				}
				r := p.Row
				want := standing[r.Peer] == Alive && r.Sequence > 0 && r.Epoch >= life[r.Peer] && r.Region == region[r.Peer] &&
					r.Healthy && !r.Draining && !suspected[r.Peer].After(now)
				if p.Usable != want {
					t.Fatalf("%s usable %t, want %t: %+v, detector %s epoch %d region %s, suspected until %v, now %v",
						r.Peer, p.Usable, want, r, standing[r.Peer], life[r.Peer], region[r.Peer], suspected[r.Peer], now)
				}
				if p.Steady && !p.Usable {
					t.Fatalf("%s steady but not usable", r.Peer)
				}
			}
			for region, healthy := range See(table.Peers()).Health {
				any := slices.ContainsFunc(table.Peers(), func(p Peer) bool { return p.Usable && p.Row.Region == region })
				if healthy != any {
					t.Fatalf("region %s healthy %t, but one of its peers usable %t", region, healthy, any)
				}
			}
		}
	})
}

func known(table *Table, peer string) bool {
	return slices.ContainsFunc(table.Peers(), func(p Peer) bool { return p.Row.Peer == peer })
}

// Advance has nothing to do before the instant that Next names, and something
// at it.
func TestNextIsTheInstantOfTheNextChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := newTable("zz-1")
		now := start
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			r := anyRow().Draw(t, "row")
			r.Draining = false
			table.Merge(r, now)
			table.Alive(r.Peer, r.Region, 1, now)
			if rapid.Bool().Draw(t, "suspect") {
				table.Suspect(r.Peer, now.Add(2*time.Second), now)
			}
			if rapid.Bool().Draw(t, "dead") {
				table.Dead(r.Peer, now)
			}
			table.Advance(now)
		}
		for range 50 {
			next := table.Next(now)
			if next.IsZero() {
				return
			}
			if next.Before(now) {
				t.Fatalf("next %v lies before now %v", next, now)
			}
			if early := next.Add(-2 * time.Millisecond); early.After(now) && table.Advance(early) {
				t.Fatalf("something changed at %v, before %v", early, next)
			}
			now = next
			table.Advance(now)
			if again := table.Next(now); !again.IsZero() && !again.After(now) {
				t.Fatalf("at %v the next instant is %v: a loop would spin", now, again)
			}
		}
		t.Fatal("the table never comes to rest")
	})
}

func TestSayNumbersTheRow(t *testing.T) {
	table := newTable("fr-1")
	first, news := table.Say(polder.PeerRow{Peer: "someone-else", Epoch: 99, Healthy: true}, start)
	if !news || first.Peer != "fr-1" || first.Region != "fr" || first.Epoch != 1 || first.Sequence != 1 {
		t.Fatalf("first: %+v, news %t", first, news)
	}
	if _, news := table.Say(polder.PeerRow{Healthy: true}, start); news {
		t.Error("the same again is not news")
	}
	second, news := table.Say(polder.PeerRow{Healthy: true, Digest: "d"}, start)
	if !news || second.Sequence != 2 {
		t.Errorf("second: %+v, news %t", second, news)
	}
}

func TestKeepForgetsRegionsOutsideTheConfiguration(t *testing.T) {
	table := newTable("fr-1")
	table.Merge(plainRow2(), start)
	table.Alive("us-1", "us", 1, start) // has said nothing yet
	if !table.Keep(func(r polder.RegionName) bool { return r == "nl" }) {
		t.Error("us-1 should have gone")
	}
	if got := table.Peers(); len(got) != 2 || got[0].Row.Peer != "fr-1" || got[1].Row.Peer != "nl-1" {
		t.Errorf("left: %+v; want fr-1 (the own peer always stays) and nl-1", got)
	}
}

func TestObservedTakesNoDeadPeersWord(t *testing.T) {
	table := newTable("nl-1")
	table.Say(polder.PeerRow{Healthy: true}, start)
	table.Merge(plainRow(), start)
	table.Alive("fr-1", "fr", 1, start)
	rows := Observed(table.Peers())
	if len(rows) != 2 || !rows[0].Healthy || len(rows[0].Warm) != 3 {
		t.Fatalf("while alive: %+v", rows)
	}
	table.Dead("fr-1", start)
	rows = Observed(table.Peers())
	if rows[0].Healthy || rows[0].Warm != nil {
		t.Errorf("when dead: %+v", rows[0])
	}
	if rows[0].Address == "" || !rows[1].Healthy {
		t.Errorf("nothing else should change: %+v", rows)
	}
}

func TestDigestsShowSkew(t *testing.T) {
	table := newTable("nl-1")
	table.Say(polder.PeerRow{Digest: "new"}, start)
	table.Merge(plainRow(), start)
	if got := Digests(table.Peers()); len(got) != 1 {
		t.Errorf("a peer that nobody vouches for counted: %v", got)
	}
	table.Alive("fr-1", "fr", 1, start)
	if got := fmt.Sprint(Digests(table.Peers())); got != "map[new:[nl-1] sha256:ab12:[fr-1]]" {
		t.Error(got)
	}
}

// What is told to others: all that the failure detector has known, until it is
// forgotten, and nothing that came by relay only.
func TestTellable(t *testing.T) {
	table := newTable("nl-1")
	told := func() string {
		names := ""
		for _, peer := range table.Tellable() {
			names += peer + " "
		}
		return names
	}
	if got := told(); got != "" {
		t.Errorf("before it said anything itself: %s", got)
	}
	table.Say(polder.PeerRow{Healthy: true}, start)
	table.Merge(plainRow(), start)
	table.Alive("pl-1", "pl", 1, start) // alive, and silent
	if got := told(); got != "nl-1 " {
		t.Errorf("%s; fr-1 is known by relay only, and pl-1 has said nothing", got)
	}
	table.Alive("fr-1", "fr", 3, start)
	table.Dead("fr-1", start)
	if got := told(); got != "fr-1 nl-1 " {
		t.Errorf("%s; want fr-1 too: should it have lost its epoch, it hears of its former life", got)
	}
	table.Advance(start.Add(10 * time.Minute))
	if got := told(); got != "nl-1 " {
		t.Errorf("%s; want fr-1 forgotten", got)
	}
}
