package gossip

import (
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/polder/polder/regions"
)

// hear takes in the membership's word on a member.
func (l *loop) hear(peer string, word member, now time.Time) bool {
	if word.alive {
		l.seeker.found(peer)
	} else {
		l.unsaid = true // one less hears us: more may be said
		at := word.address
		if l.leaving(peer) {
			at = ""
		}
		l.seeker.gone(peer, at, now)
	}
	known, is := l.members[peer]
	standing := l.table.Standing(peer)
	switch d := l.doubts[peer]; {
	case d != nil:
		d.hear(word, now)
	case is && word == known:
	case is, word.alive && (standing == regions.Dead || standing == regions.Left):
		l.doubts[peer] = &doubt{word: word, known: known, since: now}
	case word.alive: // a stranger is welcome at once: nobody has missed it
		l.doubts[peer] = &doubt{word: word, known: word, since: now, fresh: true}
	default:
		return l.believe(peer, word, now)
	}
	return l.weigh(peer, now)
}

// weigh makes up the mind on a peer whose word is doubted, and asks it if need be.
func (l *loop) weigh(peer string, now time.Time) bool {
	d := l.doubts[peer]
	if d == nil {
		return false
	}
	plausible := l.table.Suspected(peer, now) || !d.word.alive && l.leaving(peer)
	changed := l.believe(peer, d.believe(plausible, l.timing, now), now)
	switch {
	case d.over(l.timing, now):
		delete(l.doubts, peer)
	case d.ask(l.timing, now):
		l.post(peer, question{nonce: d.nonce, asker: l.options.Peer, asked: peer}.encode())
	}
	return changed
}

// weighAll lets time pass for all doubts.
func (l *loop) weighAll(now time.Time) bool {
	changed := false
	for peer := range l.doubts {
		changed = l.weigh(peer, now) || changed
	}
	return changed
}

// believe makes what holds of a peer known to the table. It tells whether anything
// changed.
func (l *loop) believe(peer string, m member, now time.Time) bool {
	before, known := l.members[peer]
	standing := l.table.Standing(peer)
	if known && before == m || !known && !m.alive && (standing == regions.Dead || standing == regions.Left) {
		return false
	}
	log := l.options.Log.With("peer", peer, "region", m.life.region, "address", m.address)
	if !m.alive {
		delete(l.members, peer)
		if l.leaving(peer) {
			log.Info("peer has left")
			return l.table.Left(peer, now)
		}
		log.Warn("peer is dead or unreachable")
		return l.table.Dead(peer, now)
	}
	l.members[peer] = m
	switch {
	case !known:
		log.Info("peer is alive", "epoch", m.life.epoch)
	case before.life != m.life:
		log.Info("peer has restarted", "epoch", m.life.epoch)
	}
	if !l.disclosure.Knows(m.life.region) {
		return false
	}
	return l.table.Alive(peer, m.life.region, m.life.epoch, now)
}

// leaving tells whether the peer's last row said that it drains: then its going
// is no fault.
func (l *loop) leaving(peer string) bool {
	row, err := regions.Decode(l.table.Encoded(peer))
	return err == nil && row.Draining
}

// reply answers a question that is for this peer, of a member.
func (l *loop) reply(b []byte, now time.Time) error {
	q, err := readQuestion(b)
	if err != nil || q.asked != l.options.Peer {
		return err
	}
	if now.Sub(l.repliesSince) >= l.timing.gossipInterval {
		l.replies, l.repliesSince = 0, now
	}
	if len(l.addresses(q.asker)) == 0 || l.replies >= maxAnswers {
		return nil
	}
	l.replies++
	s := statement{nonce: q.nonce, asker: q.asker, peer: l.options.Peer, life: l.life, at: l.address}.encode()
	credential, signature, err := l.sign(s)
	if err != nil {
		l.report.warn("a sign of life cannot be signed", "asker", q.asker, "reason", err.Error())
		return nil
	}
	l.post(q.asker, answerMessage(credential, signature, s))
	return nil
}

// takeAnswer takes in an answer, if it is one to the open question to its peer.
func (l *loop) takeAnswer(b []byte, now time.Time) (bool, error) {
	t, s, err := readAnswer(b)
	if err != nil {
		return false, err
	}
	d := l.doubts[s.peer]
	if d == nil || d.made.IsZero() || s.nonce != d.nonce || s.asker != l.options.Peer {
		return false, nil // answered before, or a question is repeated that was never ours
	}
	if err := l.proven(t, s.peer, s.life.region); err != nil {
		l.count.unproven.Add(1)
		l.report.warn("an answer was dropped", "reason", err.Error())
		return false, nil
	}
	first := d.proof.Before(d.since)
	d.answered(member{alive: true, address: s.at, life: s.life}, l.timing)
	if first && !d.agrees() {
		l.count.contradicted.Add(1)
		l.report.warn("the membership's word on a peer is not what the peer itself has signed; it may be late, or somebody who holds the key lies",
			"peer", s.peer, "said to be alive", d.word.alive, "said address", d.word.address, "said epoch", d.word.life.epoch,
			"address", s.at, "epoch", s.life.epoch)
	}
	return l.weigh(s.peer, now), nil
}

// addresses are where a peer may be: where it was known to be, and where the
// membership says that it is.
func (l *loop) addresses(peer string) []string {
	var at []string
	add := func(m member) {
		if m.address != "" && !slices.Contains(at, m.address) {
			at = append(at, m.address)
		}
	}
	if d := l.doubts[peer]; d != nil {
		add(d.known)
		add(d.word)
	}
	if m, ok := l.members[peer]; ok {
		add(m)
	}
	return at
}

// post sends a message to a peer in one packet to each of its addresses. It may be
// lost.
func (l *loop) post(peer string, message []byte) {
	if l.send == nil {
		return
	}
	for _, address := range l.addresses(peer) {
		if n, ok := node(peer, address); ok {
			if err := l.send(&n, message); err != nil {
				l.options.Log.Debug("membership", "detail", "question or answer not sent: "+err.Error(), "peer", peer)
			}
		}
	}
}

// node is a peer as memberlist addresses it.
func node(peer, address string) (memberlist.Node, bool) {
	host, port, err := net.SplitHostPort(address)
	n, numeric := strconv.ParseUint(port, 10, 16)
	ip := net.ParseIP(host)
	if err != nil || numeric != nil || ip == nil {
		return memberlist.Node{}, false
	}
	return memberlist.Node{Name: peer, Addr: ip, Port: uint16(n)}, true
}
