package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
	"github.com/polder/polder/regions/gossip"
	"github.com/polder/polder/regions/law"
)

const (
	// lookAround is how often the surroundings are looked at besides when the
	// membership says that they changed: time passes without a message.
	lookAround = time.Second
	// takeover is how long a region must have been unable to serve before its
	// services are given up, or go to their standby regions. Until then callers
	// are sent to it and no further: the law is not bent for a hiccup.
	takeover = 3 * time.Second
	// bootTakeover is the same for regions that were never seen since this one
	// started: regions that start together take their time.
	bootTakeover = 10 * time.Second
)

// rttStep is how finely round trips count for how long connecting may take: a change
// of it is a new cluster in every way that leads there.
const rttStep = 10 * time.Millisecond

// distances are the round trips to each region, as last measured, in whole steps: a
// region that was lost is as far away when it returns.
type distances map[polder.RegionName]time.Duration

// measured takes in what is measured now, and gives a copy.
func (d distances) measured(now map[polder.RegionName]time.Duration) map[polder.RegionName]time.Duration {
	for region, rtt := range now {
		d[region] = (rtt + rttStep - 1) / rttStep * rttStep
	}
	return maps.Clone(d)
}

// nextEpoch counts the starts of this peer, so that its rows win over those of
// its earlier lives. The clock keeps it growing when the file was lost.
func nextEpoch(l Layout) (uint64, error) {
	file := filepath.Join(l.Dir(), "epoch")
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	last, _ := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64) // a damaged file counts as lost
	epoch := max(last+1, uint64(time.Now().Unix()))
	return epoch, os.WriteFile(file, []byte(strconv.FormatUint(epoch, 10)+"\n"), 0o600)
}

// disclosure says what the configuration permits to tell the membership.
func disclosure(m *polder.Model) regions.Disclosure {
	d := regions.Disclosure{}
	for _, r := range m.Regions {
		d.Regions = append(d.Regions, r.Name)
	}
	d.Permitted = func(name polder.ServiceName, region polder.RegionName) bool {
		s, ok := m.Service(name)
		return ok && law.Permit(s.Residency, m.Regions).Ever(region)
	}
	return d
}

// vitals remember until when each region counts as alive.
type vitals map[polder.RegionName]time.Time

// alive takes in who can serve now, and tells who counts as alive: those, and
// those that could until a moment ago.
func (v vitals) alive(regions []polder.Region, health polder.RegionHealth, now time.Time) polder.RegionHealth {
	alive := polder.RegionHealth{}
	for _, r := range regions {
		if _, seen := v[r.Name]; !seen {
			v[r.Name] = now.Add(bootTakeover)
		}
		if health[r.Name] {
			v[r.Name] = now.Add(takeover)
		}
		alive[r.Name] = now.Before(v[r.Name])
	}
	return alive
}

// self is the peer that looks around.
type self struct {
	peer    string
	region  polder.RegionName
	address string // of its listener for passed-on connections
	policy  string // as the membership has it from this peer
}

// survey joins the map with the membership: who is alive, in which order, where.
// The own region is always alive to itself. A region counts as alive as long as a
// peer of it would serve and does not drain, whatever this peer's own connections
// make of it: the law is not bent for a suspicion. Where to connect to is another
// matter: suspected and draining peers are there for want of others.
func survey(m *polder.Model, me self, snapshot *gossip.Snapshot, v vitals, now time.Time) surroundings {
	s := surroundings{
		peerOf: map[polder.RegionName][]string{}, peerAt: map[string]string{},
		known: map[polder.RegionName][]string{}, regionOf: map[string]polder.RegionName{}, leaving: polder.RegionHealth{},
	}
	able := polder.RegionHealth{}
	spare := map[polder.RegionName][]string{} // for where nobody is usable
	gone := map[polder.RegionName][]string{}  // for where nobody is left, until the law gives the region up
	for _, p := range snapshot.Peers {
		if p.Able && p.Row.Draining {
			s.leaving[p.Row.Region] = true
		} else {
			able[p.Row.Region] = able[p.Row.Region] || p.Able
		}
		if p.Row.Peer == me.peer {
			me.policy, s.draining = p.Row.Policy, p.Row.Draining
			p.Row.Address, p.Able = me.address, true // a gateway is always there for itself
		}
		s.regionOf[p.Row.Peer] = p.Row.Region
		if p.Row.Address == "" || !p.Able {
			if p.Row.Address != "" && p.Standing != regions.Left {
				gone[p.Row.Region] = append(gone[p.Row.Region], p.Row.Address)
			}
			continue
		}
		s.peerAt[p.Row.Peer] = p.Row.Address
		s.known[p.Row.Region] = append(s.known[p.Row.Region], p.Row.Address)
		if p.Usable || p.Row.Peer == me.peer {
			s.peerOf[p.Row.Region] = append(s.peerOf[p.Row.Region], p.Row.Address)
		} else {
			spare[p.Row.Region] = append(spare[p.Row.Region], p.Row.Address)
		}
	}
	for region, addresses := range spare {
		if len(s.peerOf[region]) == 0 {
			s.peerOf[region] = addresses
		}
	}
	for _, p := range snapshot.Peers {
		if p.Row.Policy == me.policy && p.Row.Address != "" {
			s.agreeing = append(s.agreeing, p)
		}
	}
	s.weightOf = weightsOf(snapshot.Peers, now)
	s.health = v.alive(m.Regions, able, now)
	s.health[me.region] = true
	for region, addresses := range gone {
		// Callers are sent there and nowhere else, and try until one is back: Envoy
		// closes a connection at once that has nowhere to go.
		if len(s.peerOf[region]) == 0 && s.health[region] {
			s.peerOf[region], s.known[region] = addresses, addresses
		}
	}
	own, _ := m.Region(me.region)
	s.rank = regions.Order(own.Location, m.Regions, snapshot.View)
	return s
}

// weightsOf gives the shares of the usable peers of each region, by address.
func weightsOf(peers []regions.Peer, now time.Time) map[string]uint32 {
	var weights map[string]uint32
	byRegion := map[polder.RegionName][]regions.Peer{}
	for _, p := range peers {
		if p.Usable {
			byRegion[p.Row.Region] = append(byRegion[p.Row.Region], p)
		}
	}
	for _, list := range byRegion {
		shares := regions.Weights(list, now)
		for _, p := range list {
			if w, weighed := shares[p.Row.Peer]; weighed && p.Row.Address != "" {
				if weights == nil {
					weights = map[string]uint32{}
				}
				weights[p.Row.Address] = w
			}
		}
	}
	return weights
}

// followMembership tells the reconciler whenever the model or the surroundings
// change. The first time is when silence about a region has come to mean
// something; only then a model is brought into force, and r.begun closed.
func (r *Region) followMembership(ctx context.Context) error {
	select {
	case <-r.gossip.Ready():
	case <-ctx.Done():
		return nil
	}
	v, far := vitals{}, distances{}
	look := func() {
		model, policies := r.config.inForce()
		snapshot := r.gossip.Snapshot()
		me := self{peer: r.options.Peer, region: r.options.Region, address: r.peerAddress}
		around := survey(model, me, snapshot, v, time.Now())
		around.rtt = far.measured(snapshot.View.RTT)
		around.others = r.lookForSkew(model, policies, snapshot.Peers)
		r.reconciler.SetWorld(ctx, model, around)
		r.describeWorld(model, snapshot, around)
	}
	look()
	r.publishRow()
	close(r.begun)
	ticker := time.NewTicker(lookAround)
	defer ticker.Stop()
	for {
		select {
		case <-r.gossip.Changes():
		case <-ticker.C:
		case <-r.modelChanged:
			look()
			r.publishRow()
			continue
		case <-ctx.Done():
			return nil
		}
		look()
	}
}

// publishRow tells the membership how this peer is. Called from any goroutine.
func (r *Region) publishRow() {
	r.rowMu.Lock()
	defer r.rowMu.Unlock()
	row := polder.PeerRow{
		Address: r.peerAddress, Healthy: r.healthy, Draining: r.stopping || r.drained.Load(), Warm: r.warm, Busy: r.busy, Load: r.told.most,
		Digest: r.config.Status().Digest, Policy: r.config.policies(),
		Claims: r.claims,
	}
	if err := r.gossip.Publish(row, disclosure(r.config.snapshot())); err != nil {
		r.options.Log.Error("the other peers are not told how this one is", "reason", err)
	}
}

func (r *Region) setWarm(warm []polder.ServiceName) {
	r.rowMu.Lock()
	r.warm = warm
	r.rowMu.Unlock()
	r.publishRow()
}

func (r *Region) setBusy(busy []polder.ServiceName) {
	r.rowMu.Lock()
	r.busy = busy
	r.rowMu.Unlock()
	r.publishRow()
}

// measureLoad is how much of what the peer can hold for services that are not ready
// is taken, in tens of percent: who holds as much as it may answers the next with
// an error.
func (r *Region) measureLoad() uint8 {
	load := uint64(0)
	for _, c := range r.activator.Stats().Classes {
		if c.Budget.Held > 0 {
			load = max(load, uint64(c.Held)*10/uint64(c.Budget.Held))
		}
		if c.Budget.Bytes > 0 {
			load = max(load, uint64(c.Bytes)*10/uint64(c.Budget.Bytes))
		}
	}
	return uint8(min(10, load) * 10)
}

// policyDigest names what a configuration says about who serves whom where. Peers
// with the same one agree on every service.
func policyDigest(m *polder.Model) string {
	sum := sha256.New()
	for _, s := range m.Services {
		fmt.Fprintf(sum, "%s %v %t %v\n", s.Name, s.Run != nil, s.Scale.Min > 0, s.Hosts)
		fmt.Fprintln(sum, Policy(s, m.Regions))
		for _, r := range m.Regions {
			fmt.Fprintln(sum, r.Name, s.Endpoints[r.Name])
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

func (r *Region) setHealthy(healthy bool) {
	measured := r.measureLoad()
	r.rowMu.Lock()
	before := r.told.most
	changed := r.told.measure(measured, time.Now()) != before || r.healthy != healthy
	r.healthy = healthy
	r.rowMu.Unlock()
	if changed {
		r.publishRow()
	}
}

// setStopping tells the others to send nothing more, for this peer ends.
func (r *Region) setStopping() {
	r.rowMu.Lock()
	r.stopping = true
	r.rowMu.Unlock()
	r.publishRow()
}

func (r *Region) peers() []PeerStatus {
	var peers []PeerStatus
	snapshot := r.gossip.Snapshot()
	suspected := map[string]bool{}
	rtts := map[string]time.Duration{}
	for _, p := range snapshot.Peers {
		suspected[p.Row.Peer] = p.Able && !p.Usable && !p.Row.Draining
		rtts[p.Row.Peer] = p.RTT
	}
	for _, row := range snapshot.Observed() {
		peers = append(peers, PeerStatus{Peer: row.Peer, Region: row.Region, Healthy: row.Healthy, Draining: row.Draining, Suspected: suspected[row.Peer], RTT: rtts[row.Peer].Microseconds(),
			Address: row.Address, Load: row.Load, Warm: row.Warm, Busy: row.Busy, Digest: row.Digest, Policy: row.Policy})
	}
	return peers
}

// advertised is the address under which other regions reach a listener: as it
// is when it names a host, and on the machine's name when it listens on all.
func advertised(listen string) (string, error) {
	bind, err := bindAddress(listen)
	if err != nil {
		return "", err
	}
	if !bind.Addr().IsUnspecified() {
		return bind.String(), nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name of this machine, which other regions need to reach it: %w; set the region's peer address to one that they can reach", err)
	}
	return fmt.Sprintf("%s:%d", name, bind.Port()), nil
}
