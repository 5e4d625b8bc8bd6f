package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/xds"
)

// keyring holds the certificates and keys of the services that this gateway
// serves, and of no others, and gives them to Envoy by the name in a
// ClientHello. Safe for concurrent use.
type keyring struct {
	issuer *authority.Issuer

	holding sync.Mutex // held while the sets change; taken before mu

	mu       sync.RWMutex
	sets     map[polder.ServiceName][]polder.Host
	pairs    map[polder.ServiceName]authority.Pair
	owner    map[string]polder.ServiceName // by host, wildcards as written
	identity authority.Identity
}

func newKeyring(issuer *authority.Issuer) *keyring { return &keyring{issuer: issuer} }

// Hold implements certificates: a certificate per service, for all its hosts.
// It reuses what is valid and not due, and forgets all others.
func (k *keyring) Hold(ctx context.Context, sets map[polder.ServiceName][]polder.Host) map[polder.ServiceName]error {
	k.holding.Lock()
	defer k.holding.Unlock()
	return k.hold(sets)
}

// Change implements certificates: it holds these services' hosts as well, or
// instead of what it held for them, and none for those that are gone.
func (k *keyring) Change(ctx context.Context, sets map[polder.ServiceName][]polder.Host, gone []polder.ServiceName) map[polder.ServiceName]error {
	k.holding.Lock()
	defer k.holding.Unlock()
	faults := map[polder.ServiceName]error{}
	pairs := map[polder.ServiceName]authority.Pair{}
	for name, hosts := range sets {
		k.mu.RLock()
		before, held := k.sets[name]
		pair := k.pairs[name]
		k.mu.RUnlock()
		if held = held && len(pair.CertPEM) > 0 && reflect.DeepEqual(before, hosts) && time.Now().Before(pair.RenewAt()); held {
			pairs[name] = pair
			continue
		}
		pair, err := k.issuer.Leaf(hosts)
		if err != nil {
			faults[name] = err
			continue
		}
		pairs[name] = pair
	}
	for _, hosts := range k.exchange(sets, pairs, gone) {
		if err := k.issuer.Forget(hosts); err != nil {
			faults[""] = err
		}
	}
	return faults
}

// exchange brings a change into force and lists the sets of hosts that nobody has now.
func (k *keyring) exchange(sets map[polder.ServiceName][]polder.Host, pairs map[polder.ServiceName]authority.Pair, gone []polder.ServiceName) (outdated [][]polder.Host) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sets == nil {
		k.sets, k.pairs, k.owner = map[polder.ServiceName][]polder.Host{}, map[polder.ServiceName]authority.Pair{}, map[string]polder.ServiceName{}
	}
	drop := func(name polder.ServiceName, now []polder.Host) {
		before, held := k.sets[name]
		if held && !reflect.DeepEqual(before, now) {
			outdated = append(outdated, before)
		}
		for _, host := range before {
			if k.owner[string(host)] == name {
				delete(k.owner, string(host))
			}
		}
		delete(k.sets, name)
		delete(k.pairs, name)
	}
	for _, name := range gone {
		drop(name, nil)
	}
	for name, hosts := range sets {
		drop(name, hosts)
	}
	for name, hosts := range sets {
		k.sets[name] = hosts
		if pair, ok := pairs[name]; ok {
			k.pairs[name] = pair
			for _, host := range hosts {
				k.owner[string(host)] = name
			}
		}
		outdated = slices.DeleteFunc(outdated, func(set []polder.Host) bool { return sameHosts(set, hosts) })
	}
	return outdated
}

// sameHosts tells whether two sets have the same certificate.
func sameHosts(a, b []polder.Host) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

func (k *keyring) hold(sets map[polder.ServiceName][]polder.Host) map[polder.ServiceName]error {
	faults := map[polder.ServiceName]error{}
	k.mu.RLock()
	before, beforePairs := k.sets, k.pairs
	k.mu.RUnlock()
	pairs := make(map[polder.ServiceName]authority.Pair, len(sets))
	owner := map[string]polder.ServiceName{}
	now := time.Now()
	for name, hosts := range sets {
		pair, ok := beforePairs[name]
		if !ok || !reflect.DeepEqual(before[name], hosts) || !now.Before(pair.RenewAt()) {
			var err error
			if pair, err = k.issuer.Leaf(hosts); err != nil {
				faults[name] = err
				continue
			}
		}
		pairs[name] = pair
		for _, host := range hosts {
			owner[string(host)] = name
		}
	}
	k.mu.Lock()
	k.sets, k.pairs, k.owner = sets, pairs, owner
	k.mu.Unlock()
	if !reflect.DeepEqual(before, sets) {
		keep := make([][]polder.Host, 0, len(sets))
		for _, hosts := range sets {
			keep = append(keep, hosts)
		}
		if _, err := k.issuer.Keep(keep); err != nil {
			faults[""] = err
		}
	}
	return faults
}

// renew replaces the certificates that are due.
func (k *keyring) renew(ctx context.Context) error {
	k.holding.Lock()
	defer k.holding.Unlock()
	k.mu.RLock()
	sets := maps.Clone(k.sets)
	k.mu.RUnlock()
	var faults []error
	for _, err := range k.hold(sets) {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

func (k *keyring) trustDomain() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.identity.ID.TrustDomain().Name()
}

func (k *keyring) setIdentity(i authority.Identity) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.identity = i
}

// Sign and Verify are the membership's: rows are signed with the peer's identity
// as it is at that moment.
func (k *keyring) Sign(message []byte) (certificate, signature []byte, err error) {
	return k.peerIdentity().Sign(message)
}

func (k *keyring) Verify(certificate, signature, message []byte) (peer string, region polder.RegionName, err error) {
	return k.peerIdentity().Verify(certificate, signature, message)
}

func (k *keyring) peerIdentity() authority.Identity {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.identity
}

// Secret resolves the name of a secret: the peers' identity and trust, or a
// host as a caller wrote it in the ClientHello.
func (k *keyring) Secret(name string) (xds.Resource, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	switch name {
	case xds.SecretIdentity:
		return xds.Certificate(name, k.identity.CertPEM, k.identity.KeyPEM), len(k.identity.CertPEM) > 0
	case xds.SecretTrust:
		return xds.Trust(name, k.identity.TrustPEM), len(k.identity.TrustPEM) > 0
	}
	service, ok := k.serviceOf(name)
	pair := k.pairs[service]
	if !ok || len(pair.KeyPEM) == 0 {
		return xds.Resource{}, false
	}
	return xds.Certificate(name, pair.CertPEM, pair.KeyPEM), true
}

// serviceOf finds whose key a secret is: by the service's name for one that
// stays, by a host for one on demand.
func (k *keyring) serviceOf(secret string) (polder.ServiceName, bool) {
	if name, ok := strings.CutPrefix(secret, xds.ResidentSecrets); ok {
		_, held := k.pairs[polder.ServiceName(name)]
		return polder.ServiceName(name), held
	}
	return k.lookup(canonicalHost(secret))
}

// owns tells whose host a name in a ClientHello is.
func (k *keyring) owns(name string) (polder.ServiceName, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.lookup(canonicalHost(name))
}

// certificate identifies the certificate that belongs to the name of a secret:
// its service, "" for the peer's own, and the SHA-256 of its chain.
func (k *keyring) certificate(name string) (polder.ServiceName, string) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	service, chain := polder.ServiceName(""), k.identity.CertPEM
	if name != xds.SecretIdentity {
		if owner, ok := k.serviceOf(name); ok {
			service, chain = owner, k.pairs[owner].CertPEM
		}
	}
	sum := sha256.Sum256(chain)
	return service, hex.EncodeToString(sum[:])
}

// lookup finds the owner of a host.
func (k *keyring) lookup(host string) (polder.ServiceName, bool) {
	return mostSpecific(host, func(name string) (polder.ServiceName, bool) {
		service, ok := k.owner[name]
		return service, ok
	})
}
