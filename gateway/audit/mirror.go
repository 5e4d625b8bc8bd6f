package audit

import (
	"fmt"
	"maps"
	"sync"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/dump"
	"github.com/polder/polder/xds/proof"
)

// minPast is how many superseded versions are remembered at least.
const minPast = 4096

// Mirror remembers what was published, and what it replaced lately.
type Mirror struct {
	mu        sync.Mutex // guards all below
	sequence  uint64     // of publications
	now       map[xds.Key]version
	lines     lineSet            // of now
	past      map[pastKey]string // digests of superseded versions
	order     []pastKey          // of past, oldest first
	instances map[polder.ServiceName][]polder.Endpoint
	book      *proof.Book
}

// version is a published version of a resource.
type version struct{ version, digest string }

type pastKey struct {
	xds.Key
	version string
}

// NewMirror makes a Mirror of a gate that has published nothing yet.
func NewMirror(book *proof.Book) *Mirror {
	return &Mirror{
		now: map[xds.Key]version{}, past: map[pastKey]string{},
		instances: map[polder.ServiceName][]polder.Endpoint{}, book: book,
	}
}

// Publish takes in what was proved and published. instances are those of the
// services named; book may be nil for the same as before.
func (m *Mirror) Publish(set []xds.Resource, remove []xds.Key, instances map[polder.ServiceName][]polder.Endpoint, book *proof.Book) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sequence++
	for _, r := range set {
		digest, err := dump.Digest(r)
		if err != nil {
			digest = r.Version // nothing in a dump will equal it
		}
		m.supersede(r.Key)
		m.now[r.Key] = version{r.Version, digest}
		m.lines.add(line(r.Key, digest))
	}
	for _, k := range remove {
		m.supersede(k)
		delete(m.now, k)
	}
	for service, list := range instances {
		if len(list) == 0 {
			delete(m.instances, service)
		} else {
			m.instances[service] = list
		}
	}
	if book != nil {
		m.book = book
	}
}

// supersede remembers the version that is about to be replaced.
func (m *Mirror) supersede(k xds.Key) {
	old, ok := m.now[k]
	if !ok {
		return
	}
	m.lines.remove(line(k, old.digest))
	key := pastKey{k, old.version}
	if _, known := m.past[key]; !known {
		m.past[key] = old.digest
		m.order = append(m.order, key)
	}
	for len(m.order) > max(minPast, 2*len(m.now)) {
		delete(m.past, m.order[0])
		m.order = m.order[1:]
	}
}

// Digest names everything that is published: equal digests, equal snapshots.
func (m *Mirror) Digest() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lines.digest()
}

// line is what of a resource goes into the digest of a snapshot.
func line(k xds.Key, digest string) string { return fmt.Sprintf("%q %q %s\n", k.Type, k.Name, digest) }

// expectation is what an Envoy may be found with.
type expectation struct {
	sequence  uint64
	now       map[xds.Key]version
	past      map[xds.Key][]version
	instances map[polder.ServiceName][]polder.Endpoint
	book      *proof.Book
}

func (m *Mirror) look() expectation {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := expectation{m.sequence, maps.Clone(m.now), map[xds.Key][]version{}, maps.Clone(m.instances), m.book}
	for k, digest := range m.past {
		e.past[k.Key] = append(e.past[k.Key], version{k.version, digest})
	}
	return e
}

// digest finds the digest of a version that was published at some time.
func (e expectation) digest(k xds.Key, name string) (string, bool) {
	if v, ok := e.now[k]; ok && v.version == name {
		return v.digest, true
	}
	for _, v := range e.past[k] {
		if v.version == name {
			return v.digest, true
		}
	}
	return "", false
}

// published tells whether a resource was ever published with that digest, and
// whether it was at all.
func (e expectation) published(k xds.Key, digest string) (same, name bool) {
	if v, ok := e.now[k]; ok {
		name, same = true, v.digest == digest
	}
	for _, v := range e.past[k] {
		name, same = true, same || v.digest == digest
	}
	return same, name
}
