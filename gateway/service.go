package gateway

import (
	"net/netip"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/prewarm"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds/load"
)

// service is what the reconciler knows of one service. Only its goroutine touches it.
type service struct {
	spec     polder.Service
	here     polder.RegionName
	approved law.Approved
	state    *prewarm.State
	tempo    Tempo // of the clock that state and decision are by
	decision prewarm.Decision
	shadow   *shadow // nil unless the scale has one
	running  map[polder.InstanceID]*running
	waiters  []*waiter
	berth    netip.AddrPort // where callers wait for an instance; invalid without one
	next     int            // of ready instances, to spread what the activator forwards
	busyNow  saturation

	// Evidence since the last decision.
	arrivals   int
	inProgress map[string]progress // by node, from its last load report
	atBerthNow int                 // who waits at the berth for want of a ready instance
	engaged    time.Time           // when a request was last seen to reach an instance before the load reports told of it
	startUps   []time.Duration
	thaws      []time.Duration // that paused instances took to go on, the last restsKept
	left       []float64       // shares of paused instances' memory that paging out left in RAM, the last restsKept
	expected   time.Time       // of an announced arrival; zero for none
	knocked    time.Time       // when somebody was first seen to wait at the berth for the start under way; zero for nobody
	hello      hello           // ClientHellos
	query      hello           // DNS queries
	outside    hello           // programs of the operator
	noticed    NoticeCause     // what announced it last
	passedOn   time.Time       // when its home elsewhere was last told of callers
	promised   bool            // somebody was told to come back when an instance is ready
	called     time.Time       // when it was last called here, or had requests open
	pace       pace
	place      abode

	glass glass

	// Evidence since the region started.
	total     Totals
	unstarted complaint        // why none was, as logged
	failure   string           // why the last start failed; "" after a success
	retryAt   time.Time        // until then no start is tried
	lacking   activator.Reason // what the last start lacked, money or quota; "" for neither
	rung      prewarm.Rung     // of its budget, at the last decision
}

// silentAfter is how long an Envoy may be silent before it counts as gone: longer
// than a Polder may take to restart.
const silentAfter = time.Minute

// progress is what a node has in progress.
type progress struct {
	requests int
	atWork   int       // of these, sent to instances without the activator
	at       time.Time // when it said so
}

// running is one instance as the reconciler sees it.
type running struct {
	polder.Instance
	outdated bool            // was started from an older version of the service
	why      string          // it was started, while Reason says why it is retired
	retired  int             // how often it was; tells one retirement from the next
	asked    bool            // to end, or to pause: nothing brings it back
	unpaid   bool            // likewise: there is no money for its next minute
	cpu      time.Duration   // it had used when it was last looked at
	metered  bool            // cpu is known
	rests    bool            // its retirement ends with a pause
	resumed  time.Time       // when it was told to go on after a pause; zero before the first
	start    activator.Start // when its start passed each step
	taken    int             // requests that the activator forwards to it
}

// Totals count what happened to a service's requests in this region since the
// region's Polder started.
type Totals struct {
	Requests  uint64 `json:"requests"`  // that Envoy sent to instances or the activator
	Direct    uint64 `json:"direct"`    // of these, straight to instances
	Activated uint64 `json:"activated"` // of these, to the activator
	Failed    uint64 `json:"failed"`    // answered with 5xx, or not at all
	Cold      uint64 `json:"cold"`      // that waited for an instance to start
	Saturated uint64 `json:"saturated"` // that waited for a busy instance to have room
	Starts    uint64 `json:"starts"`    // instances started
	Resumes   uint64 `json:"resumes"`   // paused instances that went on
	Crashes   uint64 `json:"crashes"`   // ready instances that ended by themselves
}

func newService(spec polder.Service) *service {
	return &service{
		spec: spec, state: new(prewarm.State),
		running: map[polder.InstanceID]*running{}, inProgress: map[string]progress{},
	}
}

// observe takes in a load report. What the activator forwarded was noticed when
// it arrived and is not counted twice.
func (s *service) observe(r load.Report, now time.Time) {
	s.arrivals += int(r.Direct.Issued)
	s.inProgress[r.Node] = progress{r.InProgress, r.AtWork, now}
	s.total.Requests += r.Issued()
	s.total.Direct += r.Direct.Issued
	s.total.Activated += r.Activated.Issued
	s.total.Failed += r.Direct.Failed + r.Activated.Failed
}

// observation hands the evidence since the last decision to the predictor.
func (s *service) observation(now time.Time) prewarm.Observation {
	s.promise(now)
	obs := prewarm.Observation{
		Now: s.tempo.at(now), Arrivals: s.arrivals, InProgress: max(s.working(now), s.atBerthNow, s.unreported(now)), Waiting: len(s.waiters),
		Instances: s.countAll(), StartUps: s.startUps,
	}
	for i, d := range obs.StartUps {
		obs.StartUps[i] = s.tempo.stretch(d)
	}
	if !s.expected.IsZero() {
		obs.Expected = s.tempo.at(s.expected)
	}
	if s.arrivals > 0 {
		s.hello.followed()
		s.query.followed()
		s.outside.followed()
	}
	if s.arrivals > 0 || obs.InProgress > 0 || obs.Waiting > 0 {
		s.called = now
	}
	s.pace.add(s.arrivals, s.place.share, now)
	s.hello.expire(now)
	s.query.expire(now)
	s.outside.expire(now)
	s.arrivals, s.startUps, s.expected = 0, nil, time.Time{}
	return obs
}

// unreported is 1 while a request that reached an instance may still be in
// progress and the load reports cannot tell yet.
func (s *service) unreported(now time.Time) int {
	if now.Sub(s.engaged) < 2*s.tempo.period(loadInterval, leastLoadInterval) {
		return 1
	}
	return 0
}

// busy counts the requests in progress, those that wait included.
func (s *service) busy(now time.Time) int { return s.reported(now).requests }

// reported sums up the last load reports. An Envoy that has not reported for long
// is gone, and so are its requests: while there are any, it reports each second.
func (s *service) reported(now time.Time) (sum progress) {
	for node, p := range s.inProgress {
		if now.Sub(p.at) > silentAfter {
			delete(s.inProgress, node)
			continue
		}
		sum.requests += p.requests
		sum.atWork += p.atWork
	}
	return sum
}

// count counts the instances of the present version.
func (s *service) count() prewarm.Instances {
	var n prewarm.Instances
	for _, i := range s.running {
		switch {
		case i.outdated:
		case i.State == polder.Ready:
			n.Ready++
		case i.State == polder.Starting:
			n.Starting++
		case i.State == polder.Paused:
			n.Paused++
		}
	}
	return n
}

// leaving tells whether an instance is on its way out.
func (s *service) leaving() bool {
	for _, i := range s.running {
		if i.State == polder.Draining {
			return true
		}
	}
	return false
}

// countAll counts the instances of any version: an outdated one is as warm as
// its successor shall be.
func (s *service) countAll() prewarm.Instances {
	n := s.count()
	n.Ready += len(s.outdated())
	return n
}

// runningEndpoints lists where instances of any version answer or, while there
// is none, will answer.
func (s *service) runningEndpoints() []polder.Endpoint {
	list := s.readyEndpoints()
	if len(list) == 0 && s.berthOpen() {
		list = append(list, polder.Endpoint{Service: s.spec.Name, Region: s.here, Address: s.berth})
	}
	return list
}

// readyEndpoints lists the ready instances.
func (s *service) readyEndpoints() []polder.Endpoint {
	var list []polder.Endpoint
	for _, i := range s.running {
		if i.State == polder.Ready {
			list = append(list, polder.Endpoint{Service: s.spec.Name, Region: i.Region, Address: i.Address})
		}
	}
	return list
}

// endpoints lists where the service can be reached in this region: the ready
// instances, or what the file says.
func (s *service) endpoints(here polder.RegionName) []polder.Endpoint {
	return append(s.runningEndpoints(), s.fixedEndpoints(here)...)
}

// fixedEndpoints lists what the file says.
func (s *service) fixedEndpoints(here polder.RegionName) []polder.Endpoint {
	var list []polder.Endpoint
	for _, a := range s.spec.Endpoints[here] {
		list = append(list, polder.Endpoint{Service: s.spec.Name, Region: here, Address: a})
	}
	return list
}

// surplus chooses the n youngest ready instances: the oldest has proved itself.
func (s *service) surplus(n int) []*running {
	var ready []*running
	for _, i := range s.running {
		if i.State == polder.Ready && !i.outdated {
			ready = append(ready, i)
		}
	}
	slices.SortFunc(ready, func(a, b *running) int { return b.Started.Compare(a.Started) })
	return ready[:min(n, len(ready))]
}

func (s *service) outdated() []*running {
	var old []*running
	for _, i := range s.running {
		if i.outdated && i.State == polder.Ready {
			old = append(old, i)
		}
	}
	return old
}

func (s *service) outdateInstances() {
	for _, i := range s.running {
		i.outdated = true
	}
}
