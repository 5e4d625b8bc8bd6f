package activator

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/polder/polder"
)

// ServiceStats counts one service's requests since its first one. At any time
// Requests = Held + Forwarded + Moved + Brief + those of Failed that were never forwarded.
type ServiceStats struct {
	Service    polder.ServiceName
	Requests   uint64                       // arrived here
	Held       int                          // held now
	Forwarding int                          // forwarded and not ended, now
	Forwarded  uint64                       // connected to an instance
	Cold       uint64                       // forwarded after waiting for a start
	Moved      uint64                       // streams that Envoy sent to a ready instance itself
	Saturated  uint64                       // forwarded after waiting for an instance that was ready, and busy
	Late       uint64                       // forwarded to an instance that was ready already
	Brief      map[polder.ColdAnswer]uint64 // answered at once in place of an instance, by answer; what is rejected is in Failed
	Failed     map[Reason]uint64            // not answered, or not completely, by reason
}

// ClassStats is what a class holds now, and its bounds.
type ClassStats struct {
	Class  Class
	Held   int
	Bytes  polder.Bytes
	Budget Budget
}

// Stats is a consistent snapshot of all counters.
type Stats struct {
	Services   []ServiceStats // by name; services that left the configuration may be missing
	Unknown    uint64         // requests for no known service
	Forwarding int            // forwarded and not ended, now
	Classes    []ClassStats   // cold, then saturated
}

// book counts and admits. Every change of a request's state goes through it,
// so that a snapshot always adds up.
type book struct {
	known func(polder.ServiceName) bool // fixed after construction
	limit int                           // Limits.Forwarding; fixed after construction

	mu         sync.Mutex // guards all below
	holdings   map[Class]*holding
	forwarding int
	unknown    uint64
	services   map[polder.ServiceName]*ServiceStats
	sweepAt    int // size of services at which forgotten ones are dropped
	logged     map[logKey]*logged
}

type logKey struct {
	service polder.ServiceName
	reason  Reason
}

type logged struct {
	last       time.Time
	suppressed uint64
}

const (
	sweepFirst  = 1024        // services counted before the first sweep
	logInterval = time.Second // between two log lines of one service and reason
)

func newBook(limits Limits, known func(polder.ServiceName) bool) *book {
	return &book{
		known:    known,
		limit:    limits.Forwarding,
		holdings: map[Class]*holding{Cold: newHolding(limits.Cold), Saturation: newHolding(limits.Saturated)},
		services: make(map[polder.ServiceName]*ServiceStats),
		sweepAt:  sweepFirst,
		logged:   make(map[logKey]*logged),
	}
}

func (b *book) budget(class Class) Budget {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.holdings[class].budget
}

func (b *book) setBudgets(cold, saturated Budget) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holdings[Cold].budget, b.holdings[Saturation].budget = cold, saturated
}

// of returns a service's counters. The caller holds mu.
func (b *book) of(service polder.ServiceName) *ServiceStats {
	stats, ok := b.services[service]
	if !ok {
		if len(b.services) >= b.sweepAt {
			b.sweep()
		}
		stats = &ServiceStats{Service: service, Brief: make(map[polder.ColdAnswer]uint64), Failed: make(map[Reason]uint64)}
		b.services[service] = stats
	}
	return stats
}

// sweep drops idle services that left the configuration, so that memory
// follows the services that exist and not those that ever did. Doubling keeps
// its cost constant per new service. The caller holds mu.
func (b *book) sweep() {
	maps.DeleteFunc(b.services, func(service polder.ServiceName, stats *ServiceStats) bool {
		return stats.Held == 0 && stats.Forwarding == 0 && !b.known(service)
	})
	b.sweepAt = max(sweepFirst, 2*len(b.services))
}

// arrive tells whether a request may be held, and counts it if so.
func (b *book) arrive(service polder.ServiceName, class Class, bytes polder.Bytes) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.forwarding >= b.limit || !b.holdings[class].admit(service, bytes) {
		return false
	}
	stats := b.of(service)
	stats.Requests++
	stats.Held++
	return true
}

// forward gives back the room of a held request that now has an instance.
func (b *book) forward(service polder.ServiceName, class Class, bytes polder.Bytes, to Target) {
	b.mu.Lock()
	defer b.mu.Unlock()
	stats := b.unhold(service, class, bytes)
	stats.Forwarding++
	stats.Forwarded++
	switch {
	case to.Warm:
		stats.Late++
	case to.Busy:
		stats.Saturated++
	default:
		stats.Cold++
	}
	b.forwarding++
}

// unhold gives back the room of a held request. The caller holds mu.
func (b *book) unhold(service polder.ServiceName, class Class, bytes polder.Bytes) *ServiceStats {
	b.holdings[class].release(service, bytes)
	stats := b.of(service)
	stats.Held--
	return stats
}

// inherit gives back the room of a held request that is another service's from now on.
func (b *book) inherit(former polder.ServiceName, class Class, bytes polder.Bytes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unhold(former, class, bytes).Requests--
}

// end counts the end of a forwarded request.
func (b *book) end(service polder.ServiceName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.of(service).Forwarding--
	b.forwarding--
}

// refuse counts a request that was never held.
func (b *book) refuse(service polder.ServiceName, reason Reason) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if reason == UnknownService {
		b.unknown++ // a name that nobody configured takes no memory
		return
	}
	stats := b.of(service)
	stats.Requests++
	stats.Failed[reason]++
}

// brief counts a request that was answered at once, as the service's owner wants.
func (b *book) brief(service polder.ServiceName, answer polder.ColdAnswer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	stats := b.of(service)
	stats.Requests++
	stats.Brief[answer]++
}

// move gives back the room of a held stream that Envoy sends to an instance.
func (b *book) move(service polder.ServiceName, class Class, bytes polder.Bytes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unhold(service, class, bytes).Moved++
}

// abandon gives back the room of a held request that will not be forwarded.
func (b *book) abandon(service polder.ServiceName, class Class, bytes polder.Bytes, reason Reason) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unhold(service, class, bytes).Failed[reason]++
}

// broken counts a forwarded request without a whole answer.
func (b *book) broken(service polder.ServiceName, reason Reason) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.of(service).Failed[reason]++
}

// mayLog tells whether to log a failure, and how many like it were not logged
// since the last one that was: a flood must not fill the log.
func (b *book) mayLog(service polder.ServiceName, reason Reason, now time.Time) (bool, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if reason == UnknownService {
		service = ""
	}
	key := logKey{service, reason}
	entry, ok := b.logged[key]
	if !ok {
		if len(b.logged) >= sweepFirst {
			maps.DeleteFunc(b.logged, func(_ logKey, l *logged) bool { return now.Sub(l.last) > logInterval })
		}
		if len(b.logged) >= sweepFirst {
			return false, 0
		}
		b.logged[key] = &logged{last: now}
		return true, 0
	}
	if now.Sub(entry.last) < logInterval {
		entry.suppressed++
		return false, 0
	}
	suppressed := entry.suppressed
	*entry = logged{last: now}
	return true, suppressed
}

func (b *book) snapshot() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := Stats{Unknown: b.unknown, Forwarding: b.forwarding}
	for _, stats := range b.services {
		one := *stats
		one.Failed, one.Brief = maps.Clone(stats.Failed), maps.Clone(stats.Brief)
		out.Services = append(out.Services, one)
	}
	slices.SortFunc(out.Services, func(a, b ServiceStats) int {
		return strings.Compare(string(a.Service), string(b.Service))
	})
	for _, class := range []Class{Cold, Saturation} {
		h := b.holdings[class]
		out.Classes = append(out.Classes, ClassStats{class, h.total.held, h.total.bytes, h.budget})
	}
	return out
}
