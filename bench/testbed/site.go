//go:build linux

package testbed

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/authority"
)

// poll is how often the peers are asked how they are.
const poll = 100 * time.Millisecond

// Site is a world of regions.
type Site struct {
	Peers []*Peer // by region, then by number
	// Roots are what callers trust.
	Roots *x509.CertPool

	options Options
	weather *weather
	router  *router
	rooms   []*room
}

// New makes the network, the folders and the configuration of a site. It starts
// no process.
func New(o Options) (_ *Site, err error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("test bed: %w", err)
	}
	s := &Site{options: o, weather: newWeather(o.Delays, o.Seed)}
	s.router = newRouter(s.weather)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("test bed: %w", err), s.close())
		}
	}()
	if err := s.settle(); err != nil {
		return nil, err
	}
	ca, err := authority.Open(filepath.Join(o.Dir, "authority"))
	if err != nil {
		return nil, err
	}
	s.Roots = x509.NewCertPool()
	s.Roots.AppendCertsFromPEM(ca.Root())
	for i, place := range places {
		for n := range o.Peers {
			p, err := s.makePeer(place.name, i+1, n+1)
			if err != nil {
				return nil, fmt.Errorf("peer %d of %s: %w", n+1, place.name, err)
			}
			s.Peers = append(s.Peers, p)
		}
	}
	for _, p := range s.Peers {
		for _, other := range s.Peers {
			if other != p {
				p.args = append(p.args, "--join", other.Address.String()+":7946")
			}
		}
	}
	return s, nil
}

// settle gives the callers, who are in this process, an address in each region.
func (s *Site) settle() error {
	var addresses []netip.Addr
	for i := range places {
		addresses = append(addresses, addressOf(i+1, callerAt))
	}
	home, err := newRoom(true, addresses...)
	if err != nil {
		return err
	}
	s.rooms = append(s.rooms, home)
	for i, a := range addresses {
		s.router.attach(a, end{name: "callers-" + string(places[i].name), region: string(places[i].name), caller: true}, home.wan)
	}
	return nil
}

func (s *Site) makePeer(region polder.RegionName, i, n int) (*Peer, error) {
	name := fmt.Sprintf("%s-%d", region, n)
	dir := filepath.Join(s.options.Dir, name)
	at := addressOf(i, n)
	layout, err := gateway.NewLayout(filepath.Join(dir, "s"), region)
	if err != nil {
		return nil, err
	}
	layout = layout.Of(name)
	if err := os.MkdirAll(layout.State, 0o700); err != nil {
		return nil, err
	}
	if s.options.Disks {
		if err := makeDisk(layout.State); err != nil {
			return nil, err
		}
	}
	if err := os.CopyFS(layout.Authority(), os.DirFS(filepath.Join(s.options.Dir, "authority"))); err != nil {
		return nil, err
	}
	if err := private(layout.State); err != nil {
		return nil, err
	}
	r, err := newRoom(false, at)
	if err != nil {
		return nil, err
	}
	s.rooms = append(s.rooms, r)
	s.router.attach(at, end{name: name, region: string(region)}, r.wan)
	p := &Peer{
		Name: name, Region: region, Address: at, Layout: layout, dir: dir, config: filepath.Join(dir, "polder.yaml"), room: r,
		log: func(format string, values ...any) { fmt.Fprintf(s.options.Log, format+"\n", values...) }, released: make(chan struct{}, 1),
	}
	p.args = []string{
		"run", "--region", string(region), "--name", name, "--config", p.config, "--state", layout.State, "--tools", s.options.Tools,
		"--https", at.String() + ":443", "--http", at.String() + ":80", "--peer", at.String() + ":7443",
		"--gossip", at.String() + ":7946", "--dns", at.String() + ":53",
	}
	return p, p.WriteConfig(s.options.Config(s.options.Services))
}

// private lets only the owner read what was copied.
func private(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
}

// Run runs the network and all peers until ctx ends, and stops them in order. Its
// error tells which of them did not stop as they should.
func (s *Site) Run(ctx context.Context) error {
	network, cut := context.WithCancel(context.WithoutCancel(ctx))
	carrying := make(chan error, 1)
	go func() { carrying <- s.router.run(network) }()
	group, inner := errgroup.WithContext(ctx)
	for _, p := range s.Peers {
		group.Go(func() error { return p.keep(inner, s.options.Polder, s.options.RestartAfter) })
	}
	err := group.Wait()
	cut()
	return errors.Join(err, s.close(), <-carrying)
}

func (s *Site) close() error {
	var faults []error
	for _, r := range s.rooms {
		faults = append(faults, r.close())
	}
	s.rooms = nil
	return errors.Join(faults...)
}

// Shape lets links be in force until the returned function is called.
func (s *Site) Shape(links ...Link) (clear func()) { return s.weather.set(links) }

// Region lists the peers of a region.
func (s *Site) Region(name polder.RegionName) []*Peer {
	var list []*Peer
	for _, p := range s.Peers {
		if p.Region == name {
			list = append(list, p)
		}
	}
	return list
}

// Dial opens connections as a caller in a region does.
func (s *Site) Dial(region polder.RegionName) func(ctx context.Context, network, address string) (net.Conn, error) {
	from := netip.Addr{}
	for i, p := range places {
		if p.name == region {
			from = addressOf(i+1, callerAt)
		}
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		if strings.HasPrefix(network, "udp") {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
		}
		return d.DialContext(ctx, network, address)
	}
}

// Await waits until every peer sees every other in good health, follows its
// configuration, and has an Envoy that took everything; or until ctx ends, and
// then tells what is missing.
func (s *Site) Await(ctx context.Context) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		missing := s.missing(ctx)
		if missing == "" {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("not all is well: %s: %w", missing, ctx.Err())
		}
	}
}

// missing says what is not well, or nothing.
func (s *Site) missing(ctx context.Context) string {
	for _, p := range s.Peers {
		status, err := p.Status(ctx)
		if err != nil {
			return fmt.Sprintf("%s does not tell how it is: %v", p.Name, err)
		}
		healthy := map[string]bool{}
		for _, other := range status.Peers {
			healthy[other.Peer] = other.Healthy
		}
		for _, other := range s.Peers {
			if !healthy[other.Name] {
				return fmt.Sprintf("%s does not see %s in good health", p.Name, other.Name)
			}
		}
		if fault := unaccepted(status); fault != "" {
			return p.Name + ": " + fault
		}
	}
	return ""
}

// unaccepted tells what a peer's Envoy has not taken.
func unaccepted(status gateway.Status) string {
	if len(status.Config.Faults) > 0 {
		return "configuration: " + status.Config.Faults[0].Error()
	}
	if len(status.Refused) > 0 {
		return "the proof refuses: " + status.Refused[0]
	}
	listens := false
	for _, node := range status.Nodes {
		if len(node.Rejections) > 0 {
			return fmt.Sprintf("Envoy rejects %+v", node.Rejections[0])
		}
		for _, t := range node.Types {
			listens = listens || strings.HasSuffix(t.Type, "Listener") && t.Accepted > 0
			if t.Pending > 0 {
				return "Envoy has still to accept " + t.Type
			}
		}
	}
	if !listens {
		return "Envoy does not listen"
	}
	return ""
}
