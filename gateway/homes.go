package gateway

import (
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm"
	"github.com/polder/polder/regions"
	"github.com/polder/polder/regions/law"
)

const (
	// linger is how long an instance stays after its last request when new callers
	// go to the service's home.
	linger = 10 * time.Second
	// lingerDraining is the same while the peer drains: two load reports.
	lingerDraining = 2 * time.Second
	// paceHalf is the half-life of what counts for a service's pace.
	paceHalf = 20 * time.Second
	// busyPace is the pace, in requests a second, at which a service is called too
	// often to have one home: keeping it warm in several regions costs no more than
	// the way to another one. quietPace, over the number of gateways that share its
	// calls, is where it has one again.
	busyPace, quietPace = 1.0, 0.5
)

// pace tells how often a service is called at this gateway.
type pace struct {
	rate float64 // requests a second, decaying
	at   time.Time
	busy bool
}

// add counts n requests, and tells what became of the pace: share is the number
// of gateways that would share the service's calls.
func (p *pace) add(n, share int, now time.Time) {
	if passed := now.Sub(p.at); passed > 0 {
		p.rate *= math.Exp2(-passed.Seconds() / paceHalf.Seconds())
	}
	p.rate += float64(n) * math.Ln2 / paceHalf.Seconds()
	p.at = now
	switch {
	case p.rate >= busyPace:
		p.busy = true
	case p.rate < quietPace/float64(max(1, share)):
		p.busy = false
	}
}

// abode is where a service's callers go, as far as this gateway has a say.
type abode struct {
	home    law.Home // zero: here, or to the nearest that may
	becomes bool     // this peer is to be the home, and has to be warm first
	awaits  bool     // this peer drains, and has the callers until its successor is warm
	spreads bool     // the service is busy at another peer, and is warm here as long as it is
	share   int      // how many gateways would share its calls
}

// elsewhere tells whether new callers go to another peer though this one serves.
func (s *service) elsewhere() bool {
	return s.approved.Verdict() == law.Serve && s.approved.Home() != (law.Home{})
}

// placeOf finds a service's place. A routed service is where its file says, and
// one that shall always be warm has a home in each of its regions.
func (r *reconciler) placeOf(s *service) abode {
	if s.spec.Run == nil {
		return abode{}
	}
	allowed := law.Permit(s.spec.Residency, r.model.Regions).Allowed()
	mine := slices.Contains(allowed, r.gateway.Region)
	peers := r.around.agreeing
	permitted := func(region polder.RegionName) bool {
		return slices.Contains(allowed, region) && (!mine || s.spec.Scale.Min == 0 || r.around.draining || region == r.gateway.Region)
	}
	choice, ok := regions.Choose(s.spec.Name, peers, permitted)
	if !ok {
		return abode{}
	}
	p := abode{share: len(regions.Candidates(peers, permitted))}
	if regions.IsBusy(s.spec.Name, peers) && !r.around.draining {
		p.spreads = mine && slices.ContainsFunc(peers, func(o regions.Peer) bool {
			return o.Row.Peer != r.peer && regions.IsBusy(s.spec.Name, []regions.Peer{o})
		})
		if !mine || s.count().Ready > 0 {
			return p
		}
	}
	p.awaits = choice.Now == r.peer && choice.Next != r.peer
	p.becomes = choice.Next == r.peer && choice.Now != r.peer
	if choice.Now != r.peer {
		p.home = law.Home{Peer: choice.Now, Region: r.around.regionOf[choice.Now]}
	}
	return p
}

// rehome finds a service's place anew, and tells whether it changed.
func (r *reconciler) rehome(s *service) bool {
	before := s.place
	s.place = r.placeOf(s)
	return s.place != before
}

// awaitsHome tells whether a service has its callers here only until it is warm
// elsewhere.
func (r *reconciler) awaitsHome() bool {
	for _, s := range r.services {
		if s.place.awaits {
			return true
		}
	}
	return false
}

// move finds a service's place anew, and remembers to let the law judge it again
// when that changed.
func (r *reconciler) move(s *service) {
	if r.rehome(s) {
		if r.moved == nil {
			r.moved = map[polder.ServiceName]bool{}
		}
		r.moved[s.spec.Name] = true
	}
}

// settle lets the law judge those services again that have moved.
func (r *reconciler) settle(now time.Time) {
	lost := r.around.draining && !r.awaitsHome()
	turned := lost != r.lost
	moved := r.moved
	r.lost, r.moved = lost, nil
	if !turned && len(moved) == 0 {
		return
	}
	if turned || r.published == nil {
		r.judgeAll(now)
		return
	}
	var d difference
	for name := range moved {
		if s := r.services[name]; s != nil {
			d.before, d.after = append(d.before, s.spec), append(d.after, s.spec)
		}
	}
	r.judgeSome(d, now)
}

// aim is how many instances shall be here: what the predictor decided, unless
// callers go elsewhere. Then detour says why; it is "" for the decision's own reason,
// which is written only when somebody starts or stops by it.
func (r *reconciler) aim(s *service, now time.Time) (desired int, detour string) {
	desired = s.decision.Desired
	held := s.decision.Rule == prewarm.RuleBudget || s.spec.Scale.Max == 0
	switch {
	case s.place.spreads && (desired == 0 || s.elsewhere()) && !held && s.rung < prewarm.RungFewer:
		return max(1, desired), "service is busy and spreads to this peer"
	case s.place.becomes && s.elsewhere() && !held:
		return max(1, desired), "becomes the home of the service: " + s.place.home.Peer + " drains"
	case !s.elsewhere():
	case len(s.waiters) > 0 || s.busy(now) > 0:
	case now.Sub(s.called) < r.lingers():
		return min(desired, s.countAll().Warm()), "" // nothing is started ahead of calls that go elsewhere
	default:
		return 0, "callers go to the home of the service, " + s.approved.Home().Peer
	}
	return desired, ""
}

// because is why the service has as many instances as it was aimed at.
func (s *service) because(detour string) string {
	if detour != "" {
		return detour
	}
	return s.decision.Reason()
}

// lingers is for how long an instance is kept whose callers go elsewhere.
func (r *reconciler) lingers() time.Duration {
	if r.around.draining {
		return lingerDraining
	}
	return linger
}

// overdue tells whether an instance has lingered long enough.
func (r *reconciler) overdue(s *service, now time.Time) bool {
	return s.elsewhere() && s.countAll().Warm() > 0 && now.Sub(s.called) >= r.lingers()
}

// announceBusy tells the membership which services are busy here.
func (r *reconciler) announceBusy(s *service) {
	at, was := slices.BinarySearch(r.busy, s.spec.Name)
	is := r.services[s.spec.Name] == s && s.approved.Verdict() == law.Serve && s.count().Ready > 0 &&
		(s.pace.busy || s.decision.Desired > 1)
	if is == was {
		return
	}
	busy := slices.Clone(r.busy)
	if is {
		busy = slices.Insert(busy, at, s.spec.Name)
	} else {
		busy = slices.Delete(busy, at, at+1)
	}
	r.busy = busy
	r.busyChanged(busy)
}

// stirred names the services for which a change of the peers may mean another
// home; all is true when it may for any.
func stirred(before, after []regions.Peer) (names map[polder.ServiceName]bool, all bool) {
	if len(before) != len(after) {
		return nil, true
	}
	names = map[polder.ServiceName]bool{}
	for i := range before {
		a, b := before[i], after[i]
		if a.Row.Peer != b.Row.Peer || a.Able != b.Able || a.Usable != b.Usable || a.Steady != b.Steady ||
			a.Row.Region != b.Row.Region || a.Row.Draining != b.Row.Draining ||
			(a.Row.Load >= regions.Saturated) != (b.Row.Load >= regions.Saturated) {
			return nil, true
		}
		differ(names, a.Row.Warm, b.Row.Warm)
		differ(names, a.Row.Busy, b.Row.Busy)
	}
	return names, false
}

// differ adds what is in one of two sorted lists only.
func differ(names map[polder.ServiceName]bool, a, b []polder.ServiceName) {
	if slices.Equal(a, b) {
		return
	}
	for _, lists := range [][2][]polder.ServiceName{{a, b}, {b, a}} {
		for _, name := range lists[0] {
			if _, found := slices.BinarySearch(lists[1], name); !found {
				names[name] = true
			}
		}
	}
}

// takeSurroundings takes in what the membership knows now, and tells whether
// everything has to be judged anew, and not only what has moved.
func (r *reconciler) takeSurroundings(s surroundings) bool {
	before := r.around
	r.around = s
	names, all := stirred(before.agreeing, s.agreeing)
	if all = all || before.draining != s.draining; all {
		for _, service := range r.services {
			r.move(service) // and settle follows
		}
	}
	for name := range names {
		if service := r.services[name]; service != nil && !all {
			r.move(service)
		}
	}
	return !before.sameMap(s)
}

// sameMap compares all but the rows.
func (s surroundings) sameMap(o surroundings) bool {
	s.agreeing, o.agreeing = nil, nil
	return reflect.DeepEqual(s, o)
}
