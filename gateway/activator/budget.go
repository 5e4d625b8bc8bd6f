package activator

import "github.com/polder/polder"

// Class says why a request is held: each class has its own Budget, so that
// busy services cannot take the room that sleeping ones need to wake.
type Class string

// The classes.
const (
	Cold       Class = "cold"      // the service has no instance
	Saturation Class = "saturated" // its instances are all busy
)

// share is what held requests take of a budget.
type share struct {
	held  int
	bytes polder.Bytes
}

// holding applies one Budget. It is pure state; its owner serializes access.
//
// Invariant: total is the sum of services, and services has no empty share.
type holding struct {
	budget   Budget
	total    share
	services map[polder.ServiceName]share
}

func newHolding(b Budget) *holding {
	return &holding{budget: b, services: make(map[polder.ServiceName]share)}
}

// admit takes room for one request that costs bytes, if there is room.
func (h *holding) admit(service polder.ServiceName, bytes polder.Bytes) bool {
	own := h.services[service]
	if own.held+1 > min(h.budget.PerService, h.budget.Held-h.total.held) {
		return false
	}
	if own.bytes+bytes > h.budget.Bytes-h.total.bytes {
		return false
	}
	h.services[service] = share{own.held + 1, own.bytes + bytes}
	h.total.held++
	h.total.bytes += bytes
	return true
}

// release gives back what admit took.
func (h *holding) release(service polder.ServiceName, bytes polder.Bytes) {
	own := h.services[service]
	own.held--
	own.bytes -= bytes
	if own.held < 0 || own.bytes < 0 {
		panic("activator: a share was released twice")
	}
	if own.held == 0 {
		delete(h.services, service)
	} else {
		h.services[service] = own
	}
	h.total.held--
	h.total.bytes -= bytes
}
