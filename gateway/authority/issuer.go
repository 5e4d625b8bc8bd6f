package authority

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Issuer issues certificates for one region and keeps their keys below that
// region's own folder. Make one with Authority.Issuer.
type Issuer struct {
	authority *Authority
	region    polder.RegionName
	dir       string
}

// Identity is what a peer needs for mTLS with other peers.
type Identity struct {
	Pair
	ID       spiffeid.ID
	TrustPEM []byte // the root that vouches for all peers
}

// Issuer opens the region's folder for certificates, and creates it (0700) when
// it is missing. A folder that another region has used is refused: it would
// hold keys that must not leave that region.
func (a *Authority) Issuer(region polder.RegionName, dir string) (*Issuer, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("certificates of region %s: %w", region, err)
	}
	for _, sub := range []string{dir, filepath.Join(dir, "hosts"), filepath.Join(dir, "peers")} {
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return nil, fmt.Errorf("certificates of region %s: %w", region, err)
		}
	}
	if err := locked(dir, func() error { return claim(dir, region) }); err != nil {
		return nil, fmt.Errorf("certificates of region %s: %w", region, err)
	}
	return &Issuer{authority: a, region: region, dir: dir}, nil
}

// claim marks the folder as the region's, unless it is another's.
func claim(dir string, region polder.RegionName) error {
	file := filepath.Join(dir, "region")
	owner, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return writeFile(file, []byte(region), 0o600)
	case err != nil:
		return err
	case string(owner) != string(region):
		return fmt.Errorf("folder %s belongs to region %s: give each region a folder of its own", dir, owner)
	}
	return nil
}

// Leaf returns a certificate that names exactly these hosts, wildcards
// included, in whatever order they are given. It comes from the region's folder
// while it is valid and not due, and is issued anew otherwise.
func (i *Issuer) Leaf(hosts []polder.Host) (Pair, error) {
	if len(hosts) == 0 {
		return Pair{}, fmt.Errorf("certificate in region %s: no host given", i.region)
	}
	names := sortedNames(hosts)
	now := time.Now()
	root, _, err := i.authority.roots(now)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate for %v in region %s: %w", names, i.region, err)
	}
	template := &x509.Certificate{DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	pair, err := i.obtain(i.leafFile(names), root, template, leafLife, now)
	if err != nil {
		return Pair{}, fmt.Errorf("certificate for %v in region %s: %w", names, i.region, err)
	}
	return pair, nil
}

// Peer returns the identity of one of the region's peers.
func (i *Issuer) Peer(peer string) (Identity, error) {
	id, err := PeerID(i.authority.domain, i.region, peer)
	if err != nil {
		return Identity{}, err
	}
	now := time.Now()
	_, root, err := i.authority.roots(now)
	if err != nil {
		return Identity{}, fmt.Errorf("identity of peer %s: %w", peer, err)
	}
	pair, err := i.obtain(filepath.Join(i.dir, "peers", fileName(peer)), root, identityTemplate(id), peerLife, now)
	if err != nil {
		return Identity{}, fmt.Errorf("identity of peer %s: %w", peer, err)
	}
	return Identity{Pair: pair, ID: id, TrustPEM: root.pem()}, nil
}

// Node returns the identity of one of the region's Envoys on other machines.
func (i *Issuer) Node(node string) (Identity, error) {
	id, err := NodeID(i.authority.domain, i.region, node)
	if err != nil {
		return Identity{}, err
	}
	return i.remote("node "+node, id, identityTemplate(id))
}

// Client returns the identity of one of the programs that call the region's
// services without an Envoy. Nobody takes it for a server's.
func (i *Issuer) Client(name string) (Identity, error) {
	id, err := ClientID(i.authority.domain, i.region, name)
	if err != nil {
		return Identity{}, err
	}
	template := identityTemplate(id)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return i.remote("client "+name, id, template)
}

// remote is the identity of somebody on another machine.
func (i *Issuer) remote(who string, id spiffeid.ID, template *x509.Certificate) (Identity, error) {
	now := time.Now()
	_, root, err := i.authority.roots(now)
	if err != nil {
		return Identity{}, fmt.Errorf("identity of %s: %w", who, err)
	}
	pair, err := i.obtain(filepath.Join(i.dir, "peers", fileName(id.String())), root, template, peerLife, now)
	if err != nil {
		return Identity{}, fmt.Errorf("identity of %s: %w", who, err)
	}
	return Identity{Pair: pair, ID: id, TrustPEM: root.pem()}, nil
}

// Door issues a peer's identity that also carries the name by which somebody
// looks for it: an IP address or a DNS name. Clients that know hosts only, and
// no SPIFFE IDs, recognise the peer by it. It is written nowhere.
func (i *Issuer) Door(peer, name string) (Pair, error) {
	id, err := PeerID(i.authority.domain, i.region, peer)
	if err != nil {
		return Pair{}, err
	}
	now := time.Now()
	_, root, err := i.authority.roots(now)
	if err != nil {
		return Pair{}, fmt.Errorf("identity of peer %s as %s: %w", peer, name, err)
	}
	template := identityTemplate(id)
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	return root.issue(template, peerLife, now)
}

func identityTemplate(id spiffeid.ID) *x509.Certificate {
	return &x509.Certificate{
		URIs:        []*url.URL{id.URL()},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// Keep removes the keys of all hosts but these sets from the region's folder,
// each set as it was given to Leaf, and tells how many it removed. Call it when
// services have left the region.
func (i *Issuer) Keep(sets [][]polder.Host) (removed int, err error) {
	wanted := make(map[string]bool, len(sets))
	for _, hosts := range sets {
		wanted[i.leafFile(sortedNames(hosts))] = true
	}
	err = locked(i.dir, func() error {
		files, err := filepath.Glob(filepath.Join(i.dir, "hosts", "*.pem"))
		if err != nil {
			return err
		}
		for _, file := range files {
			if wanted[file] {
				continue
			}
			if err := os.Remove(file); err != nil {
				return err
			}
			removed++
		}
		return nil
	})
	if err != nil {
		return removed, fmt.Errorf("remove unused certificates of region %s: %w", i.region, err)
	}
	return removed, nil
}

// Forget removes the key of one set of hosts, given as it was to Leaf, from the
// region's folder. It is no error if there is none.
func (i *Issuer) Forget(hosts []polder.Host) error {
	names := sortedNames(hosts)
	err := locked(i.dir, func() error {
		if err := os.Remove(i.leafFile(names)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove the certificate for %v of region %s: %w", names, i.region, err)
	}
	return nil
}

// obtain returns the pair in the file, or issues one into it.
func (i *Issuer) obtain(file string, root *root, template *x509.Certificate, life time.Duration, now time.Time) (Pair, error) {
	if pair, ok := usable(file, root, template, now); ok {
		return pair, nil
	}
	var pair Pair
	err := locked(i.dir, func() error {
		var ok bool
		if pair, ok = usable(file, root, template, now); ok { // another process was faster
			return nil
		}
		var err error
		if pair, err = root.issue(template, life, now); err != nil {
			return err
		}
		return writeFile(file, slices.Concat(pair.CertPEM, pair.KeyPEM), 0o600)
	})
	return pair, err
}

// usable reads a pair that was issued before, and tells whether it can still
// serve: made by this root, for these names, and not due. Whatever is wrong
// with it, issuing anew mends it.
func usable(file string, root *root, template *x509.Certificate, now time.Time) (Pair, bool) {
	text, err := readSecret(file)
	if err != nil {
		return Pair{}, false
	}
	cert, rest := pem.Decode(text)
	if cert == nil {
		return Pair{}, false
	}
	pair, err := newPair(bytes.Clone(text[:len(text)-len(rest)]), bytes.Clone(rest))
	if err != nil || pair.leaf.CheckSignatureFrom(root.cert) != nil {
		return Pair{}, false
	}
	sameURIs := slices.EqualFunc(pair.leaf.URIs, template.URIs, func(a, b *url.URL) bool { return a.String() == b.String() })
	if !slices.Equal(pair.leaf.DNSNames, template.DNSNames) || !sameURIs {
		return Pair{}, false
	}
	return pair, !now.Before(pair.NotBefore) && now.Before(pair.RenewAt())
}

// leafFile is where the certificate for these sorted names lies.
func (i *Issuer) leafFile(names []string) string {
	var all []byte
	for _, name := range names {
		all = append(append(all, name...), '\n')
	}
	return filepath.Join(i.dir, "hosts", fileName(string(all)))
}

// fileName turns any name into one of a fixed length that is safe in a folder.
func fileName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16]) + ".pem"
}

func sortedNames(hosts []polder.Host) []string {
	names := make([]string, len(hosts))
	for i, host := range hosts {
		names[i] = string(host)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
