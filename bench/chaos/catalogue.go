package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/bench/testbed"
)

// catalogue is everything that can go wrong. The order belongs to the seeds: add
// at the end.
var catalogue = []fault{
	{name: "kill -9 polder", expect: "no caller notices: Envoy and instances go on, what is cold waits", draw: func(r *rand.Rand, s *stage) strike {
		p := anyPeer(r, s)
		return strike{on: p.Name, at: p, begin: send(ownPolder(p), syscall.SIGKILL, 0), excuse: nothing}
	}},
	{name: "pause polder", expect: "no caller notices: what is cold waits", draw: func(r *rand.Rand, s *stage) strike {
		p := anyPeer(r, s)
		return strike{on: p.Name, at: p, begin: send(ownPolder(p), syscall.SIGSTOP, syscall.SIGCONT), excuse: nothing}
	}},
	{name: "kill -9 Envoy", expect: "calls through it fail until it is back; calls on their way to it fail for a moment", draw: func(r *rand.Rand, s *stage) strike {
		p := anyPeer(r, s)
		return strike{on: p.Name, at: p, begin: send(ownEnvoy(p), syscall.SIGKILL, 0), excuse: lost(p, s)}
	}},
	{name: "pause Envoy", expect: "calls through it wait; calls on their way to it wait or fail for a moment", draw: func(r *rand.Rand, s *stage) strike {
		p := anyPeer(r, s)
		return strike{on: p.Name, at: p, begin: send(ownEnvoy(p), syscall.SIGSTOP, syscall.SIGCONT), excuse: lost(p, s)}
	}},
	{name: "kill -9 instances", expect: "no caller notices: calls are tried again, or wait for the next instance", draw: func(r *rand.Rand, s *stage) strike {
		p := anyPeer(r, s)
		return strike{on: p.Name, at: p, begin: send(instances(p), syscall.SIGKILL, 0), excuse: nothing}
	}},
	{name: "pause instances", expect: "calls to them wait, and no others", draw: func(r *rand.Rand, s *stage) strike {
		p := anyPeer(r, s)
		return strike{on: p.Name, at: p, begin: send(instances(p), syscall.SIGSTOP, syscall.SIGCONT), excuse: nothing}
	}},
	{name: "machine lost", expect: "as when its Envoy dies; it comes back by itself", draw: func(r *rand.Rand, s *stage) strike {
		p := anyPeer(r, s)
		return strike{on: p.Name, at: p, excuse: lost(p, s), begin: func(context.Context) (func() error, error) { return loseMachine(s, p), nil }}
	}},
	{name: "machine paused", expect: "as when its Envoy is paused", draw: func(r *rand.Rand, s *stage) strike {
		p := anyPeer(r, s)
		return strike{on: p.Name, at: p, excuse: lost(p, s), begin: func(context.Context) (func() error, error) {
			p.Signal(syscall.SIGSTOP)
			return func() error { p.Signal(syscall.SIGCONT); return nil }, nil
		}}
	}},
	{name: "region lost", expect: "what is pinned to it gets errors; all else is served elsewhere", draw: func(r *rand.Rand, s *stage) strike {
		region := testbed.Regions()[r.IntN(len(testbed.Regions()))]
		excuses := []excuse{closed(region)}
		for _, p := range s.site.Region(region) {
			excuses = append(excuses, lost(p, s)...)
		}
		return strike{on: string(region), silences: func(of, _ polder.RegionName) bool { return of == region }, excuse: excuses, begin: func(context.Context) (func() error, error) {
			var heal []func() error
			for _, p := range s.site.Region(region) {
				heal = append(heal, loseMachine(s, p))
			}
			return func() error {
				for _, h := range heal {
					if err := h(); err != nil {
						return err
					}
				}
				return nil
			}, nil
		}}
	}},
	{name: "partition", expect: "each side serves what it may; what must cross fails, labelled once it is noticed", draw: func(r *rand.Rand, s *stage) strike {
		a, b := twoRegions(r)
		return strike{on: fmt.Sprintf("%s | %s", a, b), silences: between(a, b), excuse: split(a, b), begin: cut(link(string(a), string(b), 1), link(string(b), string(a), 1))(s)}
	}},
	{name: "one-way partition", expect: "as a partition", draw: func(r *rand.Rand, s *stage) strike {
		a, b := twoRegions(r)
		return strike{on: fmt.Sprintf("%s -> %s", a, b), silences: between(a, b), excuse: split(a, b), begin: cut(link(string(a), string(b), 1))(s)}
	}},
	{name: "loss", expect: "calls that cross take longer", draw: func(r *rand.Rand, s *stage) strike {
		a, b := twoRegions(r)
		share := 0.05 + 0.15*r.Float64()
		return strike{on: fmt.Sprintf("%s - %s, %.0f %%", a, b, share*100), silences: between(a, b), excuse: split(a, b),
			begin: cut(link(string(a), string(b), share), link(string(b), string(a), share))(s)}
	}},
	{name: "disk hangs", disk: true, expect: "warm calls do not notice; what is cold waits", draw: func(r *rand.Rand, s *stage) strike {
		p := anyPeer(r, s)
		return strike{on: p.Name, at: p, excuse: nothing, begin: func(context.Context) (func() error, error) {
			release, err := p.Freeze()
			if err != nil {
				return nil, err
			}
			return func() error { release(); return nil }, nil
		}}
	}},
	{name: "disk full", disk: true, expect: "warm calls do not notice; what is cold there gets labelled errors", draw: func(r *rand.Rand, s *stage) strike {
		p := anyPeer(r, s)
		return strike{on: p.Name, at: p, excuse: []excuse{{why: "nothing can be started at the full disk", kinds: []kind{labelled}, holds: towards(p.Region)}},
			begin: func(context.Context) (func() error, error) {
				release, err := p.Fill()
				if err != nil {
					return nil, err
				}
				return func() error { release(); return nil }, nil
			}}
	}},
	{name: "bad configuration", expect: "no caller notices: the last good one stays in force", draw: func(r *rand.Rand, s *stage) strike {
		p := anyPeer(r, s)
		bad := []string{"regions: [", "", "services: { pinned: 7 }", "regions:\n  xx: { location: [1, 2] }\nservices: {}\n"}[r.IntN(3)]
		return strike{on: p.Name, at: p, excuse: nothing, begin: func(context.Context) (func() error, error) {
			if err := p.WriteConfig(bad); err != nil {
				return nil, err
			}
			return func() error { return p.WriteConfig(s.options.Config(s.options.Services)) }, nil
		}}
	}},
	{name: "skewed configuration", expect: "the peer does not know a service; callers of others do not notice", draw: func(r *rand.Rand, s *stage) strike {
		p := anyPeer(r, s)
		gone := services[r.IntN(len(services))]
		return strike{on: p.Name + " without " + gone.name, at: p,
			excuse: []excuse{
				{why: "the peer does not know the service", holds: func(c call) bool {
					return c.service.name == gone.name && (c.entry == p.Name || c.entry == "" && c.service.mayAt(p.Region))
				}},
				{why: "its home was there, and that the peer does not know it was not noticed yet", end: noticed, holds: func(c call) bool {
					return c.service.name == gone.name && c.service.mayAt(p.Region)
				}},
			},
			begin: func(context.Context) (func() error, error) {
				if err := p.WriteConfig(s.options.Config(configuration(s.samples, s.moods, gone.name))); err != nil {
					return nil, err
				}
				return func() error { return p.WriteConfig(s.options.Config(s.options.Services)) }, nil
			}}
	}},
	{name: "program that dies at once", expect: "its callers get labelled errors, and nobody else", draw: lie("dies", nextTry)},
	{name: "program that never listens", expect: "its callers wait, or get labelled errors, and nobody else", draw: lie("sleeps", startTime+nextTry)},
}

func lie(mood string, beyond time.Duration) func(*rand.Rand, *stage) strike {
	return func(_ *rand.Rand, s *stage) strike {
		return strike{on: "moody", begin: s.mood(mood),
			excuse: []excuse{{why: "its program lies, or has lied so often that the next try is yet to come", beyond: beyond, kinds: []kind{labelled, transport}, holds: func(c call) bool {
				// What is told at once says why; who is told nothing has waited.
				return c.service.moody && (c.kind == labelled && !strings.Contains(c.explanation, "unknown-service") || c.end-c.begin >= patience-noticed)
			}}}}
	}
}

// loseMachine kills all of a peer and takes it off the network; what it returns
// plugs it in again.
func loseMachine(s *stage, p *testbed.Peer) (heal func() error) {
	release := p.Hold()
	clear := s.site.Shape(link(p.Name, "*", 1), link("*", p.Name, 1))
	p.Signal(syscall.SIGKILL)
	return func() error { clear(); release(); return nil }
}
