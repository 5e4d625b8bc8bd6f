package gossip

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/hashicorp/memberlist"

	"github.com/polder/polder/regions"
)

const (
	seekFirst = 250 * time.Millisecond // three regions that start together meet quickly
	seekMost  = 15 * time.Second
	seekTold  = 3              // the failure in a row that is a warning: who starts together finds nobody at first
	seekAt    = 8              // addresses tried at a time
	seekLost  = 24 * time.Hour // a dead peer's address is tried for so long
	lookup    = 3 * time.Second
)

// seeker knows whom to look for: the configured addresses until one exchange
// with them succeeded, and the last addresses of peers that died. memberlist
// forgets the dead, so without it two halves of a healed network would never
// meet. Whenever a member goes, all configured addresses are looked for again:
// the one that went may be known to nobody else when it returns. It is safe for
// concurrent use.
type seeker struct {
	seeds []string
	wake  chan struct{} // capacity 1: there is somebody new to look for

	mu   sync.Mutex
	met  map[string]bool
	lost map[string]lostPeer
}

type lostPeer struct {
	address string
	since   time.Time
}

func newSeeker(seeds []string) *seeker {
	return &seeker{seeds: seeds, wake: make(chan struct{}, 1), met: map[string]bool{}, lost: map[string]lostPeer{}}
}

// gone hears that a member went; address is "" if it said goodbye.
func (s *seeker) gone(peer, address string, now time.Time) {
	s.mu.Lock()
	if address != "" {
		s.lost[peer] = lostPeer{address, now}
	}
	for len(s.lost) > regions.MaxPeers {
		oldest := ""
		for name, l := range s.lost {
			if oldest == "" || l.since.Before(s.lost[oldest].since) {
				oldest = name
			}
		}
		delete(s.lost, oldest)
	}
	s.mu.Unlock()
	s.again()
}

// found hears that a member is alive.
func (s *seeker) found(peer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lost, peer)
}

// again looks for all configured addresses once more.
func (s *seeker) again() {
	s.mu.Lock()
	s.met = map[string]bool{}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *seeker) targets(now time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var targets []string
	for _, seed := range s.seeds {
		if !s.met[seed] {
			targets = append(targets, seed)
		}
	}
	for peer, l := range s.lost {
		if now.Sub(l.since) > seekLost {
			delete(s.lost, peer)
			continue
		}
		targets = append(targets, l.address)
	}
	slices.Sort(targets)
	return slices.Compact(targets)
}

func (s *seeker) meet(target string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.met[target] = true
	for peer, l := range s.lost {
		if l.address == target {
			delete(s.lost, peer)
		}
	}
}

// seek joins whom the seeker looks for, until ctx ends.
func (g *Gossip) seek(ctx context.Context, m *memberlist.Memberlist) {
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(seekFirst), backoff.WithMultiplier(2), backoff.WithMaxInterval(seekMost),
		backoff.WithRandomizationFactor(0.3), backoff.WithMaxElapsedTime(0),
	)
	timer := time.NewTimer(0)
	defer timer.Stop()
	failed := map[string]int{} // failures in a row, of each address
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.seeker.wake:
			pause.Reset()
		case <-timer.C:
		}
		targets := g.seeker.targets(time.Now())
		failures := g.joinAll(ctx, m, targets)
		if ctx.Err() != nil {
			return
		}
		timer.Stop()
		if len(failures) == 0 {
			pause.Reset()
			clear(failed)
			continue
		}
		wait := pause.NextBackOff()
		timer.Reset(wait)
		for target, err := range failures {
			failed[target]++
			log := g.options.Log.Debug
			if failed[target] == seekTold && slices.Contains(g.options.Join, target) {
				log = g.options.Log.Warn
			}
			log("cannot join; will go on trying", "address", target, "reason", err.Error(), "next", wait)
		}
		maps.DeleteFunc(failed, func(target string, _ int) bool { return failures[target] == nil })
	}
}

// joinAll tries all targets side by side and returns those that failed.
func (g *Gossip) joinAll(ctx context.Context, m *memberlist.Memberlist, targets []string) map[string]error {
	failures := map[string]error{}
	var mu sync.Mutex
	var others int
	var all sync.WaitGroup
	slots := make(chan struct{}, seekAt)
	for _, target := range targets {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			n, err := g.joinOne(ctx, m, target)
			mu.Lock()
			defer mu.Unlock()
			others += n
			if err != nil {
				failures[target] = err
			} else {
				g.seeker.meet(target)
			}
		})
	}
	all.Wait()
	if others == 0 && len(failures) == 0 {
		g.box.leave(func(l *letters) { l.alone = true })
	}
	return failures
}

// joinOne exchanges tables with every peer behind a target. It tells with how
// many; none and no error means that the target is this peer itself.
func (g *Gossip) joinOne(ctx context.Context, m *memberlist.Memberlist, target string) (int, error) {
	addresses, err := resolve(ctx, target)
	if err != nil {
		return 0, err
	}
	n, self := 0, false
	var faults []error
	for _, a := range addresses {
		if a.String() == g.address {
			self = true
			continue
		}
		if _, err := m.Join([]string{a.String()}); err != nil {
			faults = append(faults, plain(err))
			continue
		}
		n++
		// The rows that came are in the mailbox before this.
		g.box.leave(func(l *letters) { l.joined = true })
	}
	if n > 0 || self {
		return n, nil
	}
	return 0, errors.Join(faults...)
}

// plain takes the one error out of the list that memberlist makes of it.
func plain(err error) error {
	var list interface{ WrappedErrors() []error }
	if errors.As(err, &list) && len(list.WrappedErrors()) == 1 {
		return list.WrappedErrors()[0]
	}
	return err
}

// resolve gives the addresses behind a host:port, within a few seconds.
func resolve(ctx context.Context, target string) ([]netip.AddrPort, error) {
	host, port, err := hostPort(target)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), uint16(port))}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookup)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", host, err)
	}
	var found []netip.AddrPort
	for _, ip := range ips {
		found = append(found, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return found, nil
}
