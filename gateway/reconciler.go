package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/prewarm"
	"github.com/polder/polder/prewarm/instance"
	"github.com/polder/polder/regions"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/load"
)

const (
	// eventQueue bounds the events that wait for the reconciler; senders block.
	eventQueue = 4096
	// tick is how often due decisions are looked for.
	tick = 250 * time.Millisecond
	// leastTick is the same while a Tempo runs.
	leastTick = 10 * time.Millisecond
)

// publisher carries resources to the region's Envoys; *server.Server is one.
type publisher interface {
	Apply(set []xds.Resource, remove []xds.Key) int
	Touch(names ...string)
	Wait(ctx context.Context, keys ...xds.Key) error
	GiveUp(keys ...xds.Key)
}

// instances runs copies of services; *instance.Manager is one.
type instances interface {
	Start(ctx context.Context, service polder.Service, reason string) (polder.InstanceID, error)
	Stop(id polder.InstanceID, reason string) error
	Pause(id polder.InstanceID, reason string) error
	Resume(id polder.InstanceID) error
}

// certificates keeps a certificate for every host that is served here.
type certificates interface {
	// Hold makes exactly these sets of hosts available; it names those that it could not.
	Hold(ctx context.Context, sets map[polder.ServiceName][]polder.Host) map[polder.ServiceName]error
	// Change does the same for some services, and leaves all others as they are.
	Change(ctx context.Context, sets map[polder.ServiceName][]polder.Host, gone []polder.ServiceName) map[polder.ServiceName]error
}

// surroundings are what the membership knows.
type surroundings struct {
	health polder.RegionHealth
	rank   []polder.RegionName
	peerOf map[polder.RegionName][]string // addresses of those to send to
	peerAt map[string]string              // address of every peer that would take a connection

	rtt      map[polder.RegionName]time.Duration     // in steps of rttStep, as last measured
	weightOf map[string]uint32                       // by address; nil where all are alike
	known    map[polder.RegionName][]string          // all addresses of peers, for the proof
	regionOf map[string]polder.RegionName            // by peer
	agreeing []regions.Peer                          // those with this peer's policies, this one included
	leaving  polder.RegionHealth                     // regions that drain, and still serve who comes
	draining bool                                    // this peer is to lose its callers
	others   map[polder.ServiceName][]law.Permission // of policies that living peers see otherwise
}

// reconciler joins intent (the model) with evidence (instances, load, peers)
// and publishes what the law approves of it.
type reconciler struct {
	// Fixed after construction.
	log          *slog.Logger
	gateway      xds.Gateway
	node         xds.NodeConfig
	publisher    publisher
	gate         *gate // to publisher
	instances    instances
	tempo        Tempo
	acknowledged time.Duration // bounds the wait for Envoys to acknowledge a removal
	finished     time.Duration // bounds that for an unpublished instance's requests to end
	pausing      prewarm.Pausing
	berths       berths                                                 // nil for none
	open         func(context.Context, polder.ServiceName) (int, error) // requests of a service that Envoy has open now; may be nil
	settled      func(context.Context) error                            // returns when clients' load reports are as of now; nil without clients
	certificates certificates
	peer         string                     // this peer's name
	peers        int                        // of the region at one time, at most, as the command says
	warmChanged  func([]polder.ServiceName) // told of the services with a ready instance, sorted
	busyChanged  func([]polder.ServiceName) // told of those that are busy, sorted
	served       *servedHere                // for whoever wants to know what is served here
	closed       func([]polder.ServiceName) // told of services that are not served here, or not any more
	compare      func(before, after *polder.Model) polder.Difference
	asleep       func(polder.ServiceName) // told of a service whose last instance has stopped
	knock        func(polder.Host)        // tells the home elsewhere that callers may come; may be nil
	events       chan func(now time.Time)
	wall         func() time.Time // the machine's clock, which may step
	woke         func(wake)       // told of a start for callers at a berth; may be nil
	retiring     sync.WaitGroup
	saturated    sync.Map // names of services whose instances are all busy; the activator asks

	// Only inside Run's goroutine.
	ctx context.Context // of Run, for what it starts
	// remembered is what an earlier Polder learned, until its service appears.
	remembered map[polder.ServiceName][]byte
	// scored is likewise what shadows scored.
	scored    map[polder.ServiceName][]byte
	spending  *spending
	mostPeers int  // of the region, that were there at one time
	begun     bool // what already ran is known; before, nothing is decided
	model     *polder.Model
	around    surroundings
	services  map[polder.ServiceName]*service
	warm      []polder.ServiceName
	lawful    lawful
	judged    time.Time // for which instant all services were judged last
	turns     time.Time // when that ends to hold by itself; zero for never
	busy      []polder.ServiceName
	lost      bool                        // draining, and nobody who comes again would be served here that can be elsewhere
	moved     map[polder.ServiceName]bool // have another place; to be judged again after this event
	published *publication                // nil when everything must be published anew
	ways      xds.Ways                    // out, as Envoy has them
}

func newReconciler(log *slog.Logger, g xds.Gateway, n xds.NodeConfig, p publisher, c certificates, warmChanged func([]polder.ServiceName)) *reconciler {
	return &reconciler{
		log: log, gateway: g, node: n, publisher: p, gate: newGate(log, p, g, n), certificates: c, warmChanged: warmChanged,
		busyChanged: func([]polder.ServiceName) {}, wall: time.Now,
		events:   make(chan func(time.Time), eventQueue),
		model:    &polder.Model{},
		services: map[polder.ServiceName]*service{},
		served:   new(servedHere),
		closed:   func([]polder.ServiceName) {},
		compare:  polder.Compare,
		spending: newSpending(), acknowledged: ackDeadline, finished: drainLimit,
	}
}

// Run handles events until the context ends, and returns when everything that
// it started has ended too. Instances are left to their manager.
func (r *reconciler) Run(ctx context.Context) error {
	r.ctx = ctx
	defer r.retiring.Wait()
	ticker := time.NewTicker(r.tempo.period(tick, leastTick))
	defer ticker.Stop()
	clock := steady{time.Now()}
	for {
		select {
		case event := <-r.events:
			event(clock.at(time.Now()))
			r.settle(clock.at(time.Now()))
		case now := <-ticker.C:
			r.stepDue(clock.at(now))
			r.settle(clock.at(now))
		case <-ctx.Done():
			r.releaseWaiters()
			return nil
		}
	}
}

// post hands an event to the reconciler. False means that the context ended first.
func (r *reconciler) post(ctx context.Context, event func(now time.Time)) bool {
	select {
	case r.events <- event:
		return true
	case <-ctx.Done():
		return false
	}
}

// offer hands an event to the reconciler if it has room for one more, and tells
// whether it had.
func (r *reconciler) offer(event func(now time.Time)) bool {
	select {
	case r.events <- event:
		return true
	default:
		return false
	}
}

// do hands an event to the reconciler and returns when it was handled, or ctx ended.
func (r *reconciler) do(ctx context.Context, event func(now time.Time)) {
	done := make(chan struct{})
	if !r.post(ctx, func(now time.Time) { defer close(done); event(now) }) {
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// ask is do, and tells whether the event was handled: only then may the caller
// look at what it left.
func (r *reconciler) ask(ctx context.Context, event func(now time.Time)) bool {
	done := make(chan struct{})
	if !r.post(ctx, func(now time.Time) { defer close(done); event(now) }) {
		return false
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// Begin lets decisions be made: these are all instances that already ran.
func (r *reconciler) Begin(ctx context.Context, ran []polder.Instance) {
	r.do(ctx, func(now time.Time) {
		r.begun = true
		for _, i := range ran {
			if s := r.services[i.Service]; s != nil {
				s.running[i.ID] = &running{Instance: i}
				r.meter(i, now)
				r.expectClients(s, now)
			}
		}
		r.spending.book.Close(now)
		for _, s := range r.services {
			r.publishEndpoints(s)
			r.tendBerth(s)
			r.step(s, now)
		}
	})
}

// SetWorld brings a model into force, and tells who is alive and how far. Both at
// once: about which policies peers disagree was found by this model, and beside
// another one it would permit what nobody does.
func (r *reconciler) SetWorld(ctx context.Context, m *polder.Model, s surroundings) {
	r.do(ctx, func(now time.Time) {
		before := r.model
		r.model = m
		changed := r.takeSurroundings(s)
		if r.countPeers() && m == before {
			r.adoptAccounts(now)
		}
		switch {
		case m != before:
			r.adoptModel(before, changed, now)
		case changed:
			r.judgeAll(now)
		}
	})
}

// InstanceChanged takes one step in the life of an instance.
func (r *reconciler) InstanceChanged(ctx context.Context, e instance.Event) {
	r.post(ctx, func(now time.Time) { r.instanceChanged(e, now) })
}

// LoadReported takes what an Envoy did during an interval.
func (r *reconciler) LoadReported(ctx context.Context, reports []load.Report) {
	r.post(ctx, func(now time.Time) {
		for _, report := range reports {
			if s := r.services[report.Service]; s != nil {
				s.observe(report, now)
				r.serve(s, now)
				r.spending.book.Requests(now, report.Service, report.Issued())
				r.spending.called(report.Service, int(report.Direct.Issued), now)
				r.step(s, now)
			}
		}
	})
}

// Status describes every service, by name.
func (r *reconciler) Status(ctx context.Context) ([]ServiceStatus, error) {
	answer := make(chan []ServiceStatus, 1)
	asked := r.post(ctx, func(now time.Time) {
		list := []ServiceStatus{}
		for _, name := range slices.Sorted(maps.Keys(r.services)) {
			list = append(list, r.services[name].status(now))
		}
		answer <- list
	})
	if asked {
		select {
		case list := <-answer:
			return list, nil
		case <-ctx.Done():
		}
	}
	return nil, fmt.Errorf("status of the services: %w", ctx.Err())
}

// judgeAll applies the law to every service and publishes what changed, as one
// change that is proved as a whole.
func (r *reconciler) judgeAll(now time.Time) {
	r.judged = r.lawful.at(now, r.wall())
	served := map[polder.ServiceName][]polder.Host{}
	known := map[polder.ServiceName]law.Approved{}
	names := slices.Sorted(maps.Keys(r.services))
	for _, name := range names {
		s := r.services[name]
		s.approved = r.judge(s)
		r.openBerth(s)
		if s.approved.Verdict() == law.Serve {
			served[name], known[name] = s.spec.Hosts, s.approved
		}
	}
	r.closed(r.served.replace(known))
	r.complain(r.certificates.Hold(r.ctx, served))
	r.publishAll(names, now)
	r.turns = turnsNext(r.services, r.judged)
	for _, name := range names {
		r.follow(r.services[name], now)
	}
	r.announceWarm()
}

func (r *reconciler) complain(faults map[polder.ServiceName]error) {
	for name, err := range faults {
		r.log.Error("no certificate for the service's hosts; callers' handshakes fail until there is one",
			"service", name, "reason", err)
	}
}

// follow does with a service what its new verdict says.
func (r *reconciler) follow(s *service, now time.Time) {
	r.gate.journal.watchGlass(&s.glass, s.approved, r.judged)
	if s.approved.Verdict() != law.Serve {
		s.fail(refuse(activator.UnknownService, 0, "not served here: %s", s.approved.Reason()))
		r.stopAll(s, "region may no longer serve: "+s.approved.Reason())
		s.state, s.shadow = new(prewarm.State), nil // what was learned of its callers is for where it is served
	}
	r.step(s, now)
}

func (r *reconciler) judge(s *service) law.Approved {
	return r.judgeWith(s, s.endpoints(r.gateway.Region))
}

// forClients is the verdict for clients without an Envoy. gRPC connects to whatever
// endpoint it is told of before anybody calls, and again whenever the connection is
// lost: at an empty berth it would wake the service, and never let it sleep.
// Instances that are all busy are hidden from clients as they are from Envoys.
func (r *reconciler) forClients(s *service) law.Approved {
	switch {
	case r.gate.clients == nil:
		return s.approved
	case s.busyNow.hidden:
		return r.judgeWith(s, nil)
	case s.berth.IsValid():
		return r.judgeWith(s, append(s.readyEndpoints(), s.fixedEndpoints(r.gateway.Region)...))
	}
	return s.approved
}

func (r *reconciler) judgeWith(s *service, endpoints []polder.Endpoint) law.Approved {
	return law.Judge(s.spec, law.Circumstances{
		Here: r.gateway.Region, Regions: r.model.Regions,
		Alive: r.around.health, Rank: r.around.rank, Endpoints: endpoints,
		Now: r.judged, Others: r.around.others[s.spec.Name],
		Home: s.place.home, Leaving: r.around.leaving,
	})
}

// publishEndpoints is the fast path when only instances changed. The law and
// the proof stand on it as well. A service that is no more has nothing published.
func (r *reconciler) publishEndpoints(s *service) {
	s.approved = r.judge(s)
	if s.approved.Verdict() == law.Serve && r.services[s.spec.Name] == s {
		r.gate.publish(change{
			set:       []xds.Resource{s.assignment(r.gateway)},
			instances: map[polder.ServiceName][]polder.Endpoint{s.spec.Name: s.runningEndpoints()},
			clients:   toClients{moved: []law.Approved{r.forClients(s)}},
		})
	}
	r.announceIfWarm(s)
	r.move(s)
}

// announceWarm tells the membership which services have a ready instance.
func (r *reconciler) announceWarm() {
	var warm []polder.ServiceName
	for name, s := range r.services {
		if s.count().Ready > 0 {
			warm = append(warm, name)
		}
	}
	slices.Sort(warm)
	if !slices.Equal(warm, r.warm) {
		r.warm = warm
		r.warmChanged(warm)
	}
}

// announceIfWarm does the same when only this service may have changed.
func (r *reconciler) announceIfWarm(s *service) {
	at, was := slices.BinarySearch(r.warm, s.spec.Name)
	is := r.services[s.spec.Name] == s && s.count().Ready > 0
	if is == was {
		return
	}
	warm := slices.Clone(r.warm) // whoever was told before keeps what it has
	if is {
		warm = slices.Insert(warm, at, s.spec.Name)
	} else {
		warm = slices.Delete(warm, at, at+1)
	}
	r.warm = warm
	r.warmChanged(warm)
}

// stepDue asks again for the decisions whose time has come.
func (r *reconciler) stepDue(now time.Time) {
	r.settleAccounts(now)
	if !r.turns.IsZero() && !r.lawful.at(now, r.wall()).Before(r.turns) {
		r.judgeAll(now)
	}
	r.tidyTable(now)
	for _, s := range r.services {
		r.desaturate(s, now)
		retry := len(s.waiters) > 0 && !s.retryAt.IsZero() && !now.Before(s.retryAt)
		if retry || !now.Before(s.tempo.when(s.decision.Until)) || r.overdue(s, now) {
			r.step(s, now)
		}
	}
}

// step decides how many instances a service should have, and starts or retires.
func (r *reconciler) step(s *service, now time.Time) {
	if !r.begun || s.spec.Run == nil || s.approved.Verdict() != law.Serve {
		return
	}
	s.atBerthNow = r.atBerthNow(s)
	obs, terms := s.observation(now), r.terms(s, now)
	s.decision = prewarm.Step(s.state, s.spec, obs, terms)
	r.score(s, obs, terms)
	desired, detour := r.aim(s, now)
	r.announceBusy(s)
	count := s.count()
	for n := count.Warm(); n < desired; n++ {
		if !r.revive(s) && (s.freezes() || !r.start(s, s.because(detour), now)) {
			break
		}
	}
	r.refuseBroke(s, now)
	if count.Ready > desired {
		for n, i := range s.surplus(count.Ready - desired) {
			i.rests = n < s.decision.Paused-count.Paused
			r.retire(s, i, s.because(detour))
		}
	}
	r.endPaused(s)
	if count.Ready > 0 || desired == 0 {
		for _, i := range s.outdated() {
			r.retire(s, i, "a newer version of the service took over")
		}
	}
}
