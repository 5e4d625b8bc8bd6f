package gossip

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

// holdOff is the least time between two rows of the own peer. The first of
// several changes goes out at once, the others together: a region in which a
// thousand services come and go must not flood the membership.
const holdOff = 100 * time.Millisecond

// loop is the one goroutine that owns the table; it wakes for five reasons: a
// message or letter is in the mailbox, an own row that was held off is due, the
// table or a doubt has something to do at this instant, or Ready is due.
//
// Its fields belong to the goroutine of Run, which uses them before the loop's
// goroutine starts and after it has ended, and in between to that goroutine.
type loop struct {
	*Gossip
	table      *regions.Table
	members    map[string]member                               // those alive
	doubts     map[string]*doubt                               // by peer of which the membership's word is not simply believed
	send       func(to *memberlist.Node, message []byte) error // a packet; nil before memberlist runs
	disclosure regions.Disclosure
	row        polder.PeerRow // what was last published, not redacted
	unsaid     bool           // what the own row says may have changed
	untold     bool           // its version has changed, even if what it says has not
	heldUntil  time.Time
	told       map[string]told // by peer: its row with its seal, as it is handed on
	sealedAt   time.Time       // the own one
	settleBy   time.Time

	replies      int // answers given in this round of gossip
	repliesSince time.Time
}

// begin says the own row for the first time, even if nothing was published yet:
// others learn that this peer is here, and not healthy.
func (l *loop) begin(now time.Time) {
	l.settleBy = now.Add(l.timing.settle)
	l.unsaid = true
	l.step(now)
}

func (l *loop) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.box.wake:
		case <-timer.C:
		}
		timer.Reset(l.step(time.Now()))
	}
}

// step does all there is to do, and returns how long there will be nothing.
func (l *loop) step(now time.Time) time.Duration {
	messages, rest := l.box.take()
	changed := l.table.Advance(now)
	for peer, m := range rest.members {
		changed = l.hear(peer, m, now) || changed
	}
	if rest.published != nil {
		changed = l.take(*rest.published, now) || changed
	}
	for _, b := range messages {
		changed = l.read(b, now) || changed
	}
	for peer, until := range rest.evidence {
		if until.IsZero() {
			changed = l.table.Trust(peer, now) || changed
		} else {
			changed = l.table.Suspect(peer, until, now) || changed
		}
	}
	for peer, rtt := range rest.rtts {
		changed = l.table.Measured(peer, rtt) || changed
	}
	changed = l.weighAll(now) || changed
	if (l.unsaid || l.untold) && !now.Before(l.heldUntil) {
		changed = l.say(now) || changed
	}
	before := l.Snapshot()
	joined := len(l.members) > 0
	ready := before.Ready || rest.joined || rest.alone || !now.Before(l.settleBy)
	if changed || joined != before.Joined || ready != before.Ready {
		l.publish(joined, ready, now)
	}
	return l.idle(now, ready)
}

// take takes in what the caller published.
func (l *loop) take(p publication, now time.Time) bool {
	if !slices.Equal(p.disclosure.Regions, l.disclosure.Regions) {
		l.seeker.again() // some may have been turned away, here or there
	}
	l.row, l.disclosure, l.unsaid = p.row, p.disclosure, true
	changed := l.table.Keep(p.disclosure.Knows)
	for peer, m := range l.members { // a region may have come into the configuration
		if p.disclosure.Knows(m.life.region) {
			changed = l.table.Alive(peer, m.life.region, m.life.epoch, now) || changed
		}
	}
	return changed
}

// read takes in a message.
func (l *loop) read(b []byte, now time.Time) bool {
	changed := false
	var err error
	switch kindOf(b) {
	case kindQuestion:
		err = l.reply(b, now)
	case kindAnswer:
		changed, err = l.takeAnswer(b, now)
	default:
		err = readMessage(b, func(t told, row polder.PeerRow) {
			changed = l.merge(t, row, now) || changed
		})
	}
	switch {
	case errors.Is(err, errFormat) || errors.Is(err, regions.ErrFormat):
		l.count.unknownFormat.Add(1)
	case err != nil:
		l.count.malformed.Add(1)
		l.report.warn("a message makes no sense and was dropped", "reason", err.Error())
	}
	return changed
}

func (l *loop) merge(t told, row polder.PeerRow, now time.Time) bool {
	if !l.disclosure.Knows(row.Region) {
		l.count.strangers.Add(1)
		return false
	}
	if !l.table.News(row) {
		return false // seen before; a signature is checked once
	}
	if err := l.proven(t, row.Peer, row.Region); err != nil {
		l.count.unproven.Add(1)
		l.report.warn("a row was dropped", "reason", err.Error())
		return false
	}
	switch l.table.Merge(row, now) {
	case regions.Changed:
		l.told[row.Peer] = t.clone()
		if s := l.table.Standing(row.Peer); s == regions.Alive || s == regions.Unknown {
			l.spread(row.Peer, nil, now)
		}
		return true
	case regions.Raised:
		l.count.raised.Add(1)
		l.untold = true
		own := l.table.Own()
		l.report.warn("the membership held a newer row of this peer than its own, which has now risen above it: "+
			"its stored epoch was lost, or another process uses its name", "peer", own.Peer, "epoch", own.Epoch)
		return true
	case regions.Full:
		l.count.tableFull.Add(1)
	}
	return false
}

// say puts what was published into the own row, and spreads the row if it or its
// version has changed. It tells whether what it says has.
func (l *loop) say(now time.Time) bool {
	row, left := regions.Fit(l.disclosure.Redact(l.row, l.roster.regions()...))
	if left > 0 {
		l.report.warn("more services are warm than a row can name; callers find the others a little later", "left_out", left)
	}
	l.count.leftOut.Store(uint64(left))
	_, news := l.table.Say(row, now)
	if news || l.untold {
		l.heldUntil = now.Add(holdOff)
		l.spread(l.options.Peer, nil, now)
	}
	l.unsaid, l.untold = false, false
	return news
}

// drain says goodbye in the own row; sent is told when it has been spread. It is
// for after the loop's end.
func (l *loop) drain(sent chan<- struct{}, now time.Time) {
	l.table.Say(polder.PeerRow{Draining: true, Digest: l.row.Digest, Policy: l.row.Policy}, now)
	l.spread(l.options.Peer, sent, now)
	l.publish(len(l.members) > 0, true, now)
}

// spread queues a peer's row for all. Rows that fit in packets are passed on by
// everybody who has not had them; larger ones go from their own peer straight to
// each of the others, and reach whoever missed them by an exchange of tables.
func (l *loop) spread(peer string, sent chan<- struct{}, now time.Time) {
	sealed := l.sealed(peer, now)
	if sealed == nil {
		return
	}
	message := rowMessage(sealed)
	if len(message) <= maxPacketRow {
		l.queue.QueueBroadcast(&rowBroadcast{peer: peer, message: message, sent: sent})
		return
	}
	if peer == l.options.Peer {
		l.courier.send(message, l.members)
	}
}

// publish makes the table's present state visible.
func (l *loop) publish(joined, ready bool, now time.Time) {
	peers := l.table.Peers()
	rows := l.tellable(now)
	l.rows.Store(&rows)
	before := l.snapshot.Swap(&Snapshot{Peers: peers, View: regions.See(peers), Joined: joined, Ready: ready})
	if joined {
		l.joinedOnce.Do(func() { close(l.joined) })
	}
	if ready && (before == nil || !before.Ready) {
		close(l.ready)
	}
	select {
	case l.changes <- struct{}{}:
	default:
	}
}

// idle is the time until the next thing to do.
func (l *loop) idle(now time.Time, ready bool) time.Duration {
	next := l.table.Next(now)
	sooner := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	if l.unsaid || l.untold {
		sooner(l.heldUntil)
	}
	if !ready {
		sooner(l.settleBy)
	}
	for _, d := range l.doubts {
		if at := d.next(l.timing, now); !at.IsZero() {
			sooner(at)
		}
	}
	if next.IsZero() {
		return time.Hour // nothing is due; the mailbox wakes the loop
	}
	return max(next.Sub(now), time.Millisecond)
}
