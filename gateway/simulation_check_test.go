package gateway

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/internal/faketime"
	"github.com/polder/polder/regions/law"
)

// checkLaw: no instance is where its service may never be.
func (s *simulation) checkLaw() {
	for _, p := range s.peers {
		for service, n := range p.living() {
			if n > 0 && !slices.Contains(simAllowed[service], p.region) && simStandby[service] != p.region {
				s.fail("AGAINST THE LAW: %d instances of %s at %s", n, service, p.name)
			}
		}
	}
}

// living counts the instances of a peer.
func (p *simPeer) living() map[polder.ServiceName]int {
	count := map[polder.ServiceName]int{}
	for id := range p.births() {
		count[serviceOfInstance(id)]++
	}
	return count
}

// births tells which instances of a peer live, and since when.
func (p *simPeer) births() map[polder.InstanceID]time.Time {
	if !p.up {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.born)
}

// serviceOfInstance reads the names that a world gives to instances.
func serviceOfInstance(id polder.InstanceID) polder.ServiceName {
	service, _, _ := strings.Cut(string(id), "-")
	return polder.ServiceName(service)
}

func (s *simulation) instances(service polder.ServiceName) (n int, where []string) {
	for _, p := range s.peers {
		if c := p.living()[service]; c > 0 {
			n += c
			where = append(where, fmt.Sprintf("%d at %s", c, p.name))
		}
	}
	return n, where
}

func (s *simulation) statusOf(p *simPeer, service polder.ServiceName) ServiceStatus {
	list, err := p.r.Status(p.ctx)
	if err != nil {
		s.fail("%s: %v", p.name, err)
	}
	i := slices.IndexFunc(list, func(st ServiceStatus) bool { return st.Service == service })
	if i < 0 {
		s.fail("%s does not know %s", p.name, service)
	}
	return list[i]
}

// call follows a call that enters by a peer, and tells who answered it.
func (s *simulation) call(entry *simPeer, service polder.ServiceName) (answered *simPeer) {
	s.calls++
	status := s.statusOf(entry, service)
	var tries []*simPeer
	at := func(match func(*simPeer) bool) {
		for _, p := range s.peers {
			if match(p) && !slices.Contains(tries, p) {
				tries = append(tries, p)
			}
		}
	}
	switch {
	case status.Verdict == law.Serve && status.Home == "":
		tries = []*simPeer{entry}
	case status.Verdict == law.Serve, status.Verdict == law.Pass:
		at(func(p *simPeer) bool { return p.name == status.Home })
		for _, region := range status.Targets {
			at(func(p *simPeer) bool { return p.region == region })
		}
		if status.Verdict == law.Serve {
			at(func(p *simPeer) bool { return p == entry })
		}
	}
	for _, p := range tries {
		if p != entry && !s.connects(entry, p) {
			continue
		}
		if s.statusOf(p, service).Verdict != law.Serve {
			continue // it ends with an alert, which the caller's next try may spare
		}
		ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
		target, err := p.r.Wake(ctx, service, activator.Cause{Kind: activator.CauseRequest})
		cancel()
		if err == nil {
			target.Release() // the request is short
			return p
		}
	}
	return nil
}

// mustAnswer tells whether the network, as it is, leaves a call a place: a gateway
// that lives, and an allowed peer that it can connect to.
func (s *simulation) mustAnswer(entry *simPeer, service polder.ServiceName) bool {
	if simRefuses[service] && !slices.Contains(simAllowed[service], entry.region) {
		return false
	}
	return slices.ContainsFunc(s.peers, func(p *simPeer) bool {
		return slices.Contains(simAllowed[service], p.region) && p.up && (p == entry || s.connects(entry, p))
	})
}

// callSomebody makes one call, and judges what came of it.
func (s *simulation) callSomebody() {
	entry := s.peers[s.random.IntN(len(s.peers))]
	if !entry.up {
		return
	}
	service := s.model.Services[s.random.IntN(len(s.model.Services))].Name
	if service == simDear {
		return // its callers come in floods, and wait for money longer than a tick
	}
	calm := time.Since(s.changed) >= simSettled
	must := s.mustAnswer(entry, service)
	by := s.call(entry, service)
	switch {
	case by == nil && must && calm:
		s.fail("a call of %s through %s found nobody, though all has been as it is for %v: %+v", service, entry.name, time.Since(s.changed), s.statusOf(entry, service))
	case by != nil && simRefuses[service] && !slices.Contains(simAllowed[service], entry.region):
		s.fail("AGAINST THE LAW: a caller of %s came in through %s, where its owner refuses callers", service, entry.name)
	case by != nil:
		s.say("%s through %s: answered by %s", service, entry.name, by.name)
	}
	if must && calm {
		s.strict++
	}
}

// checkConverged: all peers hold the same rows, once a change has had two seconds to
// get around, and see each other usable.
func (s *simulation) checkConverged() {
	apart := s.apart()
	for range 20 {
		if apart == "" {
			return
		}
		s.tick()
		apart = s.apart()
	}
	s.fail("%s", apart)
}

// apart tells in what two peers differ about the membership; "" for nothing.
func (s *simulation) apart() string {
	want := ""
	for _, p := range s.peers {
		got := ""
		for _, q := range p.table.Peers() {
			got += fmt.Sprintf("%+v usable %t\n", q.Row, q.Usable)
			if !q.Usable {
				return fmt.Sprintf("%s cannot use %s though all is well", p.name, q.Row.Peer)
			}
		}
		if want == "" {
			want = got
		}
		if got != want {
			return fmt.Sprintf("%s holds\n%s%s holds\n%s", p.name, got, s.peers[0].name, want)
		}
	}
	return ""
}

// checkHomes: all peers agree where each service is at home; one that is still busy
// may have no home yet.
func (s *simulation) checkHomes(quiet bool) {
	for _, service := range s.model.Services {
		if service.Name == simDear && !quiet {
			continue
		}
		homes := map[string]bool{}
		for _, p := range s.peers {
			switch status := s.statusOf(p, service.Name); {
			case status.Home != "":
				homes[status.Home] = true
			case status.Verdict == law.Serve:
				homes[p.name] = true
			}
		}
		if len(homes) != 1 {
			s.fail("%s has the homes %v, want one", service.Name, homes)
		}
	}
}

var (
	simSeeds = flag.Uint64("sim-seeds", 8, "how many seeds TestSimulation plays")
	simSeed  = flag.Uint64("sim-seed", 0, "the first of them")
)

// TestSimulation plays seeds: ninety seconds of losses, cuts and calls; then all
// heals, and the fleet has to be as one again.
func TestSimulation(t *testing.T) {
	seeds := *simSeeds
	if testing.Short() {
		seeds = min(seeds, 3)
	}
	broke := 0
	for seed := *simSeed; seed < *simSeed+seeds; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			faketime.Test(t, func(t *testing.T) { broke += simulateFleet(t, seed) })
		})
	}
	if broke == 0 {
		t.Error("nobody's money ran out: this shows nothing of budgets")
	}
}

// simulateFleet tells how many callers were refused for want of money.
func simulateFleet(t *testing.T, seed uint64) int {
	s := newSimulation(t, seed)
	defer func() {
		for _, p := range s.peers {
			if p.up {
				s.lose(p)
			}
		}
		s.callers.Wait()
	}()
	s.run(bootTakeover)
	next := time.Now()
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); s.tick() {
		if now := time.Now(); !now.Before(next) {
			s.strike()
			next = now.Add(time.Duration(1000+s.random.IntN(20_000)) * time.Millisecond)
		}
		if s.random.IntN(4) == 0 {
			s.callSomebody()
		}
		if s.random.IntN(80) == 0 {
			s.flood()
		}
	}
	if s.strict == 0 {
		t.Errorf("of %d calls none had to be answered: this shows nothing", s.calls)
	}
	s.heal()
	for _, p := range s.peers {
		if !p.flooded.IsZero() {
			p.flooded = time.Now() // and no longer
		}
	}
	// Callers go on, too rarely for any service to be busy: copies that a cut made go.
	for end := time.Now().Add(simSettled + 2*linger); time.Now().Before(end); s.tick() {
		if s.random.IntN(20) == 0 {
			s.callSomebody()
		}
	}
	s.run(2 * linger)
	s.checkConverged()
	s.checkHomes(false)
	s.checkBooks()
	for _, service := range s.model.Services {
		if service.Name == simDear {
			continue // it may be busy for a while yet, and there may be no money left for it
		}
		if n, where := s.instances(service.Name); n != 0 {
			s.fail("%d instances of %s stay though nobody has called for %v: %v", n, service.Name, 2*linger, where)
		}
		for _, entry := range s.peers {
			if by := s.call(entry, service.Name); by == nil && s.mustAnswer(entry, service.Name) {
				s.fail("%s through %s is not answered though all is well", service.Name, entry.name)
			}
			s.tick()
		}
		if n, where := s.instances(service.Name); n != 1 {
			s.fail("six gateways keep %d instances of %s warm, want one: %v", n, service.Name, where)
		}
	}
	s.run(simQuiet)
	for _, service := range s.model.Services {
		if n, where := s.instances(service.Name); n != 0 {
			s.fail("%d instances of %s stay though nobody has called for %v: %v", n, service.Name, simQuiet, where)
		}
	}
	s.checkConverged()
	s.checkHomes(true)
	s.checkBooks()
	return int(s.broke.Load())
}
