package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/gateway/audit"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/gateway/books"
	"github.com/polder/polder/gateway/dns"
	"github.com/polder/polder/gateway/envoy"
	"github.com/polder/polder/gateway/ledger"
	"github.com/polder/polder/gateway/metrics"
	"github.com/polder/polder/gateway/trace"
	"github.com/polder/polder/prewarm/instance"
	"github.com/polder/polder/prewarm/instance/local"
	"github.com/polder/polder/prewarm/instance/sockets"
	"github.com/polder/polder/regions/gossip"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/greeting"
	"github.com/polder/polder/xds/load"
	"github.com/polder/polder/xds/server"
)

const (
	// loadInterval is how often Envoy reports its load. 1 s costs it next to nothing.
	loadInterval = time.Second
	// leastLoadInterval is the same while a Tempo runs.
	leastLoadInterval = 50 * time.Millisecond
	// drainTime is the most that requests in progress get to finish at a stop.
	drainTime = 10 * time.Second
	// adoptWait bounds the wait for instances that ran already to answer.
	adoptWait = 3 * time.Second
	adoptTick = 5 * time.Millisecond
	// drainGrace is how long Envoy may take to end after that.
	drainGrace = 5 * time.Second
)

// ErrNoRegion says that the configuration does not have the region to run.
var ErrNoRegion = errors.New("is not in the configuration")

// Region is one running region: New connects its parts, Run makes them live.
type Region struct {
	// Fixed after construction.
	options     Options
	layout      Layout
	listen      polder.Listen
	peerAddress string
	started     time.Time
	node        string

	config     *config
	journal    *journal
	auditor    *audit.Auditor
	keys       *keyring
	archive    *server.Archive
	server     *server.Server
	nodes      *nodes   // on other machines; nil without listen.xds
	clients    *clients // without an Envoy; nil without listen.clients
	load       *load.Server
	greeter    *greeting.Server
	reconciler *reconciler
	activator  *activator.Activator
	metrics    *metrics.Metrics
	tracer     *trace.Tracer // nil when nobody collects traces
	manager    *instance.Manager
	gossip     *gossip.Gossip
	prober     *prober
	dns        *dns.Server // nil when the region answers no queries
	envoy      *envoy.Supervisor
	sockets    *sockets.Store
	berths     *local.Berths
	issuer     *authority.Issuer
	gossipKeys [][]byte
	books      *books.Store
	degraded   []string // written by Run before anybody asks

	begun        chan struct{} // closed when the model is in force
	modelChanged chan struct{} // capacity 1: there is a new model

	served servedHere                      // what the activator may be asked for
	skewed atomic.Pointer[[]SkewStatus]    // living peers with other policies
	skew   skew                            // only inside followMembership
	ctx    atomic.Pointer[context.Context] // of Run's supporting parts, for callbacks

	envoyState  atomic.Pointer[envoy.Event] // its last one
	attestation attestation                 // of the Envoy

	greetings greetings
	wakes     wakes
	knocker   *knocker

	keyIDs  atomic.Pointer[[]string] // of the membership's keys, in order
	drained atomic.Bool              // it is to lose its callers, and goes on

	booksMu    sync.Mutex    // held while the books are written: entries keep their order
	booksModel *polder.Model // whose law the books follow; of keepBooks alone

	rowMu    sync.Mutex // guards the row below
	healthy  bool
	stopping bool
	warm     []polder.ServiceName
	claims   string // of policies, while peers disagree about them
	busy     []polder.ServiceName
	told     toldLoad
}

// New connects the parts of a region. It creates folders, reads the
// configuration and the region's keys, and starts nothing.
func New(o Options) (*Region, error) {
	o.Peer = cmp.Or(o.Peer, FirstPeer(o.Region))
	layout, err := NewLayout(o.State, o.Region)
	if err != nil {
		return nil, err
	}
	layout = layout.Of(o.Peer)
	if err := layout.Make(); err != nil {
		return nil, err
	}
	r := &Region{
		options: o, layout: layout, started: time.Now(), node: o.Peer,
		begun: make(chan struct{}), modelChanged: make(chan struct{}, 1),
	}
	r.journal = newJournal(o.Log, o.Region, r.digest)
	r.skew.log = o.Log
	r.config = newConfig(o.Log, o.Config, layout)
	r.config.changed = r.journal.configured
	model, err := r.config.load()
	if err != nil {
		return nil, err
	}
	region, ok := model.Region(o.Region)
	if !ok {
		return nil, fmt.Errorf("region %q %w %s; it has %s", o.Region, ErrNoRegion, o.Config, regionNames(model))
	}
	drained, err := wasDrained(layout)
	if err != nil {
		return nil, err
	}
	r.drained.Store(drained)
	r.listen = listenOn(o.Listen, region.Listen)
	if err := r.connectKeys(); err != nil {
		return nil, err
	}
	if err := r.connectMetrics(); err != nil {
		return nil, err
	}
	if err := r.connectTraces(model); err != nil {
		return nil, err
	}
	if err := r.connectControl(); err != nil {
		return nil, err
	}
	r.followHold(model)
	if err := r.connectMembership(model, region); err != nil {
		return nil, err
	}
	if err := r.connectDNS(); err != nil {
		return nil, err
	}
	return r, r.connectEnvoy()
}

func (r *Region) connectKeys() error {
	ca, err := authority.Open(r.layout.Authority())
	if err != nil {
		return err
	}
	r.gossipKeys = ca.GossipKeys()
	if r.issuer, err = ca.Issuer(r.options.Region, r.layout.Certificates()); err != nil {
		return err
	}
	identity, err := r.issuer.Peer(r.options.Peer)
	if err != nil {
		return err
	}
	r.keys = newKeyring(r.issuer)
	r.keys.setIdentity(identity)
	return nil
}

// connectControl connects the control plane, the reconciler, the instances and
// the activator.
func (r *Region) connectControl() error {
	o := r.options
	https, http, peer, err := bindAddresses(r.listen)
	if err != nil {
		return fmt.Errorf("region %s: %w", o.Region, err)
	}
	if r.archive, err = server.OpenArchive(r.layout.Accepted(), o.Log); err != nil {
		return fmt.Errorf("region %s: %w", o.Region, err)
	}
	r.server = server.New(server.Options{Log: o.Log, Secret: r.localSecret, Asked: r.heardHello, Accept: r.acceptNode, Archive: r.archive})
	r.load = load.New(o.Tempo.period(loadInterval, leastLoadInterval), func(reports []load.Report) { r.reconciler.LoadReported(r.context(), reports) })
	r.greeter = greeting.New(r.greeted)
	r.reconciler = newReconciler(o.Log,
		xds.Gateway{Region: o.Region, Traces: o.Traces != "", Activator: r.layout.Activator(), HTTP3: r.listen.HTTP3 == polder.HTTP3On},
		xds.NodeConfig{Region: o.Region, Traces: o.Traces != "", HTTPS: https, HTTP: http, Peer: peer, TrustDomain: r.keys.trustDomain(), AccessLog: r.layout.AccessLog(), Ejections: r.layout.Ejections(), HTTP3: r.listen.HTTP3 == polder.HTTP3On},
		r.server, r.keys, r.setWarm)
	if err := r.connectNodes(); err != nil {
		return err
	}
	if err := r.connectClients(); err != nil {
		return err
	}
	r.reconciler.publisher = r.planes()
	r.reconciler.remembered = learned{o.Log, r.layout.Learned()}.read()
	r.reconciler.scored = learned{o.Log, r.layout.Scores()}.read()
	r.reconciler.peer, r.reconciler.busyChanged, r.reconciler.tempo = o.Peer, r.setBusy, o.Tempo
	r.reconciler.peers = o.Peers
	r.knocker = newKnocker(https)
	r.reconciler.knock = r.knocker.offer
	r.reconciler.served, r.reconciler.closed, r.reconciler.asleep = &r.served, r.forgetCallers, r.fellAsleep
	r.reconciler.compare = r.config.compare
	r.reconciler.gate.journal, r.reconciler.gate.rebooked = r.journal, r.withdrawKeys
	keeper := sockets.Options{Dir: r.layout.Keeper(), Socket: r.layout.Sockets(), Label: "keeper of " + string(o.Region), Log: o.Log}
	if len(o.Keeper) > 0 {
		keeper.Program, keeper.Args = o.Keeper[0], o.Keeper[1:]
	}
	r.sockets = sockets.New(keeper)
	if r.berths, err = local.NewBerths(r.sockets, func(name polder.ServiceName) { r.reconciler.Rung(r.context(), name) }); err != nil {
		return err
	}
	r.reconciler.berths, r.reconciler.open, r.reconciler.woke = r.berths, newCensus(r.openRequests).open, r.woke
	provider, err := local.New(local.Options{Dir: r.layout.Processes(), Environ: os.Environ(), Log: o.Log, Berths: r.berths})
	if err != nil {
		return err
	}
	if r.manager, err = instance.New(instance.Options{
		Region: o.Region, StateDir: r.layout.Instances(), Log: o.Log,
		Provider: provider, Timing: instance.DefaultTiming(), Logs: instance.DefaultLogLimits(),
		Events: func(e instance.Event) { r.reconciler.InstanceChanged(r.context(), e) },
	}); err != nil {
		return err
	}
	r.reconciler.instances, r.reconciler.pausing = r.manager, pausing()
	r.activator, err = activator.New(activator.Options{
		Region: o.Region, Wake: r.reconciler.Wake, Known: r.isKnown, Heir: r.served.owner,
		Cold: r.cold, Rouse: r.reconciler.Rouse, Look: r.reconciler.Look, Published: r.reconciler.Published,
		Saturated: r.reconciler.Saturated, Limits: activator.DefaultLimits(),
		ServerTiming: o.ServerTiming, Remember: activator.DefaultRemember, MayRemember: r.mayTrace, Observe: r.observeCold, Log: o.Log,
	})
	return err
}

func (r *Region) connectMembership(m *polder.Model, region polder.Region) error {
	epoch, err := nextEpoch(r.layout)
	if err != nil {
		return fmt.Errorf("region %s: counting starts: %w", r.options.Region, err)
	}
	if r.peerAddress, err = advertised(r.listen.Peer); err != nil {
		return err
	}
	r.gossip, err = gossip.New(gossip.Options{
		Peer: r.options.Peer, Region: r.options.Region, Epoch: epoch, Bind: r.listen.Gossip,
		Join: slices.Concat(r.options.Join, region.Join), Keys: r.gossipKeys, Signer: r.keys, Disclosure: disclosure(m), Log: r.options.Log,
	})
	if err != nil {
		return err
	}
	r.prober = newProber(r.options.Peer, r.gossip, r.keys.peerIdentity, r.options.Log)
	return nil
}

func (r *Region) connectEnvoy() error {
	binary, err := envoy.Find(context.Background(), r.options.Tools, os.Getenv("PATH"))
	if err != nil {
		return err
	}
	bootstrap, err := xds.Bootstrap{
		Node: r.node, Region: r.options.Region, ControlPlane: r.layout.ControlPlane(), Admin: r.layout.Admin(), Ejections: r.layout.Ejections(),
	}.JSON()
	if err != nil {
		return err
	}
	if err := r.reconciler.gate.bootstrap(bootstrap); err != nil {
		return err
	}
	if r.envoy, err = envoy.NewSupervisor(envoy.Options{
		Node: r.node, Binary: binary, Bootstrap: bootstrap, Dir: r.layout.Envoy(), Concurrency: runtime.NumCPU(),
		DrainTime: drainTime, Grace: drainGrace, Log: r.options.Log, OnEvent: r.envoyChanged,
	}); err != nil {
		return err
	}
	r.auditor, err = audit.New(audit.Options{
		Node: r.node, Bootstrap: bootstrap, Admin: r.envoy.Admin(), ControlPlane: r.server, Mirror: r.reconciler.gate.mirror,
	})
	return err
}

// Run runs the region until ctx ends or a part fails. It returns when every
// goroutine and every process that it started has ended. It stops in an order
// that loses no request: Envoy drains while all that it relies on still works,
// then instances end, then the rest.
func (r *Region) Run(ctx context.Context) (fault error) {
	release, err := Hold(r.layout.Dir())
	if err != nil {
		return fmt.Errorf("region %s: %w", r.options.Region, err)
	}
	defer release()
	if err := r.journal.open(ledger.Options{Dir: r.layout.Ledger(), Region: r.options.Region},
		startedRecord{Peer: r.options.Peer, Version: r.options.Version, PID: os.Getpid()}); err != nil {
		return err
	}
	defer func() { fault = errors.Join(fault, r.journal.close(stopReason(ctx, fault))) }()
	if err := r.openBooks(); err != nil {
		return err
	}
	defer r.closeBooks()
	r.degraded = degraded(r.listen)
	for _, line := range r.degraded {
		r.options.Log.Warn("this machine does not allow all that the region could do", "region", r.options.Region, "reason", line)
	}
	if err := r.sockets.Open(); err != nil {
		r.options.Log.Warn("listening sockets have no keeper: callers that connect while Polder is replaced, or has crashed, are refused", "reason", err)
	}
	defer func() { fault = errors.Join(fault, r.closeSockets(ctx)) }()
	r.recallWays()
	rest, end := context.WithCancelCause(context.WithoutCancel(ctx))
	stopRest := func() { end(context.Cause(ctx)) }
	defer stopRest()
	support, inner := errgroup.WithContext(rest)
	r.ctx.Store(&inner)
	defer context.AfterFunc(ctx, func() { r.options.Log.Info("region stops", "reason", context.Cause(ctx)) })()
	for _, part := range []func(context.Context) error{
		r.reconciler.Run, r.gossip.Run, r.followMembership, r.followConfig, r.renew, r.watchHealth, r.keepLearned, r.keepBooks, r.archive.Run, r.berths.Run,
		r.serveMetrics, r.serveDNS, r.journal.Run, r.knocker.Run,
		r.exportTraces,
		func(ctx context.Context) error { return serveAPI(ctx, r.layout.API(), r, r.metrics) },
	} {
		support.Go(func() error { return part(inner) })
	}
	support.Go(func() error { return r.prober.run(inner) })
	support.Go(func() error { return r.followGossipKeys(inner) })
	running, endInstances := context.WithCancelCause(inner)
	stopInstances := func() { endInstances(context.Cause(ctx)) }
	defer stopInstances()
	ended := make(chan error, 1)
	if !await(inner, ctx, r.begun) { // the model is in force
		stopInstances()
		stopRest()
		return support.Wait()
	}
	go func() { ended <- r.manager.Run(running) }()
	err = r.openFront(ctx, inner, support)
	stopInstances()
	err = errors.Join(err, <-ended)
	r.storeLearned(inner)
	r.writeBooks(inner, true)
	stopRest()
	return errors.Join(err, support.Wait())
}

// openFront lets Envoy in, and runs it until ctx ends. An Envoy that serves
// already keeps what it has until Polder knows as much as the one before it.
func (r *Region) openFront(ctx, inner context.Context, support *errgroup.Group) error {
	if !await(inner, ctx, r.manager.Adopted()) {
		return nil
	}
	r.reconciler.Begin(inner, r.adopted(inner))
	waiting, err := r.listenKept(r.layout.Activator())
	if err != nil {
		return err
	}
	control, err := r.listenKept(r.layout.ControlPlane())
	if err != nil {
		waiting.Close()
		return err
	}
	support.Go(func() error { return r.activator.Serve(inner, waiting) })
	support.Go(func() error { return r.activator.Serve(inner, r.berths.Callers()) })
	support.Go(func() error { return r.serveNodes(inner) })
	serve := func(l net.Listener) {
		support.Go(func() error { return r.serveControl(inner, l, r.envoyServices(r.server)) })
	}
	serve(control)
	relisten := relistener(r.layout.ControlPlane(), serve)
	front, stopFront := context.WithCancel(ctx)
	defer stopFront()
	defer context.AfterFunc(inner, stopFront)() // a part that fails stops all
	defer context.AfterFunc(front, func() {
		if !errors.Is(context.Cause(front), ErrHandOver) {
			r.setStopping()
		}
	})()
	support.Go(func() error { return r.watchEnvoy(front, relisten) })
	support.Go(func() error { return r.watchAccessLog(front) })
	support.Go(func() error { return r.prober.watchEjections(front, r.layout.Ejections()) })
	r.options.Log.Info("region runs", "https", r.listen.HTTPS, "http", r.listen.HTTP,
		"peer", r.listen.Peer, "gossip", r.listen.Gossip, "pid", os.Getpid())
	leave := func() {
		<-front.Done()
		if !errors.Is(context.Cause(front), ErrHandOver) {
			r.partFromClients(inner)
		}
	}
	var clients sync.WaitGroup
	clients.Go(leave) // while Envoy drains
	defer clients.Wait()
	defer stopFront()
	return r.envoy.Run(front)
}

// stopReason says why a region stops.
func stopReason(ctx context.Context, err error) string {
	if err != nil {
		return err.Error()
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause.Error()
	}
	return "a part ended"
}

// digest names everything that is published.
func (r *Region) digest() string { return r.reconciler.gate.mirror.Digest() }

// adopted lists the instances that ran already, once each is known to answer
// or not, or after adoptWait: what an Envoy sends to now must not be taken away.
func (r *Region) adopted(ctx context.Context) []polder.Instance {
	ctx, cancel := context.WithTimeout(ctx, adoptWait)
	defer cancel()
	for {
		list := r.manager.Instances()
		undecided := slices.ContainsFunc(list, func(i polder.Instance) bool { return i.State == polder.Starting })
		if !undecided || !pause(ctx, adoptTick) {
			return list
		}
	}
}

// await waits for a part to be ready. False means that a context ended first.
func await(inner, ctx context.Context, ready <-chan struct{}) bool {
	select {
	case <-ready:
		return true
	case <-inner.Done():
	case <-ctx.Done():
	}
	return false
}
