package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// survey joins the map with the membership: who is alive, in which order, where.
// The own region is always alive to itself.
func survey(m *polder.Model, here polder.RegionName, snapshot *gossip.Snapshot, v vitals, now time.Time) surroundings {
	s := surroundings{
		health: v.alive(m.Regions, snapshot.View.Health, now),
		peerOf: map[polder.RegionName][]string{},
	}
	s.health[here] = true
	own, _ := m.Region(here)
	s.rank = regions.Order(own.Location, m.Regions, snapshot.View)
	for _, row := range snapshot.Observed() {
		if row.Region != here && row.Healthy && !row.Draining {
			s.peerOf[row.Region] = append(s.peerOf[row.Region], row.Address)
		}
	}
	return s
}

// followMembership tells the reconciler whenever the surroundings change. The
// first time is when silence about a region has come to mean something; only
// then the model is brought into force, and r.begun closed.
func (r *Region) followMembership(ctx context.Context) error {
	select {
	case <-r.gossip.Ready():
	case <-ctx.Done():
		return nil
	}
	v := vitals{}
	look := func() {
		model, snapshot := r.config.snapshot(), r.gossip.Snapshot()
		around := survey(model, r.options.Region, snapshot, v, time.Now())
		r.reconciler.SetSurroundings(ctx, around)
		r.describeWorld(model, snapshot, around)
	}
	look()
	r.reconciler.SetModel(ctx, r.config.snapshot())
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
			r.reconciler.SetModel(ctx, r.config.snapshot())
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
		Address: r.peerAddress, Healthy: r.healthy, Draining: r.draining, Warm: r.warm,
		Digest: r.config.Status().Digest,
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

func (r *Region) setHealthy(healthy bool) {
	r.rowMu.Lock()
	changed := r.healthy != healthy
	r.healthy = healthy
	r.rowMu.Unlock()
	if changed {
		r.publishRow()
	}
}

// setDraining tells the others to send nothing more.
func (r *Region) setDraining() {
	r.rowMu.Lock()
	r.draining = true
	r.rowMu.Unlock()
	r.publishRow()
}

func (r *Region) peers() []PeerStatus {
	var peers []PeerStatus
	for _, row := range r.gossip.Snapshot().Observed() {
		peers = append(peers, PeerStatus{Peer: row.Peer, Region: row.Region, Healthy: row.Healthy,
			Address: row.Address, Warm: row.Warm, Digest: row.Digest})
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
