package gossip

import (
	"context"
	"time"

	"github.com/hashicorp/memberlist"
)

// insistences is how often a peer that was accused says again that it lives: soon, for
// those who come, and then at pauses that double until the others may have forgotten
// the accusation, for them.
const insistences = 16

// accuse notes that memberlist has contradicted an accusation against the own peer.
func (g *Gossip) accuse() {
	select {
	case g.accused <- struct{}{}:
	default:
	}
}

// insist says again that the own peer lives, after it was accused, until ctx ends.
//
// memberlist contradicts an accusation once, with a higher incarnation. Above the
// highest of all there is none: 2^32-1 and one is 0, which nobody believes, not even
// who hears of the peer for the first time, and whoever accused a peer with that number
// once would have it dead for good. But to newcomers any incarnation above 0 is news,
// and so it is to the others when they have forgotten (timing.gone and a round of
// probes). Until then the accused is asked and answers (doubt.go), so nobody takes it
// for dead; but memberlist tells it nothing and does not probe it.
func (g *Gossip) insist(ctx context.Context, m *memberlist.Memberlist) {
	var due <-chan time.Time
	left, pause := 0, g.timing.gossipInterval
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.accused:
			left = insistences
			if due == nil || pause > g.timing.gossipInterval {
				pause = g.timing.gossipInterval
				due = time.After(pause)
			}
			continue
		case <-due:
		}
		if err := m.UpdateNode(g.timing.gossipInterval); err != nil {
			g.options.Log.Debug("membership", "detail", "says that it lives: "+err.Error()) // nobody has asked for it yet
		}
		if due = nil; left > 1 {
			left--
			pause = min(2*pause, g.timing.gone)
			due = time.After(pause)
		}
	}
}
