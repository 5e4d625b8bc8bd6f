package authority

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// LocalTrustDomain is the trust domain of the peers of a local authority.
const LocalTrustDomain = "polder.internal"

// How long certificates live. A certificate is renewed after two thirds of its
// life, so a region that is down for a month comes back with a valid one. A
// root is renewed, with its key and name unchanged, while everything that it
// signed still has most of its life before it.
const (
	rootLife   = 10 * 365 * 24 * time.Hour
	rootMargin = 365 * 24 * time.Hour
	leafLife   = 90 * 24 * time.Hour
	peerLife   = 30 * 24 * time.Hour
	clockSkew  = time.Hour // how far behind a caller's clock may be
)

// The files of the two roots: NAME.pem and NAME-key.pem.
const (
	hostsFile = "root"
	peersFile = "peers"
)

// Authority is the local certificate authority of one machine. Make one with
// Open.
type Authority struct {
	dir    string
	domain spiffeid.TrustDomain
	gossip [][]byte

	mu    sync.Mutex // guards the two below, which are replaced when renewed
	hosts *root
	peers *root
}

// Open opens the authority in dir, and creates what is missing there: the
// folder (0700), both roots and the membership's key (0600). A damaged file is
// an error that names it; it is never overwritten, since people may have
// trusted its certificate.
func Open(dir string) (*Authority, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	a := &Authority{dir: dir, domain: spiffeid.RequireTrustDomainFromString(LocalTrustDomain)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	err = locked(dir, func() error {
		return errors.Join(a.loadRoots(time.Now()), a.loadGossip())
	})
	if err != nil {
		return nil, fmt.Errorf("certificate authority in %s: %w", dir, err)
	}
	return a, nil
}

// Root is the certificate that a client must trust to call the services, in
// PEM. It holds no secret.
func (a *Authority) Root() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hosts.pem()
}

// RootFile is where Root lies on disk, for the hints that people paste.
func (a *Authority) RootFile() string { return filepath.Join(a.dir, hostsFile+".pem") }

// TrustDomain is the SPIFFE trust domain of the peers' identities.
func (a *Authority) TrustDomain() spiffeid.TrustDomain { return a.domain }

// GossipKeys are the membership's keys of 32 bytes: the first encrypts, all
// decrypt.
func (a *Authority) GossipKeys() [][]byte { return cloneKeys(a.gossip) }

// loadRoots reads, creates or renews both roots. The caller holds the folder's lock.
func (a *Authority) loadRoots(now time.Time) error {
	hosts, errHosts := loadRoot(a.dir, rootSpec{
		file:    hostsFile,
		subject: "Polder local authority",
		usages:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, now)
	peers, errPeers := loadRoot(a.dir, rootSpec{
		file:    peersFile,
		subject: "Polder local peers",
		usages:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		id:      a.domain.ID().URL(),
	}, now)
	if err := errors.Join(errHosts, errPeers); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hosts, a.peers = hosts, peers
	return nil
}

// roots returns both roots, renewed where that is due.
func (a *Authority) roots(now time.Time) (hosts, peers *root, err error) {
	a.mu.Lock()
	hosts, peers = a.hosts, a.peers
	a.mu.Unlock()
	if !hosts.due(now) && !peers.due(now) {
		return hosts, peers, nil
	}
	if err := locked(a.dir, func() error { return a.loadRoots(now) }); err != nil {
		return nil, nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hosts, a.peers, nil
}
