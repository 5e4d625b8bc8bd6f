package gateway

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/ledger"
	"github.com/polder/polder/xds/server"
)

// maxRefusals bounds how many refusals are remembered, the latest first.
const maxRefusals = 32

// Refusal is somebody who asked for what Envoys of the region get, and was not
// given it.
type Refusal struct {
	At          time.Time         `json:"at"`                    // the last time
	From        string            `json:"from"`                  // address
	Node        string            `json:"node,omitempty"`        // as it called itself
	Region      polder.RegionName `json:"region,omitempty"`      // as it said
	Certificate string            `json:"certificate,omitempty"` // the name in it; empty for one that is not accepted
	Reason      string            `json:"reason"`
	Count       int               `json:"count"`
}

// same tells whether it is the same again, whatever port it came from.
func (r Refusal) same(other Refusal) bool {
	return r.Node == other.Node && r.Region == other.Region && r.Certificate == other.Certificate && r.Reason == other.Reason
}

// refusals remembers the last ones, bounded. Safe for concurrent use.
type refusals struct {
	log     *slog.Logger
	journal *journal

	mu   sync.Mutex
	list []Refusal
}

// add notes one. The same again counts, and is said only when it first happens.
func (r *refusals) add(refusal Refusal) {
	refusal.At, refusal.Count = time.Now(), 1
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.list, refusal.same); i >= 0 {
		refusal.Count += r.list[i].Count
		r.list = slices.Insert(slices.Delete(r.list, i, i+1), 0, refusal)
		return
	}
	r.list = slices.Insert(r.list, 0, refusal)
	r.list = r.list[:min(len(r.list), maxRefusals)]
	r.log.Error("somebody on another machine is refused, and gets nothing", "from", refusal.From,
		"node", refusal.Node, "claimed-region", refusal.Region, "certificate", refusal.Certificate, "reason", refusal.Reason)
	r.journal.record(ledger.NodeRefused, refusal)
}

// claimed notes a claim that did not hold.
func (r *refusals) claimed(ctx context.Context, claim server.Identity, reason error) {
	refusal := Refusal{Node: claim.Node, Region: claim.Region, Reason: reason.Error()}
	if p, ok := peer.FromContext(ctx); ok {
		refusal.From = p.Addr.String()
		if info, ok := p.AuthInfo.(doorInfo); ok {
			refusal.Certificate = certificateName(info.State)
		}
	}
	r.add(refusal)
}

func (r *refusals) all() []Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}
