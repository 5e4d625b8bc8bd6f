package gossip

import (
	"context"
	"sync"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

// courier carries rows that are too large for packets to each member over a
// stream. It holds one row, the latest: a newer one replaces one that waits.
type courier struct {
	count  *counters
	report *throttle
	wake   chan struct{} // capacity 1

	mu      sync.Mutex
	message []byte
	to      []memberlist.Node
}

// couriers is how many streams are open at a time.
const couriers = 4

func newCourier(count *counters, report *throttle) *courier {
	return &courier{count: count, report: report, wake: make(chan struct{}, 1)}
}

// send returns at once.
func (c *courier) send(message []byte, members map[string]member) {
	to := make([]memberlist.Node, 0, len(members))
	for peer, m := range members {
		if n, ok := node(peer, m.address); ok {
			to = append(to, n)
		}
	}
	c.mu.Lock()
	c.message, c.to = message, to
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *courier) run(ctx context.Context, m *memberlist.Memberlist) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		c.mu.Lock()
		message, to := c.message, c.to
		c.mu.Unlock()
		var group errgroup.Group
		group.SetLimit(couriers)
		for i := range to {
			if ctx.Err() != nil {
				break
			}
			group.Go(func() error {
				if err := m.SendReliable(&to[i], message); err != nil && ctx.Err() == nil {
					c.count.undelivered.Add(1)
					c.report.warn("a large row could not be delivered; the next exchange of tables will bring it",
						"peer", to[i].Name, "reason", err.Error())
				}
				return nil
			})
		}
		_ = group.Wait() // the functions return no errors: one that is missed is made up for
	}
}
