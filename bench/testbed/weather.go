package testbed

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Within a region, and from a caller to the region where it is, one way.
const (
	nearby   = 200 * time.Microsecond
	lastMile = time.Millisecond
)

// Distance is a pair of places. The order counts: a link has two directions.
type Distance struct{ From, To string }

// Europe are the delays of one direction between Paris, Amsterdam and Warsaw.
func Europe() map[Distance]time.Duration {
	return map[Distance]time.Duration{
		{"fr", "nl"}: 5 * time.Millisecond, {"fr", "pl"}: 15 * time.Millisecond, {"nl", "pl"}: 12500 * time.Microsecond,
	}
}

// Link is how the network treats packets in one direction, between two ends: a
// peer, all peers of a region, or "*", which is everybody and the callers too.
type Link struct {
	From, To string
	Loss     float64 // share of packets, in [0, 1]; 1 is a cut
}

// end is one address on the network.
type end struct {
	name   string // of the peer; callers have "callers-REGION"
	region string
	caller bool
}

func (e end) is(name string) bool {
	return name == "*" || name == e.name || !e.caller && name == e.region
}

// weather is what the network does to packets. Safe for concurrent use.
type weather struct {
	delays map[Distance]time.Duration // fixed

	mu     sync.Mutex
	random *rand.Rand
	links  map[Link]int // how often each is in force
}

func newWeather(delays map[Distance]time.Duration, seed uint64) *weather {
	return &weather{delays: delays, random: rand.New(rand.NewPCG(seed, 1)), links: map[Link]int{}}
}

// set lets links be in force until the returned function is called.
func (w *weather) set(links []Link) (clear func()) {
	change := func(by int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, l := range links {
			if w.links[l] += by; w.links[l] == 0 {
				delete(w.links, l)
			}
		}
	}
	change(1)
	return sync.OnceFunc(func() { change(-1) })
}

// carry tells how long a packet takes, and whether it comes at all.
func (w *weather) carry(from, to end) (time.Duration, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.links {
		if from.is(l.From) && to.is(l.To) && w.random.Float64() < l.Loss {
			return 0, false
		}
	}
	delay := nearby
	if from.region != to.region {
		delay = max(w.delays[Distance{from.region, to.region}], w.delays[Distance{to.region, from.region}])
	}
	if from.caller || to.caller {
		delay += lastMile
	}
	return delay, true
}

// addressOf is the address of the n-th end, from 1, of the n-th region, from 1.
func addressOf(region, n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 77, byte(region), byte(n)})
}

// callerAt is the last part of the address of a region's callers.
const callerAt = 200
