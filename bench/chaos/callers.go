package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/bench/testbed"
	"github.com/polder/polder/loadtest"
)

const (
	// throughEach and byDNS are calls a second of each service through each peer, and
	// from each region by DNS.
	throughEach, byDNS = 0.5, 1.0
	// patience is that of a caller: longer than any fault lasts, so that what only
	// takes long is no error.
	patience = 25 * time.Second
	// dnsPatience is how long a caller waits for one name server, and dialPatience
	// for one address.
	dnsPatience, dialPatience = time.Second, 2 * time.Second
	// longest is how long a load may go on.
	longest = time.Hour
)

// spread makes each way of calling have a rhythm of its own, so that they do not
// all call at once.
func spread(i, j int) float64 { return 1 + float64((i*29+j*17)%37)/100 }

// load calls every service in every way until it is stopped.
type load struct {
	site    *testbed.Site
	started time.Time
	stop    context.CancelFunc
	ended   chan error

	mu     sync.Mutex
	calls  []call
	unsent int // for which loadtest had no room
	stalls []stall
}

// stall is a time in which this process, which is the network and the callers,
// did not run: the machine had no time for it, and so perhaps none for the peers.
type stall struct{ begin, end time.Duration }

const (
	// beat is how often the campaign looks whether it runs, and late how much later
	// that may be.
	beat, late = 20 * time.Millisecond, 200 * time.Millisecond
	// shaken is how often a stall's own length what it upset may take on top of what
	// a fault takes to be noticed: handshakes that were overdue are made again.
	shaken = 2
)

// over is until when calls may carry traces of the stall.
func (s stall) over() time.Duration { return s.end + noticed + shaken*(s.end-s.begin) }

// stalled sums up the time of stalls since an instant.
func stalled(stalls []stall, since, until time.Duration) (sum time.Duration) {
	for _, s := range stalls {
		sum += max(min(s.end, until)-max(s.begin, since), 0)
	}
	return sum
}

// stalledSince is how long the machine stood still since an instant.
func (l *load) stalledSince(t time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return stalled(l.stalls, t, l.now())
}

// watch notes stalls until ctx ends.
func (l *load) watch(ctx context.Context) {
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	last := l.now()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := l.now()
		if now-last > late {
			l.mu.Lock()
			l.stalls = append(l.stalls, stall{last, now})
			l.mu.Unlock()
		}
		last = now
	}
}

func startLoad(ctx context.Context, site *testbed.Site) *load {
	l := &load{site: site, ended: make(chan error, 1)}
	plan := loadtest.Plan{Description: "a fault campaign"}
	for i, s := range services {
		for j, p := range site.Peers {
			plan.Targets = append(plan.Targets, loadtest.Target{
				Name: target(s, p.Name, p.Region), URL: "https://" + s.host() + "/", Connect: p.Address.String() + ":443", Dial: site.Dial(p.Region),
				Arrivals: loadtest.Constant{Rate: throughEach * spread(i, j), For: longest},
			})
		}
		for j, r := range testbed.Regions() {
			plan.Targets = append(plan.Targets, loadtest.Target{
				Name: target(s, "", r), URL: "https://" + s.host() + "/", Dial: l.resolving(r),
				Arrivals: loadtest.Constant{Rate: byDNS * spread(i, j+7), For: longest},
			})
		}
	}
	o := loadtest.DefaultOptions()
	o.Roots, o.Connections, o.Timeout, o.Grace = site.Roots, loadtest.ConnectionsFresh, patience, patience
	o.Examine = examine
	o.Results = func(r loadtest.Result) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		switch {
		case r.Outcome.Sent():
			l.calls = append(l.calls, callOf(r))
		case r.Outcome == loadtest.Dropped:
			l.unsent++
		}
		return nil
	}
	watched := ctx
	ctx, l.stop = context.WithCancel(ctx)
	l.started = time.Now()
	watched, unwatch := context.WithCancel(watched)
	go l.watch(watched)
	go func() {
		defer unwatch() // what is under way when the calling stops can be held up, too
		_, err := loadtest.Run(ctx, plan, o)
		l.ended <- err
	}()
	return l
}

func (l *load) now() time.Duration { return time.Since(l.started) }

// finish stops calling and waits for what is under way; then l's fields tell all that
// happened.
func (l *load) finish() error {
	l.stop()
	return <-l.ended
}

// resolving opens connections as a caller does who knows a name: it asks the name
// servers, those of its own region first, and tries the addresses one by one.
func (l *load) resolving(from polder.RegionName) func(ctx context.Context, network, address string) (net.Conn, error) {
	dial := l.site.Dial(from)
	servers := l.site.Region(from)
	for _, p := range l.site.Peers {
		if p.Region != from {
			servers = append(servers, p)
		}
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		var faults []error
		for _, p := range servers {
			found, err := ask(ctx, dial, p, host)
			if err != nil {
				faults = append(faults, err)
				continue
			}
			for _, a := range found {
				conn, err := dialOne(ctx, dial, network, netip.AddrPortFrom(a, number(port)).String())
				if err == nil {
					return conn, nil
				}
				faults = append(faults, err)
			}
			break // who has been told where to go does not ask others
		}
		return nil, fmt.Errorf("no address of %s: %s", host, strings.ReplaceAll(errors.Join(faults...).Error(), "\n", "; "))
	}
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// ask asks one name server for IPv4 addresses.
func ask(ctx context.Context, dial dialer, p *testbed.Peer, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsPatience)
	defer cancel()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dial(ctx, network, p.Address.String()+":53")
	}}
	found, err := r.LookupNetIP(ctx, "ip4", host+".")
	if err != nil {
		return nil, fmt.Errorf("%s as a name server: %w", p.Name, err)
	}
	return found, nil
}

func dialOne(ctx context.Context, dial dialer, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	return dial(ctx, network, address)
}

func number(port string) uint16 {
	n, _ := strconv.ParseUint(port, 10, 16) // of our own URLs
	return uint16(n)
}
