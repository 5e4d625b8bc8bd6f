package gateway

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
)

// wakesKept is how many wakes at one service's berth are remembered, for lines of
// the access log that come when a request has ended.
const wakesKept = 16

// wake is a start for callers who waited at a berth.
type wake struct {
	service  polder.ServiceName
	region   polder.RegionName
	berth    netip.AddrPort
	instance polder.InstanceID
	noticed  time.Time // that somebody waited
	start    activator.Start
	why      string
}

// cold is the wake as the ledger has it: of those who waited nobody is known by
// name, and neither when they came nor what they were answered.
func (w wake) cold() activator.ColdRequest {
	return activator.ColdRequest{
		Service: w.service, Region: w.region, Instance: w.instance, Class: activator.Cold, Berth: true,
		Noticed: w.noticed, Phases: activator.NewPhases(w.noticed, w.noticed, w.start, w.start.Ready), Wakes: 1, Why: w.why,
	}
}

// request is one that waited for the wake, from what Envoy noted of it.
func (w wake) request(l accessLine, began, first time.Time) activator.ColdRequest {
	c := w.cold()
	c.ID, c.Status, c.Noticed = l.Request, l.Status, began
	c.Phases = activator.NewPhases(began, w.noticed, w.start, first)
	return c
}

// has tells whether a request waited for this wake: it came before the instance
// was ready, and was answered after somebody was seen to wait.
func (w wake) has(began, first time.Time) bool {
	return began.Before(w.start.Ready) && first.After(w.noticed)
}

// wakes remembers the wakes at berths. Safe for concurrent use.
type wakes struct {
	mu   sync.Mutex
	last map[polder.ServiceName][]wake
}

func (w *wakes) add(one wake) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.last = map[polder.ServiceName][]wake{}
	}
	w.last[one.service] = last(append(w.last[one.service], one), wakesKept)
}

// forget drops services that are not served any more.
func (w *wakes) forget(services []polder.ServiceName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, service := range services {
		delete(w.last, service)
	}
}

// of finds the wake that a request waited for.
func (w *wakes) of(service polder.ServiceName, at netip.AddrPort, began, first time.Time) (wake, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.last[service]
	i := slices.IndexFunc(list, func(one wake) bool { return one.berth == at && one.has(began, first) })
	if i < 0 {
		return wake{}, false
	}
	return list[i], true
}

// wokeAtBerth tells of an instance that became ready at its service's berth while
// callers waited there.
func (r *reconciler) wokeAtBerth(s *service, i *running) {
	if i.Address != s.berth || !s.berth.IsValid() || s.knocked.IsZero() {
		return
	}
	noticed := s.knocked
	s.knocked = time.Time{}
	if r.woke != nil {
		r.woke(wake{s.spec.Name, r.gateway.Region, s.berth, i.ID, noticed, i.start, i.Reason})
	}
}

// woke remembers a wake at a berth, for polder why and the metrics.
func (r *Region) woke(w wake) {
	r.wakes.add(w)
	r.activator.Remember(w.cold())
}

// noteLine looks for a line's request among those that waited at a berth. They
// never pass the activator, so Envoy's word is all that is known of them.
func (r *Region) noteLine(l accessLine, service polder.ServiceName, at netip.AddrPort) {
	began, first, ok := l.times()
	if !ok {
		return
	}
	if w, ok := r.wakes.of(service, at, began, first); ok {
		r.activator.RememberMore(w.request(l, began, first))
	}
}

// times are when Envoy had a request's header, and when it had the first byte of
// the answer. Without an answer there are none.
func (l accessLine) times() (began, first time.Time, ok bool) {
	seconds, fraction, _ := strings.Cut(l.Began, ".")
	sec, err1 := strconv.ParseInt(seconds, 10, 64)
	micros, err2 := strconv.ParseInt(fraction, 10, 64)
	var after int64
	err3 := json.Unmarshal(l.First, &after)
	if err1 != nil || err2 != nil || err3 != nil || len(fraction) != 6 || after <= 0 {
		return began, first, false
	}
	began = time.Unix(sec, micros*int64(time.Microsecond))
	return began, began.Add(time.Duration(after) * time.Microsecond), true
}
