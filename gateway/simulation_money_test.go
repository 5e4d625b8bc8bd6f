package gateway

import (
	"context"
	"maps"
	"slices"
	"testing/synctest"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/gateway/books"
	"github.com/polder/polder/prewarm"
	"github.com/polder/polder/prewarm/budget"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds/load"
)

// What the simulation knows of money by itself: simDear may be in every region, its
// budget pays for simMinutes instance-minutes in all, and its tenant may hold simQuota
// instances at a peer.
const (
	simDear    = polder.ServiceName("dear")
	simMinutes = 18
	simQuota   = 3
)

// simDisk is what a peer finds again when it returns: its books, as they were last
// brought to disk.
type simDisk struct {
	accounts map[string]budget.Saved
	leases   []budget.SavedLease
	written  time.Time
}

// sighting is an instance, as somebody knows of it who watches.
type sighting struct {
	region     polder.RegionName
	born, last time.Time // last seen
}

func (d *simDisk) write(e books.Entry, now time.Time) {
	for _, a := range e.Accounts {
		d.accounts[accountKey(a.Service, a.Tenant)] = a
	}
	if e.Moved {
		d.leases = e.Leases
	}
	d.written = now
}

// keepBooks brings a peer's books to disk as often as the product does.
func (s *simulation) keepBooks(p *simPeer, now time.Time) {
	if now.Sub(p.disk.written) < booksEvery {
		return
	}
	p.r.do(p.ctx, func(now time.Time) { p.disk.write(p.r.spending.unwritten(now, false), now) })
}

// restart ends a peer's Polder, as kill -9 does, and starts it again: its instances
// go on, and are adopted. One that did not listen yet ends with it.
func (s *simulation) restart(p *simPeer) {
	synctest.Wait()
	before, now := p.world, time.Now()
	var ran []polder.Instance
	for id, born := range before.born {
		if now.Sub(born) > before.startUp {
			ran = append(ran, polder.Instance{ID: id, Service: serviceOfInstance(id), Region: p.region, State: polder.Ready, Started: born, Ready: born.Add(before.startUp)})
		}
	}
	s.lose(p)
	s.start(p, ran...)
}

// flood calls simDear more often, by a peer that may serve it, than one instance can
// answer; what callers get is counted.
func (s *simulation) flood() {
	p := s.peers[s.random.IntN(len(s.peers))]
	if !p.up {
		return
	}
	if s.statusOf(p, simDear).Verdict != law.Serve {
		return
	}
	s.say("callers flood %s", p.name)
	p.flooded = time.Now().Add(time.Duration(5+s.random.IntN(40)) * time.Second)
}

// press keeps a flood up: requests that are in progress, and callers who come cold.
func (s *simulation) press(p *simPeer, now time.Time) {
	inProgress := 0
	if now.Before(p.flooded) {
		inProgress = 12
	} else if p.flooded.IsZero() {
		return
	} else {
		p.flooded = time.Time{}
	}
	p.r.LoadReported(p.ctx, []load.Report{{Node: p.name, Service: simDear, InProgress: inProgress}})
	if inProgress == 0 || s.random.IntN(10) > 0 {
		return
	}
	s.callers.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, 15*time.Second)
		defer cancel()
		target, err := p.r.Wake(ctx, simDear, activator.Cause{Kind: activator.CauseRequest})
		if err == nil {
			target.Release()
		}
		if reasonOf(err) == activator.OverBudget {
			s.broke.Add(1)
		}
	})
}

// checkMoney: somebody who watches the instances never counts more of them at a peer
// than the quota allows, nor in a region more of their time than the region's share
// of the budget and one instance-minute pay for; whatever is lost, cut or restarted.
func (s *simulation) checkMoney(now time.Time) {
	for _, p := range s.peers {
		if n := p.living()[simDear]; n > simQuota {
			s.fail("%s has %d instances of %s, its tenant may hold %d", p.name, n, simDear, simQuota)
		}
		for id, born := range p.births() {
			if serviceOfInstance(id) == simDear {
				s.watched[p.name+" "+string(id)] = sighting{p.region, born, now}
			}
		}
	}
	clear(s.lived)
	for _, w := range s.watched {
		s.lived[w.region] += w.last.Sub(w.born)
	}
	const share = simMinutes * time.Minute / 3
	for region, lived := range s.lived {
		if lived > share+time.Minute {
			s.fail("instances of %s lived for %s in %s, whose share of the budget pays for %s", simDear, lived, region, share)
		}
	}
}

// checkBooks: no peer has booked or set aside more than its part, and together they
// have booked, or set aside for the minute under way, what somebody counted who watched.
func (s *simulation) checkBooks() {
	var booked prewarm.Nanos
	for _, p := range s.peers {
		st := p.spent(simDear)
		if st.Limit == nil || *st.Limit != simMinutes*minutePrice/6 {
			s.fail("%s may spend %v, want a sixth of the budget", p.name, st.Limit)
		}
		if st.Spent+st.Reserved > *st.Limit {
			s.fail("%s has spent %d and set %d aside of %d", p.name, st.Spent, st.Reserved, *st.Limit)
		}
		booked += st.Spent + st.Reserved // the minutes that have not passed yet
	}
	var lived time.Duration
	for _, region := range slices.Sorted(maps.Keys(s.lived)) {
		lived += s.lived[region]
	}
	if counted := prewarm.Nanos(lived.Seconds() * 1000); counted > booked+minutePrice {
		s.fail("the books say that %d was spent or set aside, whoever watched counts %d", booked, counted)
	}
}
