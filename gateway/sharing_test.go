package gateway

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/internal/faketime"
	"github.com/polder/polder/prewarm"
)

// TestPeersOfARegionShareItsBudget floods two peers of one region that do not hear
// of each other: as somebody counts who watches the instances of both, they never
// live longer together than the region's budget and one instance-minute pay for.
func TestPeersOfARegionShareItsBudget(t *testing.T) {
	for seed := range uint64(4) {
		random := rand.New(rand.NewPCG(seed, 11))
		minutes := 8 + 2*random.IntN(5)
		faketime.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			peers := []*world{newWorld(t, ctx), newWorld(t, ctx)}
			ended := make(chan error, len(peers))
			for _, w := range peers {
				w.ending = time.Duration(random.IntN(8_000)) * time.Millisecond
				go func() { ended <- w.r.Run(ctx) }()
				w.r.SetSurroundings(ctx, surroundings{health: polder.RegionHealth{"fr": true, "nl": true}})
				region := testRegions[0]
				region.Peers = len(peers)
				service := dear("billing", "", minutes)
				service.Scale.Concurrency = 1
				w.r.SetModel(ctx, &polder.Model{Regions: append([]polder.Region{region}, testRegions[1:]...), Services: []polder.Service{service},
					Prices: &polder.Prices{Currency: "EUR", Regions: map[polder.RegionName]polder.Price{"fr": {GiBSecond: 1000}}}})
				w.r.Begin(ctx, nil)
			}
			refused := 0
			for range 60 {
				answers := make(chan error, 10)
				for i := range cap(answers) {
					go func() {
						ctx, stop := context.WithTimeout(ctx, 15*time.Second)
						defer stop()
						_, err := peers[i%len(peers)].r.Wake(ctx, "billing", activator.Cause{Kind: activator.CauseRequest})
						answers <- err
					}()
				}
				after(time.Duration(random.IntN(12_000)) * time.Millisecond)
				for range cap(answers) {
					if reasonOf(<-answers) == activator.OverBudget {
						refused++
					}
				}
			}
			after(2 * time.Minute)
			var lived time.Duration
			var spent, limit prewarm.Nanos
			for _, w := range peers {
				s := w.spent("billing")
				lived, spent, limit = lived+w.lived(), spent+s.Spent+s.Reserved, limit+*s.Limit
			}
			pays := time.Duration(minutes) * time.Minute
			if lived > pays+time.Minute || lived < pays/2 {
				t.Errorf("seed %d: instances of both lived for %s, the budget pays for %s", seed, lived, pays)
			}
			if whole := prewarm.Nanos(minutes) * minutePrice; spent > whole || limit > whole || refused == 0 {
				t.Errorf("seed %d: both spent %d of %d together, whole is %d; %d callers were refused", seed, spent, limit, whole, refused)
			}
			stop()
			for range peers {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestMorePeersThanPlanned: a region that says one peer and has three splits among
// three from the moment at which they are seen, and goes on so when one leaves.
func TestMorePeersThanPlanned(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.priced([]polder.Tenant{{Name: "acme", Budget: &polder.Money{Micros: 6_000_000, Currency: "EUR"}}}, dear("billing", "acme", 12))
		seen := func(addresses ...string) {
			w.r.SetSurroundings(w.ctx, surroundings{health: polder.RegionHealth{"fr": true}, known: map[polder.RegionName][]string{"fr": addresses, "nl": {"e", "f", "g", "h"}}})
		}
		for _, c := range []struct {
			seen []string
			part prewarm.Nanos
		}{{[]string{"a"}, 1}, {[]string{"a", "b", "c"}, 3}, {[]string{"a", "b"}, 3}, {[]string{"a"}, 3}, {[]string{"a", "b", "c", "d"}, 4}} {
			seen(c.seen...)
			if got, want := *w.spent("billing").Limit, 12*minutePrice/c.part; got != want {
				t.Errorf("peers %v: the service may spend %d, want %d", c.seen, got, want)
			}
			w.r.do(w.ctx, func(now time.Time) {
				if s, _ := w.r.spending.book.Tenant(now, "acme"); *s.Limit != 6_000_000_000/c.part {
					t.Errorf("peers %v: its tenant may spend %d", c.seen, *s.Limit)
				}
			})
		}
	})
}
