package dns

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

const (
	// perSecond and burst bound the answers in packets to one network. The resolvers
	// of a large provider ask for a thousand busy hosts less often than that.
	perSecond, burst = 200.0, 400.0
	// slip is how many packets beyond the rate are dropped for one that gets a
	// truncated answer: who is really there comes back over TCP.
	slip = 2
	// slots bound the memory; two networks that fall on one share its rate.
	slots = 1 << 14
	// network4 and network6 are as much of an address as one owner has.
	network4, network6 = 24, 56
)

// verdict is what happens to a packet.
type verdict int

const (
	answerIt verdict = iota
	truncateIt
	dropIt
)

// limiter bounds what goes to each network: a packet's source may be forged, and
// then the answers hit somebody who asked for nothing. Where a network falls in
// the table is secret.
type limiter struct {
	seed  maphash.Seed
	mu    sync.Mutex
	table []bucket
}

type bucket struct {
	tokens  float32
	dropped uint32
	at      time.Duration // since begun, when tokens was right
}

func newLimiter() *limiter { return &limiter{seed: maphash.MakeSeed(), table: make([]bucket, slots)} }

// take judges one packet from an address, at a time that grows, give or take
// what another goroutine was faster.
func (l *limiter) take(from netip.Addr, now time.Duration) verdict {
	i := maphash.Comparable(l.seed, network(from)) % slots
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.table[i]
	if b.at == 0 { // never used
		b.tokens = burst
	}
	b.tokens = min(burst, b.tokens+float32(max(0, now-b.at).Seconds()*perSecond))
	b.at = max(b.at, now, 1)
	if b.tokens >= 1 {
		b.tokens--
		return answerIt
	}
	b.dropped++
	if b.dropped%(slip+1) == 0 {
		return truncateIt
	}
	return dropIt
}

// network is the part of an address that is one owner's.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := network6
	if a.Is4() {
		bits = network4
	}
	p, _ := a.Prefix(bits) // the zero prefix for no address
	return p
}
