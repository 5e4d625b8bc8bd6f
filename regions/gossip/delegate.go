package gossip

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. Several of its goroutines do so, some with
// memberlist's lock held: every method copies into the mailbox and returns.
type delegate struct {
	own    string
	life   life
	box    *mailbox
	roster *roster
	queue  *memberlist.TransmitLimitedQueue
	rows   *atomic.Pointer[[][]byte] // what we tell in an exchange of tables; written by the loop
	count  *counters
	report *throttle
}

// The interfaces of memberlist that delegate fulfils.
var (
	_ memberlist.Delegate         = (*delegate)(nil)
	_ memberlist.EventDelegate    = (*delegate)(nil)
	_ memberlist.AliveDelegate    = (*delegate)(nil)
	_ memberlist.ConflictDelegate = (*delegate)(nil)
	_ memberlist.PingDelegate     = (*delegate)(nil)
)

// NodeMeta is our life, at most 66 bytes of the 512 that are allowed.
func (d *delegate) NodeMeta(int) []byte { return d.life.encode() }

// NotifyMsg takes a message that came in packets, or over a stream if it was too
// large for packets.
func (d *delegate) NotifyMsg(b []byte) {
	if len(b) > maxState {
		d.count.malformed.Add(1)
		return
	}
	if !d.box.put(b) {
		d.count.overflow.Add(1)
	}
}

// GetBroadcasts gives what is to be spread, for the next packet.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.queue.GetBroadcasts(overhead, limit)
}

// LocalState is our whole table, for an exchange.
func (d *delegate) LocalState(bool) []byte {
	rows := d.rows.Load()
	if rows == nil {
		return stateMessage(nil)
	}
	return stateMessage(*rows)
}

// MergeRemoteState takes the other's whole table.
func (d *delegate) MergeRemoteState(b []byte, _ bool) { d.NotifyMsg(b) }

// NotifyAlive refuses members that do not belong. memberlist then ignores them,
// each time they are mentioned, until this says otherwise.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	if n.Name == d.own {
		return nil
	}
	l, err := readLife(n.Name, n.Meta)
	switch {
	case err != nil:
	case !d.roster.knows(l.region):
		err = fmt.Errorf("region %s of peer %s is not in this peer's configuration; bring the configuration to every region before its peers start", l.region, n.Name)
	case !d.roster.room(n.Name):
		err = fmt.Errorf("peer %s is one too many for a membership", n.Name)
	}
	if err != nil {
		d.count.refused.Add(1)
		d.report.warn("peer is not admitted", "reason", err.Error())
	}
	return err
}

// NotifyJoin hears that a member is alive.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.heard(n, true) }

// NotifyUpdate hears that a member has begun another life.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.heard(n, true) }

// NotifyLeave hears that a member died or left; memberlist does not say which.
func (d *delegate) NotifyLeave(n *memberlist.Node) { d.heard(n, false) }

func (d *delegate) heard(n *memberlist.Node, alive bool) {
	if n.Name == d.own {
		return
	}
	l, err := readLife(n.Name, n.Meta)
	if err != nil {
		return // NotifyAlive has refused it before
	}
	m := member{alive: alive, address: n.Address(), life: l}
	name := n.Name
	d.roster.set(name, m)
	d.box.leave(func(rest *letters) { set(&rest.members, name, m) })
}

// NotifyConflict hears that one name is claimed from two addresses: a peer that
// restarted elsewhere before its death was noticed, or a misconfiguration.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.count.conflicts.Add(1)
	d.report.warn("two addresses claim one peer name; if this goes on, give each peer a name of its own",
		"peer", existing.Name, "address", existing.Address(), "other", other.Address())
}

// AckPayload adds nothing to the answers to probes.
func (d *delegate) AckPayload() []byte { return nil }

// NotifyPingComplete takes a measured round trip.
func (d *delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, _ []byte) {
	name := n.Name
	d.box.leave(func(rest *letters) { set(&rest.rtts, name, rtt) })
}

// rowBroadcast spreads one peer's row; a newer one takes its place in the queue,
// which is thereby bounded by the number of peers.
type rowBroadcast struct {
	peer    string
	message []byte
	sent    chan<- struct{} // if not nil: capacity 1, told when it has been spread
}

// Name makes rows of one peer replace each other.
func (b *rowBroadcast) Name() string { return b.peer }

// Invalidates is not asked of named broadcasts; the answer is the same.
func (b *rowBroadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(*rowBroadcast)
	return ok && o.peer == b.peer
}

// Message is what goes into the packet.
func (b *rowBroadcast) Message() []byte { return b.message }

// Finished hears that it was sent often enough, or replaced.
func (b *rowBroadcast) Finished() {
	if b.sent == nil {
		return
	}
	select {
	case b.sent <- struct{}{}:
	default:
	}
}
