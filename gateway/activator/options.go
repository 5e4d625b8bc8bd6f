package activator

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/polder/polder"
)

// Options is what an Activator needs. Limits and Remember have defaults in
// DefaultLimits and DefaultRemember; nothing is filled in silently.
type Options struct {
	Region       polder.RegionName
	Wake         Wake
	Known        func(polder.ServiceName) bool                // tells whether a service may be asked for at all; called often, must not call back
	Heir         func(host string) (polder.ServiceName, bool) // the service that has a host now; asked when an Envoy that is behind names one that is no more; nil means that none has
	Published    Published                                    // nil keeps streams that began cold here until they end
	Saturated    func(polder.ServiceName) bool                // tells whether all its instances are busy; nil means that none ever is
	Cold         func(polder.ServiceName) polder.Cold         // what callers get while it sleeps; nil holds them all; called often, must not call back
	Rouse        Rouse                                        // only needed with Cold
	Look         Look                                         // only needed with Cold
	Limits       Limits
	ServerTiming bool                          // tell callers what was cold: Server-Timing and x-polder-cold
	Remember     int                           // cold requests kept in the ledger, at least 1
	MayRemember  func(polder.ServiceName) bool // tells whether a service's cold requests may be kept; nil means that all may
	Observe      func(ColdRequest)             // told of each cold request, kept or not; must not block; may be nil
	Log          *slog.Logger
}

// DefaultRemember is how many cold requests the ledger usually keeps.
const DefaultRemember = 512

// Limits bound what an Activator holds and does at one time.
type Limits struct {
	Cold       Budget        // for services without an instance
	Saturated  Budget        // for services whose instances are all busy
	Forwarding int           // requests forwarded and not yet ended; a stream that began cold stays until it ends
	Stop       time.Duration // how long requests may take to end once Serve was told to stop
}

// Budget bounds holding. Within Held and Bytes a service may take no more than
// it leaves free, so that one service alone gets at most half and a newcomer
// always finds room (Choudhury and Hahne, Dynamic Queue Length Thresholds for
// Shared-Memory Packet Switches, 1998, with α = 1).
type Budget struct {
	Held       int           // requests of all services
	PerService int           // requests of one service
	Bytes      polder.Bytes  // memory that held requests may cost, their receive windows included
	Wait       time.Duration // how long one request may be held
}

// DefaultLimits returns limits for a gateway with a gigabyte of memory: a
// thousand callers of one sleeper fit, and so do thousands of sleepers.
func DefaultLimits() Limits {
	return Limits{
		Cold:       Budget{Held: 4096, PerService: 2048, Bytes: 256 << 20, Wait: time.Minute},
		Saturated:  Budget{Held: 2048, PerService: 512, Bytes: 128 << 20, Wait: 15 * time.Second},
		Forwarding: 8192,
		Stop:       20 * time.Second,
	}
}

// Validate reports every fault of the options.
func (o Options) Validate() error {
	var faults []error
	need := func(ok bool, format string, values ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf("activator: "+format, values...))
		}
	}
	need(o.Wake != nil, "no Wake function: nothing could be started")
	need(o.Known != nil, "no Known function: no service could be told from a wrong one")
	need(o.Cold == nil || o.Rouse != nil && o.Look != nil, "Cold without Rouse and Look: nobody could be answered at once")
	need(o.Log != nil, "no Log")
	need(o.Region != "", "no Region")
	need(o.Remember >= 1, "Remember is %d, want at least 1", o.Remember)
	faults = append(faults, o.Limits.Cold.validate(Cold), o.Limits.Saturated.validate(Saturation))
	need(o.Limits.Forwarding >= 1, "Forwarding is %d, want at least 1", o.Limits.Forwarding)
	need(o.Limits.Stop > 0, "Stop is %s, want more than 0", o.Limits.Stop)
	return errors.Join(faults...)
}

// validate reports every fault of a class's budget.
func (b Budget) validate(class Class) error {
	var faults []error
	need := func(ok bool, format string, values ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf("activator: %s: "+format, append([]any{class}, values...)...))
		}
	}
	need(b.Held >= 1, "Held is %d, want at least 1", b.Held)
	need(b.PerService >= 1, "PerService is %d, want at least 1", b.PerService)
	need(b.Bytes >= heldCost+receiveWindow, "Bytes is %d, want at least %d, one request's cost", b.Bytes, heldCost+receiveWindow)
	need(b.Wait > 0, "Wait is %s, want more than 0", b.Wait)
	return errors.Join(faults...)
}
