package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm/budget"
	"github.com/polder/polder/regions"
	"github.com/polder/polder/regions/gossip"
	"github.com/polder/polder/xds"
)

// The simulation runs the reconcilers of six peers in three regions in fake time,
// each beside its own table of rows, on a network that a seed loses packets of, cuts
// in one direction or both, and takes peers from. What becomes of a call is followed
// from gateway to gateway as Envoy would carry it. Everything that decides is the
// product's: law, table, order, homes, surroundings, reconciler. The failure detector
// is reduced to its promise: nobody is heard of for three seconds.

const (
	simTick = 100 * time.Millisecond
	// simDeath and simSuspicion are after how much silence a peer is declared dead by
	// the failure detector, and suspected by own connections.
	simDeath, simSuspicion = 3 * time.Second, 750 * time.Millisecond
	// simSettled is after how long without a change calls may fail no more: a death,
	// and the silence after which a standby takes over.
	simSettled = simDeath + takeover + 2*time.Second
	simLoss    = 0.2
	// simQuiet is how long nobody calls until a service that was busy is so no more.
	simQuiet = 6 * paceHalf
)

const simConfig = `regions:
  fr: { jurisdiction: [FR, EU], location: [48.86, 2.35], peers: 2 }
  nl: { jurisdiction: [NL, EU], location: [52.37, 4.90], peers: 2 }
  pl: { jurisdiction: [PL, EU], location: [52.23, 21.01], peers: 2 }
prices: { currency: EUR, default: { gib-second: 0.000001, vcpu-second: 0, request: 0 } }
tenants:
  acme: { quota: { instances: 3 } }
services:
  pinned:  { hosts: [pinned.example.com], residency: { allow: [fr] }, run: { command: [./a] }, scale: { keep-alive: 4s, prewarm: off } }
  vault:   { hosts: [vault.example.com], residency: { allow: [fr], elsewhere: refuse }, run: { command: [./a] }, scale: { keep-alive: 4s, prewarm: off } }
  open:    { hosts: [open.example.com], residency: { allow: [EU] }, run: { command: [./a] }, scale: { keep-alive: 4s, prewarm: off } }
  both:    { hosts: [both.example.com], residency: { allow: [nl, pl] }, run: { command: [./a] }, scale: { keep-alive: 4s, prewarm: off } }
  standby: { hosts: [standby.example.com], residency: { allow: [pl], failover: { listed: [nl] } }, run: { command: [./a] }, scale: { keep-alive: 4s, prewarm: off } }
  dear:    { tenant: acme, hosts: [dear.example.com], residency: { allow: [EU] }, run: { command: [./a], memory: 1GiB }, scale: { keep-alive: 4s, prewarm: off, max: 5, concurrency: 2, budget: 0.00108 EUR/month } }
`

// simAllowed and simEver are where services belong, and where they may be; the
// simulation knows it by itself.
var (
	simAllowed = map[polder.ServiceName][]polder.RegionName{
		"pinned": {"fr"}, "vault": {"fr"}, "open": {"fr", "nl", "pl"}, "both": {"nl", "pl"}, "standby": {"pl"},
		simDear: {"fr", "nl", "pl"},
	}
	simStandby = map[polder.ServiceName]polder.RegionName{"standby": "nl"}
	simRefuses = map[polder.ServiceName]bool{"vault": true}
)

// simPeer is one peer: a reconciler in a world of its own, and a table.
type simPeer struct {
	*world
	name    string
	region  polder.RegionName
	address string
	epoch   uint64
	up      bool
	table   *regions.Table
	vitals  vitals
	far     distances
	silent  map[string]time.Time // since when nothing comes from a peer, or goes to it
	disk    simDisk
	starts  int       // of instances, by earlier processes
	flooded time.Time // until when callers flood it; zero for not
	stop    context.CancelFunc
	ended   chan error

	told sync.Mutex // guards what the reconciler tells
	warm []polder.ServiceName
	busy []polder.ServiceName
}

// simulation is the fleet and the network. It belongs to one goroutine.
type simulation struct {
	t       *testing.T
	random  *rand.Rand
	model   *polder.Model
	peers   []*simPeer
	cut     map[[2]polder.RegionName]bool // one direction each
	changed time.Time
	log     []string
	calls   int
	strict  int // calls that had to be answered

	watched map[string]sighting // by peer and instance
	lived   map[polder.RegionName]time.Duration
	callers sync.WaitGroup
	broke   atomic.Int32 // callers who were told that there is no money
}

func (s *simulation) say(format string, values ...any) {
	s.log = append(s.log, fmt.Sprintf("%7.1f s  ", time.Since(simEpoch()).Seconds())+fmt.Sprintf(format, values...))
}

// simEpoch is when time begins in a bubble.
func simEpoch() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

// fail ends the test with what happened so far.
func (s *simulation) fail(format string, values ...any) {
	s.t.Helper()
	from := max(0, len(s.log)-60)
	s.t.Fatalf("at %.1f s: %s\n%s", time.Since(simEpoch()).Seconds(), fmt.Sprintf(format, values...), strings.Join(s.log[from:], "\n"))
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	reading := polder.Decode([]polder.File{{Name: "polder.yaml", Data: []byte(simConfig)}})
	if len(reading.Faults) > 0 {
		t.Fatal(reading.Faults)
	}
	s := &simulation{t: t, random: rand.New(rand.NewPCG(seed, 31)), model: reading.Model, cut: map[[2]polder.RegionName]bool{},
		changed: time.Now(), watched: map[string]sighting{}, lived: map[polder.RegionName]time.Duration{}}
	for i, region := range []polder.RegionName{"fr", "nl", "pl"} {
		for n := range 2 {
			p := &simPeer{name: fmt.Sprintf("%s-%d", region, n+1), region: region, address: fmt.Sprintf("10.0.%d.%d:7443", i+1, n+1),
				disk: simDisk{accounts: map[string]budget.Saved{}}}
			s.peers = append(s.peers, p)
			s.start(p)
		}
	}
	return s
}

// start begins a life of a peer, with nothing left of an earlier one but its disk and
// the instances that are named.
func (s *simulation) start(p *simPeer, ran ...polder.Instance) {
	ctx, stop := context.WithCancel(s.t.Context())
	w := &world{t: s.t, ctx: ctx, region: p.region, held: map[xds.Key]xds.Resource{}, born: map[polder.InstanceID]time.Time{}, ack: make(chan struct{}), startUp: 20 * time.Millisecond,
		starts: p.starts}
	close(w.ack)
	for _, i := range ran {
		w.born[i.ID] = i.Started
	}
	w.alive.Add(int32(len(ran)))
	gateway := xds.Gateway{Region: p.region, Activator: "/activator.sock"}
	node := xds.NodeConfig{Region: p.region, TrustDomain: "polder", HTTPS: netip.MustParseAddrPort("127.0.0.1:8443"),
		HTTP: netip.MustParseAddrPort("127.0.0.1:8080"), Peer: netip.MustParseAddrPort("127.0.0.1:7443")}
	w.r = newReconciler(slog.New(slog.DiscardHandler), gateway, node, w, w, func(warm []polder.ServiceName) {
		p.told.Lock()
		defer p.told.Unlock()
		p.warm = warm
	})
	w.r.busyChanged = func(busy []polder.ServiceName) {
		p.told.Lock()
		defer p.told.Unlock()
		p.busy = busy
	}
	w.r.instances, w.r.peer = w, p.name
	w.r.asleep = func(polder.ServiceName) {}
	w.r.spending.restore(slices.Collect(maps.Values(p.disk.accounts)), p.disk.leases)
	p.epoch++
	p.world, p.up, p.stop, p.ended = w, true, stop, make(chan error, 1)
	p.warm, p.busy, p.flooded = nil, nil, time.Time{}
	p.vitals, p.far, p.silent = vitals{}, distances{}, map[string]time.Time{}
	p.table = regions.NewTable(p.name, p.region, p.epoch, regions.DefaultDamping(), 30*time.Minute, time.Now())
	go func() { p.ended <- w.r.Run(ctx) }()
	s.see(p)
	w.r.Begin(ctx, ran)
}

// lose ends a peer as a machine ends: nothing of it is left.
func (s *simulation) lose(p *simPeer) {
	p.up, p.starts = false, p.world.starts
	p.stop()
	if err := <-p.ended; err != nil {
		s.fail("%s ended with %v", p.name, err)
	}
}

// hears tells whether packets come from one peer to another.
func (s *simulation) hears(to, from *simPeer) bool {
	return to.up && from.up && !s.cut[[2]polder.RegionName{from.region, to.region}]
}

// connects tells whether a connection comes about.
func (s *simulation) connects(a, b *simPeer) bool { return s.hears(a, b) && s.hears(b, a) }

// see lets a peer look around, as followMembership does.
func (s *simulation) see(p *simPeer) {
	now := time.Now()
	p.table.Advance(now)
	p.told.Lock()
	row := disclosure(s.model).Redact(polder.PeerRow{Peer: p.name, Region: p.region, Healthy: true, Policy: "same", Address: p.address, Warm: p.warm, Busy: p.busy})
	p.told.Unlock()
	p.table.Say(row, now)
	peers := p.table.Peers()
	snapshot := &gossip.Snapshot{Peers: peers, View: regions.See(peers)}
	around := survey(s.model, self{peer: p.name, region: p.region, address: p.address}, snapshot, p.vitals, now)
	around.rtt = p.far.measured(snapshot.View.RTT)
	p.r.SetWorld(p.ctx, s.model, around)
}

// tick lets a tenth of a second pass.
func (s *simulation) tick() {
	<-time.After(simTick) // fake time
	now := time.Now()
	for _, p := range s.peers {
		if !p.up {
			continue
		}
		for _, o := range s.peers {
			if o != p {
				s.listen(p, o, now)
			}
		}
	}
	for _, p := range s.peers {
		if p.up {
			s.see(p)
			s.press(p, now)
			s.keepBooks(p, now)
		}
	}
	s.checkLaw()
	s.checkMoney(now)
}

// listen lets a peer hear of another, or of its silence.
func (s *simulation) listen(p, o *simPeer, now time.Time) {
	if s.hears(p, o) && s.random.Float64() >= simLoss {
		known := o.table.Tellable()
		for _, q := range o.table.Peers() {
			if slices.Contains(known, q.Row.Peer) {
				p.table.Merge(q.Row, now)
			}
		}
	}
	if s.connects(p, o) {
		delete(p.silent, o.name)
		p.table.Alive(o.name, o.region, o.epoch, now)
		p.table.Trust(o.name, now)
		return
	}
	if p.silent[o.name].IsZero() {
		p.silent[o.name] = now
	}
	if quiet := now.Sub(p.silent[o.name]); quiet >= simDeath {
		p.table.Dead(o.name, now)
	} else if quiet >= simSuspicion {
		p.table.Suspect(o.name, now.Add(suspicion), now)
	}
}

func (s *simulation) run(d time.Duration) {
	for range d / simTick {
		s.tick()
	}
}

// strike lets something happen.
func (s *simulation) strike() {
	down := slices.IndexFunc(s.peers, func(p *simPeer) bool { return !p.up })
	names := []polder.RegionName{"fr", "nl", "pl"}
	a := s.random.IntN(3)
	from, to := names[a], names[(a+1+s.random.IntN(2))%3]
	s.changed = time.Now()
	switch what := s.random.IntN(9); {
	case what < 2 && down < 0:
		p := s.peers[s.random.IntN(len(s.peers))]
		s.say("%s is lost", p.name)
		s.lose(p)
	case what == 2:
		s.say("region %s is lost", from)
		for _, p := range s.peers {
			if p.region == from && p.up {
				s.lose(p)
			}
		}
	case what == 3:
		s.say("%s and %s are cut from each other", from, to)
		s.cut[[2]polder.RegionName{from, to}], s.cut[[2]polder.RegionName{to, from}] = true, true
	case what == 4:
		s.say("nothing comes from %s to %s", from, to)
		s.cut[[2]polder.RegionName{from, to}] = true
	case what == 5:
		s.say("the network heals")
		clear(s.cut)
	case what == 6:
		if p := s.peers[s.random.IntN(len(s.peers))]; p.up {
			s.say("Polder of %s is killed, and back", p.name)
			s.restart(p)
		}
	default:
		for _, p := range s.peers {
			if !p.up {
				s.say("%s returns", p.name)
				s.start(p)
			}
		}
	}
}

// heal mends all.
func (s *simulation) heal() {
	clear(s.cut)
	for _, p := range s.peers {
		if !p.up {
			s.start(p)
		}
	}
	s.changed = time.Now()
	s.say("all is healed")
}
