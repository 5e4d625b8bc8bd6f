package regions

import (
	"maps"
	"slices"
	"time"

	"github.com/polder/polder"
)

// Standing is what the failure detector says of a peer.
type Standing string

// The standings. Only an alive peer can be usable.
const (
	Unknown Standing = "unknown" // a row came by relay, but nobody vouches for the peer
	Alive   Standing = "alive"
	Dead    Standing = "dead" // declared dead; alive again only when the detector says so
	Left    Standing = "left" // said goodbye
)

// Outcome is what became of a row given to Merge.
type Outcome string

// The outcomes. Only Changed and Raised are news that others should hear.
const (
	Stale   Outcome = "stale"   // the table holds this row, or a newer one
	Changed Outcome = "changed" // the row is now in the table
	Raised  Outcome = "raised"  // somebody holds a newer row of this peer than the peer itself: its own row now has a higher version
	Full    Outcome = "full"    // the table holds MaxPeers rows of peers that sort before this one
	Invalid Outcome = "invalid" // Check refuses the row
)

// Peer is a peer as one table judges it.
type Peer struct {
	Row      polder.PeerRow // as the peer said it; Sequence 0 while it has said nothing
	Standing Standing
	Able     bool          // alive, and healthy in its present life: it would serve who came
	Usable   bool          // able, not draining, not suspected
	Steady   bool          // usable, and not damped
	Since    time.Time     // when Usable last changed
	RTT      time.Duration // smoothed; 0 while not measured, and for the own peer
}

// Table is what one peer knows of all peers, itself included. It is not safe for
// concurrent use.
type Table struct {
	// Fixed after construction.
	own     string
	damping Damping
	memory  time.Duration

	entries map[string]*entry
}

// entry is one peer's line. row.Peer is always set; row.Sequence is 0 as long as
// only the failure detector spoke of the peer.
type entry struct {
	row       polder.PeerRow
	encoded   []byte // of row; nil while Sequence is 0
	standing  Standing
	region    polder.RegionName // of its present life, by the failure detector
	life      uint64            // epoch of its present life, by the failure detector
	standSet  time.Time         // when standing was last set, or the entry made
	suspected time.Time         // our own evidence speaks against it until then
	able      bool
	usable    bool
	since     time.Time
	penalty   penalty
	rtt       roundTrip
}

// NewTable makes the table of the named peer. memory is how long a peer that is
// gone is remembered (its version, and the faults held against it).
func NewTable(own string, region polder.RegionName, epoch uint64, damping Damping, memory time.Duration, now time.Time) *Table {
	t := &Table{own: own, damping: damping, memory: memory, entries: map[string]*entry{}}
	t.entries[own] = &entry{
		row:      polder.PeerRow{Peer: own, Region: region, Epoch: epoch},
		standing: Alive, region: region, life: epoch, standSet: now, since: now,
	}
	return t
}

// Say sets what the own peer says of itself: Address, Healthy, Draining, Warm,
// Busy, Load, Digest, Policy and Claims. Peer, Region, Epoch and Sequence are the table's. It returns the
// row to tell the others, and whether that is news.
func (t *Table) Say(row polder.PeerRow, now time.Time) (polder.PeerRow, bool) {
	e := t.entries[t.own]
	row.Peer, row.Region, row.Epoch, row.Sequence = e.row.Peer, e.row.Region, e.row.Epoch, e.row.Sequence
	if row.Sequence > 0 && equalRows(row, e.row) {
		return e.row, false
	}
	row.Sequence++
	e.set(row)
	t.judge(e, now)
	return e.row, true
}

// Merge takes in a row that came from anybody. Of two rows of one peer the one
// with the higher (Epoch, Sequence) holds; so any order, any repetition and any
// grouping of the same rows leave the same rows in the table.
//
// Nobody may speak for the own peer: a row of it that is newer than its own (its
// stored epoch was lost, or another process has its name) is not taken in; the
// own row's version rises above it instead.
//
// A newer row does not bring a dead peer back: it may have been on its way when
// the peer died. Only the failure detector vouches for life.
func (t *Table) Merge(row polder.PeerRow, now time.Time) Outcome {
	if Check(row) != nil {
		return Invalid
	}
	if row.Peer == t.own {
		return t.contest(row)
	}
	e, ok := t.entry(row.Peer, now)
	if !ok {
		return Full
	}
	if e.row.Sequence > 0 && compareRows(row, e.row) <= 0 {
		return Stale
	}
	e.set(row)
	t.judge(e, now)
	return Changed
}

// News tells whether Merge would do something with the row: it is newer than the
// one that the table holds of its peer.
func (t *Table) News(row polder.PeerRow) bool {
	e, ok := t.entries[row.Peer]
	switch {
	case !ok:
		return true
	case row.Peer == t.own:
		return compareVersions(row, e.row) >= 0 && !equalRows(row, e.row)
	}
	return e.row.Sequence == 0 || compareRows(row, e.row) > 0
}

func (e *entry) set(row polder.PeerRow) {
	row.Warm, row.Busy = slices.Clone(row.Warm), slices.Clone(row.Busy)
	e.row, e.encoded = row, Encode(row)
}

func (t *Table) contest(row polder.PeerRow) Outcome {
	e := t.entries[t.own]
	if compareVersions(row, e.row) < 0 || equalRows(row, e.row) {
		return Stale
	}
	risen := e.row
	switch {
	case row.Sequence+1 < maxVersion:
		risen.Epoch, risen.Sequence = row.Epoch, row.Sequence+1
	case row.Epoch+1 < maxVersion:
		risen.Epoch, risen.Sequence = row.Epoch+1, 1
	default:
		return Invalid // nothing is newer; only a liar counts that far
	}
	e.set(risen)
	return Raised
}

// entry finds a peer's entry or makes one. The bound keeps the own peer and
// those whose names sort first: a rule by time of arrival would make the table
// depend on the order of messages.
func (t *Table) entry(peer string, now time.Time) (*entry, bool) {
	if e, ok := t.entries[peer]; ok {
		return e, true
	}
	if len(t.entries) >= MaxPeers {
		last := ""
		for name := range t.entries {
			if name != t.own && name > last {
				last = name
			}
		}
		if peer > last {
			return nil, false
		}
		delete(t.entries, last)
	}
	e := &entry{row: polder.PeerRow{Peer: peer}, standing: Unknown, standSet: now, since: now}
	t.entries[peer] = e
	return e, true
}

// Alive records that the failure detector vouches for the peer, in the life that
// began with epoch, in region. Rows of earlier lives, or of another region, do
// not make it usable. It tells whether anything changed.
func (t *Table) Alive(peer string, region polder.RegionName, epoch uint64, now time.Time) bool {
	if peer == t.own {
		return false
	}
	e, ok := t.entry(peer, now)
	if !ok || e.standing == Alive && e.region == region && e.life == epoch {
		return false
	}
	if e.standing != Alive {
		e.suspected = time.Time{} // what we held against it before it went is out of date
	}
	e.standing, e.region, e.life, e.standSet = Alive, region, epoch, now
	t.judge(e, now)
	return true
}

// Dead records that the failure detector gave the peer up. It tells whether
// anything changed.
func (t *Table) Dead(peer string, now time.Time) bool { return t.gone(peer, Dead, now) }

// Left records that the peer said goodbye, which is no fault. It tells whether
// anything changed.
func (t *Table) Left(peer string, now time.Time) bool { return t.gone(peer, Left, now) }

func (t *Table) gone(peer string, standing Standing, now time.Time) bool {
	e, ok := t.entries[peer]
	if !ok || peer == t.own || e.standing == standing {
		return false
	}
	e.standing, e.standSet, e.rtt = standing, now, roundTrip{}
	t.judge(e, now)
	return true
}

// Suspect records own evidence against a peer, such as connections that fail: it
// is not usable until the given instant, or until Trust. The evidence stays
// here; others gather their own. The own peer cannot be suspected. It tells
// whether anything changed.
func (t *Table) Suspect(peer string, until, now time.Time) bool {
	e, ok := t.entries[peer]
	if !ok || peer == t.own || !until.After(e.suspected) || !until.After(now) {
		return false
	}
	e.suspected = until
	return t.judge(e, now)
}

// Trust withdraws a suspicion, for instance because a connection succeeded. It
// tells whether anything changed.
func (t *Table) Trust(peer string, now time.Time) bool {
	e, ok := t.entries[peer]
	if !ok || e.suspected.IsZero() {
		return false
	}
	e.suspected = time.Time{}
	return t.judge(e, now)
}

// Suspected tells whether own evidence speaks against the peer.
func (t *Table) Suspected(peer string, now time.Time) bool {
	e, ok := t.entries[peer]
	return ok && e.suspected.After(now)
}

// Measured adds a round-trip time to a live peer's record. It tells whether the
// value shown changed, which it rarely does.
func (t *Table) Measured(peer string, sample time.Duration) bool {
	e, ok := t.entries[peer]
	if !ok || peer == t.own || e.standing != Alive {
		return false
	}
	before := e.rtt.shown
	e.rtt = e.rtt.add(sample)
	return e.rtt.shown != before
}

// Keep forgets the peers whose region knows does not know: a region that was
// taken out of the configuration. It tells whether anything changed.
func (t *Table) Keep(knows func(polder.RegionName) bool) bool {
	before := len(t.entries)
	maps.DeleteFunc(t.entries, func(peer string, e *entry) bool {
		region := e.row.Region
		if e.row.Sequence == 0 {
			region = e.region
		}
		return peer != t.own && region != "" && !knows(region)
	})
	return len(t.entries) != before
}

// Advance lets time pass: suspicions end, damped peers become steady, and peers
// that have been gone for longer than the table's memory are forgotten. It
// tells whether anything changed.
func (t *Table) Advance(now time.Time) bool {
	changed := false
	for peer, e := range t.entries {
		if peer != t.own && e.standing != Alive && now.Sub(e.standSet) >= t.memory {
			delete(t.entries, peer)
			changed = true
			continue
		}
		damped := e.penalty.damped
		e.penalty = e.penalty.settle(t.damping, now)
		if t.judge(e, now) || damped != e.penalty.damped {
			changed = true
		}
	}
	return changed
}

// Next is the earliest instant at which Advance has something to do; zero when
// there is none.
func (t *Table) Next(now time.Time) time.Time {
	var next time.Time
	sooner := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for peer, e := range t.entries {
		if e.suspected.After(now) {
			sooner(e.suspected)
		}
		sooner(e.penalty.ends(t.damping))
		if peer != t.own && e.standing != Alive {
			sooner(e.standSet.Add(t.memory))
		}
	}
	return next
}

// judge recomputes whether the peer is able and usable, and counts a fault when it ceased
// to be so against its will. It tells whether an answer changed.
func (t *Table) judge(e *entry, now time.Time) bool {
	able := e.standing == Alive &&
		e.row.Sequence > 0 && e.row.Epoch >= e.life && e.row.Region == e.region && e.row.Healthy
	usable := able && !e.row.Draining && !e.suspected.After(now)
	if usable == e.usable {
		changed := able != e.able
		e.able = able
		return changed
	}
	e.able = able
	e.usable, e.since = usable, now
	if !usable && !e.row.Draining && e.standing != Left {
		e.penalty = e.penalty.fault(t.damping, now)
	}
	return true
}

// Encoded is the row of a peer as Encode writes it, and nil while the peer has
// said nothing.
func (t *Table) Encoded(peer string) []byte {
	if e, ok := t.entries[peer]; ok {
		return e.encoded
	}
	return nil
}

// Standing is what the failure detector said of the peer last.
func (t *Table) Standing(peer string) Standing {
	if e, ok := t.entries[peer]; ok {
		return e.standing
	}
	return Unknown
}

// Tellable names the peers whose rows a peer hands on when it tells all it knows:
// itself, and all peers that its failure detector has known, dead ones too until
// they are forgotten, so that a peer that lost its epoch hears of its former life.
// Rows that came by relay only are not handed on, or the rows of the dead would
// outlive every memory by travelling in circles.
func (t *Table) Tellable() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		if e := t.entries[name]; e.standing != Unknown && e.encoded != nil {
			names = append(names, name)
		}
	}
	return names
}

// Own is the own row as the others should hold it; Sequence is 0 before Say.
func (t *Table) Own() polder.PeerRow { return t.entries[t.own].row }

// Peers are all peers, by name.
func (t *Table) Peers() []Peer {
	peers := make([]Peer, 0, len(t.entries))
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		e := t.entries[name]
		peers = append(peers, Peer{
			Row: e.row, Standing: e.standing,
			Able: e.able, Usable: e.usable, Steady: e.usable && !e.penalty.damped,
			Since: e.since, RTT: e.rtt.shown,
		})
	}
	return peers
}

func equalRows(a, b polder.PeerRow) bool {
	return a.Peer == b.Peer && a.Region == b.Region && a.Epoch == b.Epoch && a.Sequence == b.Sequence &&
		a.Address == b.Address && a.Healthy == b.Healthy && a.Draining == b.Draining && a.Digest == b.Digest &&
		a.Load == b.Load && a.Policy == b.Policy && a.Claims == b.Claims && slices.Equal(a.Warm, b.Warm) && slices.Equal(a.Busy, b.Busy)
}
