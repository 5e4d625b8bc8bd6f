package gateway

import (
	"context"
	"fmt"
	"regexp"
	"sync"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
)

// census asks Envoy how many requests are in progress, once for everybody who
// wants to know at the same time: an answer costs Envoy's main thread a look at
// every statistic that it has, during which it does nothing else. A thousand
// services that fall asleep together would otherwise hold up callers for as many
// looks. Safe for concurrent use; made by newCensus.
type census struct {
	ask  func() (map[string]uint64, error) // bounded in time, and ends with the region
	turn chan struct{}                     // capacity 1: who asks holds it

	mu   sync.Mutex
	next *count // that is not being asked for yet; nil while nobody waits for one
}

// count is one answer.
type count struct {
	done  chan struct{} // closed when the rest is there
	stats map[string]uint64
	err   error
}

func newCensus(ask func() (map[string]uint64, error)) *census {
	return &census{ask: ask, turn: make(chan struct{}, 1)}
}

// inProgress is the statistic that counts a service's requests in progress,
// wherever they were sent.
func inProgress(name polder.ServiceName) string {
	return "cluster." + xds.ServiceCluster(name) + ".upstream_rq_active"
}

// openRequests asks Envoy for the requests in progress of every service.
func (r *Region) openRequests() (map[string]uint64, error) {
	return r.envoy.Admin().Stats(r.context(), inProgressOfAll)
}

// inProgressOfAll matches the statistics of all services.
var inProgressOfAll = "^" + regexp.QuoteMeta("cluster."+xds.ServiceCluster("")) + ".*" + regexp.QuoteMeta(".upstream_rq_active") + "$"

// open tells how many requests of a service are in progress, by an answer that
// was asked for after open was called. Envoy does not name services that nobody
// has called: they have none.
func (c *census) open(ctx context.Context, name polder.ServiceName) (int, error) {
	c.mu.Lock()
	mine, first := c.next, c.next == nil
	if first {
		mine = &count{done: make(chan struct{})}
		c.next = mine
	}
	c.mu.Unlock()
	if first {
		c.turn <- struct{}{} // held for one question
		c.mu.Lock()
		c.next = nil // who comes from now on needs a later answer
		c.mu.Unlock()
		mine.stats, mine.err = c.ask() // also for the others, whose time may be longer than ours
		<-c.turn
		close(mine.done)
	}
	select {
	case <-mine.done:
	case <-ctx.Done():
		return 0, fmt.Errorf("requests of %s in progress: %w", name, ctx.Err())
	}
	return int(mine.stats[inProgress(name)]), mine.err
}
