package activator

import (
	"slices"
	"sync"
	"time"

	"github.com/polder/polder"
)

// ColdRequest is one request that waited for a start, or for a busy instance,
// answered or not.
type ColdRequest struct {
	ID       string // x-request-id, cut to 128 bytes
	Trace    string // traceparent, as the caller sent it; "" without one of the usual length
	Service  polder.ServiceName
	Region   polder.RegionName
	Instance polder.InstanceID // "" when none came up
	Class    Class             // what it waited for, in the end
	Noticed  time.Time         // when it arrived here
	Phases   Phases
	Wakes    int               // 2 when the first instance was gone before the request reached it
	Berth    bool              // it waited in the kernel, at the socket that the program inherits, and never passed the activator
	Moved    bool              // Envoy sent it to the instance itself, where its first byte is not seen
	Status   int               // what the caller got; 0 when the caller had left
	Reason   Reason            // "" when an instance answered
	Answer   polder.ColdAnswer // what the caller got at once, in place of the instance's; "" when it waited
	Why      string            // the decision that started the instance, in words; "" when none came up
	Cause    string            // of a failure, for the operator, cut to maxCause bytes; "" when an instance answered
}

// maxCause bounds what the ledger keeps of a failure's cause, in bytes: it may
// end with the last lines of a program.
const maxCause = 1 << 10

// Phases are the lengths of a cold request's steps, each named after the event
// that ends it. A step that did not happen, or had happened before the request
// arrived, is 0. Their sum is the time from arrival to first byte, or to the
// failure, which ends the step that was under way.
type Phases struct {
	Queued    time.Duration // arrival → held
	Decided   time.Duration // → somebody decided to start
	Started   time.Duration // → the provider was asked
	Listening time.Duration // → the port accepted connections
	Ready     time.Duration // → the instance answered
	Published time.Duration // → Envoy knows it; only of what is moved, all else does not wait for that
	Forwarded time.Duration // → connected to it
	FirstByte time.Duration // → first byte of its answer
}

// Total is the time from arrival to first byte.
func (p Phases) Total() time.Duration {
	var total time.Duration
	for _, step := range p.Steps() {
		total += step.Took
	}
	return total
}

// Step is one phase by name.
type Step struct {
	Name string
	Took time.Duration
}

// Steps returns the phases in order of time.
func (p Phases) Steps() []Step {
	return []Step{
		{"queued", p.Queued}, {"decided", p.Decided}, {"started", p.Started}, {"listening", p.Listening},
		{"ready", p.Ready}, {"published", p.Published}, {"forwarded", p.Forwarded}, {"first-byte", p.FirstByte},
	}
}

// marks are the instants that end the phases, in their order, without the
// last one; a zero instant is not known.
type marks [7]time.Time

func newMarks(queued time.Time, start Start, published, forwarded time.Time) marks {
	return marks{queued, start.Decided, start.Started, start.Listening, start.Ready, published, forwarded}
}

// split divides noticed..end at the marks. Each mark is moved into what is
// left of the interval, so the result sums to end-noticed whatever the marks
// are; the time of an unknown step falls to the next known one. Without an
// answer the rest belongs to the step after the last known mark.
func (m marks) split(noticed, end time.Time, answered bool) Phases {
	instants := [8]time.Time{7: end}
	copy(instants[:], m[:])
	if !answered {
		under := 0 // the step that was under way
		for i, mark := range m {
			if !mark.IsZero() {
				under = i + 1
			}
		}
		instants[under] = end
	}
	at := noticed
	var took [8]time.Duration
	for i, instant := range instants {
		if instant.After(end) {
			instant = end
		}
		if instant.After(at) { // never true of a zero instant
			took[i] = instant.Sub(at)
			at = instant
		}
	}
	return Phases{took[0], took[1], took[2], took[3], took[4], took[5], took[6], took[7]}
}

// NewPhases cuts the time of a request that an instance answered: it was noticed,
// then queued, waited for the start and had its first byte at first. Nothing was
// published or forwarded for it.
func NewPhases(noticed, queued time.Time, start Start, first time.Time) Phases {
	return newMarks(queued, start, time.Time{}, time.Time{}).split(noticed, first, true)
}

// Remember takes in a cold request that did not pass here, as if it had. The
// figures of such requests, and what is told of them, are those of the first call;
// RememberMore adds only to the ledger.
func (a *Activator) Remember(c ColdRequest) {
	a.RememberMore(c)
	if a.options.Observe != nil {
		a.options.Observe(c)
	}
}

// RememberMore takes what is known of one request among those that Remember told
// of together.
func (a *Activator) RememberMore(c ColdRequest) {
	if a.options.MayRemember == nil || a.options.MayRemember(c.Service) {
		a.ledger.add(c)
	}
}

// ledger keeps the last cold requests.
type ledger struct {
	mu   sync.Mutex
	ring []ColdRequest // grows to limit, then next is overwritten
	next int
	size int
}

func newLedger(size int) *ledger { return &ledger{size: size} }

func (l *ledger) add(c ColdRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < l.size {
		l.ring = append(l.ring, c)
		return
	}
	l.ring[l.next] = c
	l.next = (l.next + 1) % l.size
}

// all returns the requests, the latest first.
func (l *ledger) all() []ColdRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Concat(l.ring[l.next:], l.ring[:l.next])
	slices.Reverse(out)
	return out
}
