package gossip

import (
	"context"
	"time"

	"github.com/hashicorp/memberlist"
)

// insistences is how often a peer that was accused says again that it lives, each
// time after the others may have forgotten the accusation.
const insistences = 8

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
// highest of all there is none: 2^32-1 and one is 0, which nobody believes, and whoever
// accused a peer with that number once would have it dead for good. But the dead are
// forgotten after a while (timing.gone and a round of probes), and then any
// incarnation above 0 is news.
func (g *Gossip) insist(ctx context.Context, m *memberlist.Memberlist) {
	var due <-chan time.Time
	left := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.accused:
			if left = insistences; due == nil {
				due = time.After(g.timing.gone)
			}
			continue
		case <-due:
		}
		if err := m.UpdateNode(g.timing.gossipInterval); err != nil {
			g.options.Log.Debug("membership", "detail", "says that it lives: "+err.Error()) // nobody has asked for it yet
		}
		if due = nil; left > 1 {
			left--
			due = time.After(g.timing.gone)
		}
	}
}
