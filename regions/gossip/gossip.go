package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

// Gossip is one peer's part in the membership.
type Gossip struct {
	// Fixed after New.
	options Options
	timing  timing
	life    life
	box     *mailbox
	roster  *roster
	queue   *memberlist.TransmitLimitedQueue // safe for concurrent use
	courier *courier
	seeker  *seeker
	keys    *keyring
	count   *counters
	report  *throttle

	// Signals.
	changes chan struct{} // capacity 1
	joined  chan struct{} // closed once
	ready   chan struct{} // closed once
	accused chan struct{} // capacity 1
	bound   chan struct{} // closed once: address is set, or Run failed to begin

	running    atomic.Bool
	joinedOnce sync.Once
	address    string // own gossip address as others see it
	snapshot   atomic.Pointer[Snapshot]
	rows       atomic.Pointer[[][]byte] // what is told in an exchange of tables

	loop loop
}

// Snapshot is the membership as this peer sees it at one instant. It is shared:
// read it, do not write to it.
type Snapshot struct {
	Peers  []regions.Peer // all known, this one included, by name
	View   regions.View   // the same by region
	Joined bool           // another peer is alive, now
	Ready  bool           // there has been time to learn of the others
}

// Observed are the rows as the rest of the program should read them: see
// regions.Observed.
func (s *Snapshot) Observed() []polder.PeerRow { return regions.Observed(s.Peers) }

// New makes a Gossip. It starts nothing and opens nothing. The error names every
// fault of the options.
func New(o Options) (*Gossip, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o.Join = slices.Clone(o.Join)
	keys, err := newKeyring(o.Keys)
	if err != nil {
		return nil, err
	}
	o.Keys = nil // the keyring has them
	t, _ := o.Profile.timing()
	g := &Gossip{
		options: o, timing: t, life: life{region: o.Region, epoch: o.Epoch},
		box: newMailbox(), roster: &roster{}, keys: keys, count: &counters{},
		report:  &throttle{log: o.Log},
		changes: make(chan struct{}, 1), accused: make(chan struct{}, 1),
		joined: make(chan struct{}), ready: make(chan struct{}), bound: make(chan struct{}),
	}
	g.courier = newCourier(g.count, g.report)
	g.seeker = newSeeker(o.Join)
	g.roster.learn(o.Disclosure)
	g.queue = &memberlist.TransmitLimitedQueue{
		NumNodes:       func() int { return g.roster.size() + 1 },
		RetransmitMult: retransmit,
	}
	now := time.Now()
	g.loop = loop{
		Gossip:     g,
		table:      regions.NewTable(o.Peer, o.Region, o.Epoch, regions.DefaultDamping(), memory, now),
		members:    map[string]member{},
		doubts:     map[string]*doubt{},
		disclosure: o.Disclosure,
		told:       map[string]told{},
	}
	g.loop.publish(false, false, now)
	return g, nil
}

const (
	// retransmit × log10(peers), rounded up, is how often each peer passes news on,
	// and gossipTo peers are told at a time. In a small membership these two decide
	// whether somebody is missed and has to wait for an exchange of tables. Measured
	// with 5 % loss, 1,500 changes each, news that took more than a second: with 6
	// times to 3 at a time, 1 with five peers and 15 with nine; with 10 times to 5 at
	// a time none with three, five, six, nine or twelve.
	retransmit = 10
	gossipTo   = 5
	// retransmitLife is the same for what memberlist itself tells: who is alive, and
	// who is not. Fewer will do, for a probe tells it as well.
	retransmitLife = 6
	// degraded bounds by how much a peer slows its probes when it suspects itself of
	// being the slow one (memberlist's awareness). The smaller side of a partition
	// does so, and saw what it had lost after up to 11 s with the library's 8, and
	// after up to 7 s with 3.
	degraded = 3
	// farewell is how many rounds of gossip the last row gets before we leave.
	farewell = 4
	// memory is how long a peer that is gone is remembered, and rejoined.
	memory = 30 * time.Minute
	// packetBuffer is memberlist's UDPBufferSize: what every path of 1500 bytes
	// with a tunnel or two still carries unfragmented.
	packetBuffer = 1400
	// label sets this membership apart from others that memberlist may run.
	label = "polder"
)

// Publish says what the own peer has to say: Address, Healthy, Draining, Warm,
// Busy, Load, Digest and Policy of row; the rest is the membership's. disclosure is what the
// configuration permits to tell, and to whom. It returns at once; only the
// latest publication counts, and one that changes nothing costs nothing.
//
// Warm and Busy may be in any order. The error tells that the row can never be sent.
func (g *Gossip) Publish(row polder.PeerRow, disclosure regions.Disclosure) error {
	row.Peer, row.Region, row.Epoch, row.Sequence = g.options.Peer, g.options.Region, g.options.Epoch, 1
	row.Warm = slices.Clone(row.Warm)
	slices.Sort(row.Warm)
	row.Warm = slices.Compact(row.Warm)
	row.Busy = slices.Clone(row.Busy)
	slices.Sort(row.Busy)
	row.Busy = slices.Compact(row.Busy)
	fitted, _ := regions.Fit(row)
	if err := regions.Check(fitted); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	disclosure.Regions = slices.Clone(disclosure.Regions)
	if !disclosure.Knows(g.options.Region) {
		return fmt.Errorf("publish: own region %s is not among the regions of the configuration: %v", g.options.Region, disclosure.Regions)
	}
	// At once, so that a region that has just been configured is not turned away.
	g.roster.learn(disclosure)
	g.box.leave(func(l *letters) { l.published = &publication{row, disclosure} })
	return nil
}

// Suspect reports own evidence against a peer: connections to it fail. It is not
// usable in this peer's Snapshot until the given instant or until Trust,
// whichever is first. Nobody else is told.
func (g *Gossip) Suspect(peer string, until time.Time) {
	g.box.leave(func(l *letters) { set(&l.evidence, peer, until) })
}

// Trust reports that a connection to the peer succeeded.
func (g *Gossip) Trust(peer string) {
	g.box.leave(func(l *letters) { set(&l.evidence, peer, time.Time{}) })
}

// Rotate replaces the keys. The first encrypts; all decrypt. To change a key
// without a pause give every peer old and new, then every peer new and old, then
// every peer the new alone, each step after the one before has reached all.
func (g *Gossip) Rotate(keys [][]byte) error { return g.keys.rotate(keys) }

// Snapshot is the latest view. It is never nil; before Run it knows the own peer
// only.
func (g *Gossip) Snapshot() *Snapshot { return g.snapshot.Load() }

// Changes receives a value after Snapshot has changed. Several changes may give
// one value, so read Snapshot after each. It is for one receiver, and is never
// closed.
func (g *Gossip) Changes() <-chan struct{} { return g.changes }

// Joined is closed when another peer is known to be alive for the first time.
func (g *Gossip) Joined() <-chan struct{} { return g.joined }

// Ready is closed when the tables of others have been taken in, or there is
// nobody to join, or neither happened within the profile's patience (LAN 3 s,
// WAN 10 s). Only then does silence about a region mean something.
func (g *Gossip) Ready() <-chan struct{} { return g.ready }

// Address waits until Run listens and returns the host:port under which others
// reach this peer.
func (g *Gossip) Address(ctx context.Context) (string, error) {
	select {
	case <-g.bound:
		if g.address == "" {
			return "", fmt.Errorf("gossip of peer %s could not begin; Run has said why", g.options.Peer)
		}
		return g.address, nil
	case <-ctx.Done():
		return "", fmt.Errorf("gossip of peer %s does not listen yet: %w", g.options.Peer, ctx.Err())
	}
}

// Counters are how often what happened.
func (g *Gossip) Counters() Counters { return g.count.read() }

// Run takes part in the membership until ctx ends; then it says goodbye, for at
// most 1.4 s (LAN) or 2.8 s (WAN) and usually half of that, closes its sockets
// and returns nil. Any error means that it could not begin. Run may be called once.
func (g *Gossip) Run(ctx context.Context) error {
	if g.running.Swap(true) {
		return fmt.Errorf("gossip of peer %s runs already", g.options.Peer)
	}
	m, w, err := g.begin(ctx)
	close(g.bound)
	if err != nil {
		return err
	}
	g.loop.send = m.SendBestEffort
	var loops sync.WaitGroup
	loops.Go(func() { g.loop.run(ctx) })
	loops.Go(func() { g.seek(ctx, m) })
	loops.Go(func() { g.courier.run(ctx, m) })
	loops.Go(func() { g.insist(ctx, m) })
	<-ctx.Done()
	w.hangUp()
	loops.Wait()
	if !errors.Is(context.Cause(ctx), ErrHandOver) {
		g.goodbye(m)
	}
	return m.Shutdown()
}

// ErrHandOver, as the cause with which Run's context ends, ends it without a
// goodbye: the peer is back at once, and to the others it was never away.
var ErrHandOver = errors.New("the peer is handed over to its next process")

// begin listens and starts memberlist.
func (g *Gossip) begin(ctx context.Context) (*memberlist.Memberlist, *wire, error) {
	library := &libraryLog{log: g.options.Log, count: g.count, report: g.report, accused: g.accuse}
	network := g.options.network
	if network == nil {
		listening, err := listen(ctx, g.options, library.logger())
		if err != nil {
			return nil, nil, fmt.Errorf("gossip of peer %s: %w", g.options.Peer, err)
		}
		network = listening
	}
	w := newWire(network, g.timing.stream, g.count)
	g.loop.begin(time.Now()) // so that the first exchange of tables has the own row
	config, err := g.config(ctx, w)
	if err == nil {
		config.Logger = library.logger()
		var m *memberlist.Memberlist
		if m, err = memberlist.Create(config); err == nil {
			return m, w, nil
		}
	}
	g.address = ""
	return nil, nil, errors.Join(fmt.Errorf("gossip of peer %s: %w", g.options.Peer, err), w.Shutdown())
}

func (g *Gossip) config(ctx context.Context, w *wire) (*memberlist.Config, error) {
	t := g.timing
	c := memberlist.DefaultLANConfig()
	c.Name, c.Transport, c.Label = g.options.Peer, w, label
	c.ProbeInterval, c.ProbeTimeout, c.IndirectChecks = t.probeInterval, t.probeTimeout, t.indirectChecks
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = t.suspicion, t.suspicionMax
	c.GossipInterval, c.GossipNodes, c.PushPullInterval = t.gossipInterval, gossipTo, t.exchange
	c.GossipToTheDeadTime, c.TCPTimeout = t.gone, t.stream
	c.RetransmitMult, c.AwarenessMaxMultiplier = retransmitLife, degraded
	// A peer that restarts at another address may take its name back as soon as
	// its former self is known to be dead.
	c.DeadNodeReclaimTime = time.Millisecond
	c.EnableCompression = false // rows are compact, and nothing can be blown up
	c.UDPBufferSize = packetBuffer
	c.HandoffQueueDepth = maxMessages
	c.Keyring = g.keys.ring
	d := &delegate{
		own: g.options.Peer, life: g.life, box: g.box, roster: g.roster, queue: g.queue,
		rows: &g.rows, count: g.count, report: g.report,
	}
	c.Delegate, c.Events, c.Alive, c.Conflict, c.Ping = d, d, d, d, d
	if g.options.Advertise != "" {
		at, err := resolve(ctx, g.options.Advertise)
		if err != nil {
			return nil, fmt.Errorf("advertise %s: %w", g.options.Advertise, err)
		}
		c.AdvertiseAddr, c.AdvertisePort = at[0].Addr().String(), int(at[0].Port())
	}
	ip, port, err := w.FinalAdvertiseAddr(c.AdvertiseAddr, c.AdvertisePort)
	if err != nil {
		return nil, fmt.Errorf("no address to tell others: %w; name one to advertise", err)
	}
	if ip.IsUnspecified() {
		return nil, fmt.Errorf("listening on every address (%s), so others have to be told one: name it to advertise", ip)
	}
	c.BindPort = port
	g.address = net.JoinHostPort(ip.String(), strconv.Itoa(port))
	return c, nil
}

// goodbye tells the others that the own peer drains, and then that it leaves, so
// that nobody takes its silence for a fault.
func (g *Gossip) goodbye(m *memberlist.Memberlist) {
	if g.roster.size() > 0 {
		sent := make(chan struct{}, 1)
		g.loop.drain(sent, time.Now())
		patience := time.NewTimer(farewell * g.timing.gossipInterval)
		select {
		case <-sent:
		case <-patience.C:
		}
		patience.Stop()
	}
	if err := m.Leave(g.timing.goodbye); err != nil {
		if staying := g.staying(m); len(staying) > 0 {
			g.options.Log.Warn("left without a goodbye that was heard; others will notice by themselves", "peers", staying, "reason", err.Error())
		}
	}
}

// staying names the others that are there and do not drain. Peers that leave together
// need no goodbye from each other, and stop listening before each has heard all.
func (g *Gossip) staying(m *memberlist.Memberlist) []string {
	leaving := map[string]bool{g.options.Peer: true}
	for _, p := range g.Snapshot().Peers {
		leaving[p.Row.Peer] = leaving[p.Row.Peer] || p.Row.Draining
	}
	var names []string
	for _, n := range m.Members() {
		if !leaving[n.Name] {
			names = append(names, n.Name)
		}
	}
	return names
}
