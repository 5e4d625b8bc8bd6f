package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/xds"
)

// saturatedFor is how long new requests of a service go to the activator after
// the last moment in which none of its instances had room. Load that swings about
// the boundary does not move callers to and fro, and a load report that was
// written before the last ones came has been followed by another.
const saturatedFor = 2 * loadInterval

// saturation is what the reconciler knows of a service all of whose ready
// instances have as many requests in progress as scale.concurrency lets them.
//
// Envoy's load reports tell so once a second, at no cost to a warm request. From
// then on Envoy sends new requests to the activator, which forwards each when an
// instance has room: what is in progress by way of the activator is known exactly,
// and what Envoy sent directly from the last report, which it can only fall below.
type saturation struct {
	hidden bool      // Envoy is told to send instances nothing new
	last   time.Time // when none of them had room
}

// room is how many more requests the ready instances may be given.
func (s *service) room(now time.Time) int {
	return s.countAll().Ready*max(s.spec.Scale.Concurrency, 1) - s.taken() - s.reported(now).atWork
}

// taken counts the requests that the activator forwards to ready instances.
func (s *service) taken() int {
	n := 0
	for _, i := range s.running {
		if i.State == polder.Ready {
			n += i.taken
		}
	}
	return n
}

// working counts the requests that instances work on. Those that wait at the
// activator are in progress for Envoy as well.
func (s *service) working(now time.Time) int {
	r := s.reported(now)
	return max(r.requests-len(s.waiters), r.atWork+s.taken(), 0)
}

// pick chooses the ready instance that was given the fewest requests, of the
// present version if there is one, and in turn among equals. It is called only
// while some instance is ready.
func (s *service) pick() *running {
	var ready []*running
	for _, outdated := range []bool{false, true} {
		for _, i := range s.running {
			if i.State == polder.Ready && i.outdated == outdated {
				ready = append(ready, i)
			}
		}
		if len(ready) > 0 {
			break
		}
	}
	slices.SortFunc(ready, func(a, b *running) int { return a.Started.Compare(b.Started) })
	s.next++
	best := ready[s.next%len(ready)]
	for _, i := range ready {
		if i.taken < best.taken {
			best = i
		}
	}
	return best
}

// released takes back the room that a request had at an instance, and gives it to
// the one that waits longest.
func (r *reconciler) released(name polder.ServiceName, id polder.InstanceID, now time.Time) {
	s := r.services[name]
	if s == nil {
		return
	}
	if i := s.running[id]; i != nil && i.taken > 0 {
		i.taken--
	}
	r.serve(s, now)
}

// saturate notes that no instance has room, and has new requests come to the
// activator from now on.
func (r *reconciler) saturate(s *service, now time.Time) {
	ready := s.countAll().Ready
	if s.spec.Run == nil || ready == 0 || s.room(now) > 0 {
		return
	}
	s.busyNow.last = now
	if s.busyNow.hidden {
		return
	}
	s.busyNow.hidden = true
	r.saturated.Store(s.spec.Name, true)
	r.log.Info("all instances are busy: new requests wait", "service", s.spec.Name, "instances", ready,
		"concurrency", s.spec.Scale.Concurrency, "in-progress", s.working(now), "waiting", len(s.waiters))
	r.publishEndpoints(s)
}

// desaturate has Envoy send requests to the instances again, when they have had
// room for a while.
func (r *reconciler) desaturate(s *service, now time.Time) {
	if !s.busyNow.hidden {
		return
	}
	ready := s.countAll().Ready
	if ready > 0 && (len(s.waiters) > 0 || now.Sub(s.busyNow.last) < saturatedFor) {
		return
	}
	s.busyNow.hidden = false
	r.saturated.Delete(s.spec.Name)
	if ready > 0 {
		r.log.Info("the instances have room again", "service", s.spec.Name, "instances", ready, "in-progress", s.working(now))
	}
	r.publishEndpoints(s)
}

// Saturated is the activator's: it tells whether a service's instances are all
// busy.
func (r *reconciler) Saturated(name polder.ServiceName) bool {
	_, is := r.saturated.Load(name)
	return is
}

// resources are what Envoy gets of the service.
func (s *service) resources(g xds.Gateway) []xds.Resource {
	if s.busyNow.hidden {
		return xds.SaturatedService(s.approved, g)
	}
	return xds.Service(s.approved, g)
}

// assignment is where Envoy sends the service's requests.
func (s *service) assignment(g xds.Gateway) xds.Resource {
	if s.busyNow.hidden {
		return xds.SaturatedEndpoints(s.approved, g)
	}
	return xds.Endpoints(s.approved, g)
}

// saturatedNow says why new requests wait although instances are ready; "" when
// none does.
func (s *service) saturatedNow(now time.Time) string {
	if !s.busyNow.hidden {
		return ""
	}
	ready := s.countAll().Ready
	text := fmt.Sprintf("%d in progress at %d instances that take %d each; %d wait", s.working(now), ready, s.spec.Scale.Concurrency, len(s.waiters))
	if ready >= s.spec.Scale.Max {
		return text + "; there are as many instances as scale.max allows"
	}
	if s.failure != "" {
		return text + "; another instance: " + s.failure
	}
	return text
}

// budgets are what the activator may hold, as the region's hold says and by
// default.
func budgets(h polder.Hold) (cold, saturated activator.Budget) {
	limits := activator.DefaultLimits()
	return budgetOf(h.Cold, limits.Cold), budgetOf(h.Saturated, limits.Saturated)
}

func budgetOf(l polder.HoldLimits, otherwise activator.Budget) activator.Budget {
	return activator.Budget{
		Held: cmp.Or(l.Requests, otherwise.Held), PerService: cmp.Or(l.PerService, otherwise.PerService),
		Bytes: cmp.Or(l.Memory, otherwise.Bytes), Wait: cmp.Or(l.Wait, otherwise.Wait),
	}
}

// followHold brings a model's bounds of holding into force.
func (r *Region) followHold(m *polder.Model) {
	region, ok := m.Region(r.options.Region)
	if !ok {
		return // that is told elsewhere
	}
	if err := r.activator.SetBudgets(budgets(region.Hold)); err != nil {
		r.options.Log.Error("the bounds of holding stay as they are", "reason", err)
	}
}
