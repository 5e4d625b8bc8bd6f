package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/bench/testbed"
)

// stage is where a fault plays.
type stage struct {
	site    *testbed.Site
	samples string
	moods   string // folder of the moody program
	options testbed.Options
}

// fault is something that goes wrong, with what is expected of it written beside.
type fault struct {
	name   string
	expect string // in words, for the timeline
	disk   bool   // it needs disks of their own
	// draw chooses what it hits.
	draw func(r *rand.Rand, s *stage) strike
}

// strike is one occurrence of a fault.
type strike struct {
	on string        // what it hits, for the timeline
	at *testbed.Peer // the one that it hits; nil for none or several
	// silences tells whether it can keep one region from being heard in another; nil
	// for one that hits a peer.
	silences func(of, in polder.RegionName) bool
	begin    func(ctx context.Context) (heal func() error, err error)
	excuse   []excuse // begin and end count from the strike, or, if end is 0, until all is well again
}

// Between a fault and the moment that others have noticed, calls that are on the
// wire, or sent to where nobody is, may fail.
const (
	noticed = time.Second
	// givenUp is until when the law has given a region up, and its standby serves: what
	// the failure detector needs, and three seconds of silence.
	givenUp = 7 * time.Second
	// nextTry is how long no instance may be started after some that failed.
	nextTry = 15 * time.Second
	// startTime is how long an instance may take to listen, and the only one that is
	// tried after one that failed.
	startTime = time.Minute
)

// silent tells whether the strike can keep one region from being heard in another.
func (h strike) silent(of, in polder.RegionName, peers int) bool {
	switch {
	case h.silences != nil:
		return h.silences(of, in)
	case h.at != nil:
		return peers == 1 && h.at.Region == of
	}
	return false
}

// between holds for two regions, whichever way.
func between(a, b polder.RegionName) func(of, in polder.RegionName) bool {
	return func(of, in polder.RegionName) bool { return of == a && in == b || of == b && in == a }
}

func anyPeer(r *rand.Rand, s *stage) *testbed.Peer { return s.site.Peers[r.IntN(len(s.site.Peers))] }

func twoRegions(r *rand.Rand) (polder.RegionName, polder.RegionName) {
	names := testbed.Regions()
	i := r.IntN(len(names))
	j := (i + 1 + r.IntN(len(names)-1)) % len(names)
	return names[i], names[j]
}

// nothing excuses nothing.
var nothing []excuse

// send sends one signal now, and another one to heal.
func send(pids func() []int, now, later syscall.Signal) func(context.Context) (func() error, error) {
	return func(context.Context) (func() error, error) {
		hit := pids()
		if len(hit) == 0 {
			return nil, fmt.Errorf("nothing to send %s to", now)
		}
		for _, pid := range hit {
			if err := syscall.Kill(pid, now); err != nil && err != syscall.ESRCH {
				return nil, err
			}
		}
		return func() error {
			for _, pid := range hit {
				if later != 0 {
					_ = syscall.Kill(pid, later) // it may have ended
				}
			}
			return nil
		}, nil
	}
}

func ownPolder(p *testbed.Peer) func() []int {
	return func() []int { return positive(p.Command()) }
}

func ownEnvoy(p *testbed.Peer) func() []int { return func() []int { return positive(p.Envoy()) } }

func positive(pid int) []int {
	if pid <= 0 {
		return nil
	}
	return []int{pid}
}

// instances are all that run at a peer now.
func instances(p *testbed.Peer) func() []int {
	return func() []int {
		var pids []int
		for pid, label := range p.Processes() {
			if !strings.HasPrefix(label, "Envoy ") {
				pids = append(pids, pid)
			}
		}
		slices.Sort(pids)
		return pids
	}
}

// through holds for calls that enter by a peer.
func through(p *testbed.Peer) func(call) bool { return func(c call) bool { return c.entry == p.Name } }

// towards holds for calls of services that the region serves, which others pass to it.
func towards(r polder.RegionName) func(call) bool {
	return func(c call) bool { return c.service.mayAt(r) }
}

// lost is what is excused while a peer, or its Envoy, does not answer: all that
// enters there; what was on its way there until it has been noticed; and, if it was
// its region's last, what is pinned to that region.
func lost(p *testbed.Peer, s *stage) []excuse {
	list := []excuse{
		{why: "it entered by the lost peer", holds: through(p)},
		{why: "it was on its way to the lost peer, or sent there before that was noticed", end: noticed, holds: towards(p.Region)},
		{why: "it came from where the lost peer was a name server", end: noticed, kinds: []kind{transport}, holds: func(c call) bool { return c.entry == "" }},
	}
	if s.options.Peers == 1 {
		list = append(list, closed(p.Region))
	}
	return list
}

// closed is what is excused while a region is lost: what is pinned to it.
func closed(r polder.RegionName) excuse {
	return excuse{why: "it is pinned to the lost region", holds: func(c call) bool { return c.service.only(r) }}
}

// split is what is excused while two regions do not hear each other, in one
// direction or both: calls that must get from one to the other, and those of
// callers who ask a name server on the wrong side.
func split(a, b polder.RegionName) []excuse {
	return []excuse{
		{why: "it must cross the cut", holds: func(c call) bool {
			side := c.side()
			return side == a && c.service.mayAt(b) && !c.service.mayAt(a) || side == b && c.service.mayAt(a) && !c.service.mayAt(b)
		}},
		{why: "where it belongs is beyond the cut, and was not given up yet", end: givenUp, holds: func(c call) bool {
			side := c.side()
			return side == a && c.service.only(b) || side == b && c.service.only(a)
		}},
		{why: "its home was beyond the cut, and that was not noticed yet", end: noticed, holds: func(c call) bool {
			return c.service.mayAt(a) && c.service.mayAt(b)
		}},
	}
}

func cut(links ...testbed.Link) func(s *stage) func(context.Context) (func() error, error) {
	return func(s *stage) func(context.Context) (func() error, error) {
		return func(context.Context) (func() error, error) {
			clear := s.site.Shape(links...)
			return func() error { clear(); return nil }, nil
		}
	}
}

func link(a, b string, loss float64) testbed.Link { return testbed.Link{From: a, To: b, Loss: loss} }

// mood sets what the moody program does, and ends its instances so that it does it.
func (s *stage) mood(what string) func(context.Context) (func() error, error) {
	return func(context.Context) (func() error, error) {
		file := filepath.Join(s.moods, "mood")
		if err := os.WriteFile(file, []byte(what), 0o600); err != nil {
			return nil, err
		}
		for _, p := range s.site.Peers {
			for pid, label := range p.Processes() {
				if strings.Contains(label, "moody") {
					_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
				}
			}
		}
		return func() error { return os.Remove(file) }, nil
	}
}
