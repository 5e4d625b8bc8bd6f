package gateway

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/polder/polder"
)

// maxSocketPath is what fits into a Unix socket's address on Linux, the closing
// zero byte excluded.
const maxSocketPath = 107

// peersDir is where a region's peers but the first have their folders.
const peersDir = "peers"

// Layout says where one peer keeps its files. Everything of a region lies under
// its own folder, so that what must not leave a region can be kept and removed as
// a whole: the region's first peer in that folder, any other below it.
type Layout struct {
	State  string // absolute; shared by the regions of one machine
	Region polder.RegionName
	Peer   string // "" for the region's first one, REGION-1
}

// NewLayout makes the state folder's path absolute.
func NewLayout(state string, region polder.RegionName) (Layout, error) {
	absolute, err := filepath.Abs(state)
	if err != nil {
		return Layout{}, fmt.Errorf("state folder %s: %w", state, err)
	}
	return Layout{State: absolute, Region: region}, nil
}

// Of is the layout of one of the region's peers.
func (l Layout) Of(peer string) Layout {
	l.Peer = peer
	if peer == FirstPeer(l.Region) {
		l.Peer = ""
	}
	return l
}

// FirstPeer names the peer that a region has when nobody names it.
func FirstPeer(region polder.RegionName) string { return string(region) + "-1" }

// Name tells the peer from the others of the same state folder: the region's
// name for its first peer, and the peer's own for the others.
func (l Layout) Name() string { return cmp.Or(l.Peer, string(l.Region)) }

// Authority is the folder of the local certificate authority.
func (l Layout) Authority() string { return filepath.Join(l.State, "authority") }

// RootFile is the certificate of the local authority, PEM, for callers to trust.
func (l Layout) RootFile() string { return filepath.Join(l.Authority(), "root.pem") }

// Dir is the peer's own folder, which is the region's for its first peer.
func (l Layout) Dir() string {
	region := filepath.Join(l.State, "regions", string(l.Region))
	if l.Peer == "" {
		return region
	}
	return filepath.Join(region, peersDir, l.Peer)
}

// Certificates is where the region's own keys lie.
func (l Layout) Certificates() string { return filepath.Join(l.Dir(), "certificates") }

// Envoy is where the region's Envoy keeps its record, bootstrap and log.
func (l Layout) Envoy() string { return filepath.Join(l.Dir(), "envoy") }

// Instances is where the region's instances keep their records and logs.
func (l Layout) Instances() string { return filepath.Join(l.Dir(), "instances") }

// Processes is where the records of instances that run as processes lie.
func (l Layout) Processes() string { return filepath.Join(l.Dir(), "processes") }

// AccessLog is where Envoy notes the requests of services whose policy permits it.
func (l Layout) AccessLog() string { return filepath.Join(l.Dir(), "access.log") }

// Ejections is where Envoy notes the addresses that it gives up for a while.
func (l Layout) Ejections() string { return filepath.Join(l.Envoy(), "ejections.log") }

// Learned is the file of what the predictor knows of callers' rhythms.
func (l Layout) Learned() string { return filepath.Join(l.Dir(), "learned.gob") }

// Scores holds what shadows scored.
func (l Layout) Scores() string { return filepath.Join(l.Dir(), "scores.gob") }

// Books is the file of what services have spent, and of their calls by the minute.
func (l Layout) Books() string { return filepath.Join(l.Dir(), "books") }

// LastGood is where the region keeps the configuration that it last accepted.
func (l Layout) LastGood() string { return filepath.Join(l.Dir(), "last-good") }

// Accepted is the file of the resources that Envoy accepted last.
func (l Layout) Accepted() string { return filepath.Join(l.LastGood(), "accepted") }

// AcceptedRemote is the file of those that Envoys on other machines accepted last.
func (l Layout) AcceptedRemote() string { return filepath.Join(l.LastGood(), "accepted-remote") }

// Ledger is where the region keeps its ledger.
func (l Layout) Ledger() string { return filepath.Join(l.Dir(), "ledger") }

// Runtime is the folder of the region's sockets: below the state folder, or,
// where that path is too long for a socket, in a private folder of the
// system's temporary one.
func (l Layout) Runtime() string {
	dir := filepath.Join(l.Dir(), "run")
	if len(filepath.Join(dir, "activator.sock")) <= maxSocketPath {
		return dir
	}
	sum := sha256.Sum256([]byte(l.Dir()))
	return filepath.Join(os.TempDir(), "polder-"+strconv.Itoa(os.Getuid())+"-"+hex.EncodeToString(sum[:6]))
}

// ControlPlane is the socket on which Envoy finds Polder.
func (l Layout) ControlPlane() string { return filepath.Join(l.Runtime(), "xds.sock") }

// Admin is the socket on which Polder finds Envoy's admin interface.
func (l Layout) Admin() string { return filepath.Join(l.Runtime(), "admin.sock") }

// Activator is the socket to which Envoy sends requests without an instance.
func (l Layout) Activator() string { return filepath.Join(l.Runtime(), "activator.sock") }

// API is the socket of the region's own interface for commands.
func (l Layout) API() string { return filepath.Join(l.Runtime(), "api.sock") }

// Keeper is where the keeper of the region's listening sockets has its record.
func (l Layout) Keeper() string { return filepath.Join(l.Dir(), "keeper") }

// Sockets is the socket on which Polder finds the keeper.
func (l Layout) Sockets() string { return filepath.Join(l.Runtime(), "sockets.sock") }

// Make creates the folders, for the owner only.
func (l Layout) Make() error {
	for _, dir := range []string{l.State, l.Dir(), l.Runtime(), l.Envoy(), l.Instances(), l.LastGood(), l.Keeper()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("region %s: state folder: %w; choose another with --state", l.Region, err)
		}
	}
	info, err := os.Stat(l.Runtime())
	if err != nil {
		return fmt.Errorf("region %s: folder of sockets: %w", l.Region, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("region %s: folder of sockets %s is open to others (mode %#o): remove it, or choose another state folder with --state",
			l.Region, l.Runtime(), info.Mode().Perm())
	}
	return nil
}

// hasFirst tells whether the region's folder is that of its first peer too, and
// not only of others: each may be on a machine of its own.
func hasFirst(l Layout) (bool, error) {
	entries, err := os.ReadDir(l.Dir())
	if err != nil {
		return false, fmt.Errorf("region %s: %w", l.Region, err)
	}
	return len(entries) != 1 || entries[0].Name() != peersDir, nil
}

// Regions lists the peers that have a folder below the state folder, by region.
func Regions(state string) ([]Layout, error) {
	entries, err := os.ReadDir(filepath.Join(state, "regions"))
	if err != nil {
		return nil, fmt.Errorf("no region has ever run with the state folder %s (%w): start one with polder up or polder run, or name another folder with --state", state, err)
	}
	var layouts []Layout
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		l, err := NewLayout(state, polder.RegionName(e.Name()))
		if err != nil {
			return nil, err
		}
		if first, err := hasFirst(l); err != nil {
			return nil, err
		} else if first {
			layouts = append(layouts, l)
		}
		others, err := os.ReadDir(filepath.Join(l.Dir(), peersDir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("peers of region %s: %w", l.Region, err)
		}
		for _, peer := range others {
			if peer.IsDir() {
				layouts = append(layouts, l.Of(peer.Name()))
			}
		}
	}
	return layouts, nil
}
