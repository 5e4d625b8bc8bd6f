package gossip

import "time"

// A doubt is what a peer holds against the membership's word on one other peer.
//
// memberlist believes whoever holds the key, and packets that were recorded, so its
// word that a peer is dead, or back, or lives another life or elsewhere, may be a
// lie. The peer itself is asked (question.go), and what it signs in answer wins over
// any word: it can only have been signed after its question was made, so nothing that
// was recorded before helps a liar, either way.
//
// Who does not answer is what the membership says: dead after a moment, and back
// only when the membership has said so for longer than it takes it to notice a death.
//
// A doubt is a value: no clock, no goroutine. It belongs to the loop.
type doubt struct {
	word  member    // the membership's latest
	known member    // what was believed before the word, or has been signed since
	since time.Time // when the word came that differs
	proof time.Time // when the last question was made that has been answered; zero: none
	nonce nonce     // of the question that is open
	made  time.Time // when it was made; zero: none is open
	due   time.Time // when it is asked, next
	fresh bool      // nobody knew the peer: it is believed, and asked once
}

// agrees tells whether the membership's word is what is known.
func (d *doubt) agrees() bool {
	return d.word == d.known || !d.word.alive && !d.known.alive
}

// hear takes in the membership's next word.
func (d *doubt) hear(word member, now time.Time) {
	agreed := d.agrees()
	d.word = word
	if agreed && !d.agrees() {
		d.since = now
	}
}

// answered takes in what the peer has signed of itself, in answer to the open
// question.
func (d *doubt) answered(known member, t timing) {
	d.known, d.proof, d.fresh = known, d.made, false
	d.made, d.due = time.Time{}, d.proof.Add(t.probeInterval)
}

// believe makes up the mind on what holds now. plausible tells that a death is likely:
// own evidence speaks against the peer too, or it has said itself that it goes. Then it
// is believed at once, until the peer has answered.
func (d *doubt) believe(plausible bool, t timing, now time.Time) member {
	patience := t.probeTimeout
	switch {
	case d.word.alive:
		patience = t.gone
	case plausible:
		patience = 0
	}
	if !d.agrees() && !d.proven(t, now) && !now.Before(d.since.Add(patience)) {
		address := d.known.address
		if d.known = d.word; !d.word.alive && address != "" {
			d.known.address = address // where it may still be asked
		}
	}
	return d.known
}

// proven tells whether the peer has signed that it lives, not long ago.
func (d *doubt) proven(t timing, now time.Time) bool {
	return !d.proof.IsZero() && now.Before(d.proof.Add(t.proofLife()))
}

// settled tells whether there is nothing to ask, for now: the membership says that
// the peer lives, as it does.
func (d *doubt) settled() bool { return d.word.alive && d.agrees() && !d.fresh }

// over tells whether there is nothing left to ask, and nothing to remember: another
// lie may follow, and finds the answer to the one before it.
func (d *doubt) over(t timing, now time.Time) bool {
	last := d.since
	if d.proof.After(last) {
		last = d.proof
	}
	asked := (d.fresh || !d.word.alive && !d.known.alive) && !now.Before(last.Add(t.asking()))
	return !d.proven(t, now) && (d.settled() || asked)
}

// ask tells whether the peer is to be asked now. Until it has answered it is asked the
// same question, in each round of gossip at first.
func (d *doubt) ask(t timing, now time.Time) bool {
	if d.settled() || now.Before(d.due) {
		return false
	}
	if d.made.IsZero() {
		d.nonce, d.made = newNonce(), now
	}
	pause := now.Sub(d.made) / 4
	d.due = now.Add(min(max(pause, t.gossipInterval), 2*t.probeInterval))
	return true
}

// next is when there is something to do if nothing is heard until then; zero when
// there is not.
func (d *doubt) next(t timing, now time.Time) time.Time {
	var next time.Time
	for _, at := range []time.Time{d.due, d.since.Add(t.probeTimeout), d.since.Add(t.gone), d.proof.Add(t.proofLife())} {
		if at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// proofLife is for how long an answer holds. Who died just after it is known to be
// dead no later than the failure detector would have known.
func (t timing) proofLife() time.Duration { return time.Duration(t.suspicion) * t.probeInterval }

// asking is how long a peer is asked that is new, or believed to be dead, after the
// word or its last answer: for as long as the others may repeat what they have heard.
func (t timing) asking() time.Duration { return 2 * t.gone }
