package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// clientPlane is what programs that call without an Envoy get. It is made of the
// law's verdicts, as what Envoys get is, and proved by itself, against a book of its
// own: gRPC understands other things than Envoy does. It belongs to the reconciler's
// goroutine.
type clientPlane struct {
	// Fixed after construction.
	clients   xds.Clients
	publisher interface {
		Apply(set []xds.Resource, remove []xds.Key) int
	}
	listed func(names []string) // told of the clients before what they get is published
	hosts  *directory

	names     []string    // of the clients
	book      *proof.Book // in force; nil before the first
	checker   *proof.Checker
	keys      map[polder.ServiceName][]xds.Key
	published map[xds.Key]string // versions
	next      *clientBook        // prepared for the next change that has a book
}

// clientBook is a list of clients with the book that goes with it.
type clientBook struct {
	names []string
	book  *proof.Book
}

// toClients is the part of a change that concerns clients without an Envoy.
type toClients struct {
	judged []law.Approved       // services that are new or changed
	gone   []polder.ServiceName // that are no more
	moved  []law.Approved       // of which only the instances are others
	whole  bool                 // there are no other services than the judged
}

func newClientPlane(site proof.Site, activator netip.AddrPort, listed func([]string)) *clientPlane {
	site = clientSite(site, activator)
	return &clientPlane{
		clients: xds.Clients{Region: site.Region, Activator: activator, TrustDomain: site.TrustDomain},
		listed:  listed, hosts: &directory{}, keys: map[polder.ServiceName][]xds.Key{}, published: map[xds.Key]string{},
		checker: proof.NewChecker(proof.NewBook(&polder.Model{}, site)),
	}
}

// clientSite is what the clients' book knows.
func clientSite(local proof.Site, activator netip.AddrPort) proof.Site {
	site := remoteSite(local, activator)
	site.Identity, site.Trust, site.Clients = xds.ClientCredentials, xds.ClientCredentials, true
	return site
}

// prepare writes the book of a model, for the next change. local is what the local
// Envoy's book knows of its surroundings.
func (p *clientPlane) prepare(m *polder.Model, local proof.Site) {
	if p == nil {
		return
	}
	region, _ := m.Region(local.Region)
	p.next = &clientBook{region.Clients, proof.NewBook(m, clientSite(local, p.clients.Activator))}
}

// follow does the same when only these services differ.
func (p *clientPlane) follow(before, after []polder.Service, former map[string]polder.Service) {
	if p == nil || p.book == nil {
		return
	}
	p.next = &clientBook{p.names, p.book.With(before, after, former)}
}

// propose makes and proves what a change is for clients. commit publishes it, unless
// there are violations.
func (p *clientPlane) propose(c change) (commit func(), violations []proof.Violation) {
	if p == nil {
		return func() {}, nil
	}
	set, remove, keys := p.translate(c.clients)
	var book *proof.Book
	if c.book != nil && p.next != nil {
		book = p.next.book
	}
	proposal := p.checker.Propose(proof.Change{
		Set: proofResources(set), Remove: proofKeys(remove), Instances: c.instances, Book: book,
	})
	return func() {
		if err := proposal.Commit(); err != nil {
			panic("gateway: " + err.Error()) // the checker has one owner, so nothing came between
		}
		if book != nil {
			p.names, p.book, p.next = p.next.names, book, nil
			p.listed(p.names)
		}
		for _, r := range set {
			p.published[r.Key] = r.Version
		}
		for _, k := range remove {
			delete(p.published, k)
		}
		for name, list := range keys {
			p.hosts.exchange(name, p.keys[name], list)
			if p.keys[name] = list; len(list) == 0 {
				delete(p.keys, name)
			}
		}
		p.publisher.Apply(set, remove)
	}, aboutClients(proposal.Violations())
}

// translate makes the resources of a change, and lists the keys that each service
// has after it.
func (p *clientPlane) translate(c toClients) (set []xds.Resource, remove []xds.Key, keys map[polder.ServiceName][]xds.Key) {
	keys = map[polder.ServiceName][]xds.Key{}
	if c.whole {
		set = append(set, p.clients.Node()...)
		for name := range p.keys {
			keys[name] = nil
		}
	}
	for _, name := range c.gone {
		keys[name] = nil
	}
	for _, a := range c.judged {
		made := p.clients.Service(a)
		keys[a.Service().Name] = keysIn(made)
		set = append(set, made...)
	}
	for name := range keys {
		remove = append(remove, p.keys[name]...)
	}
	for _, a := range c.moved {
		if len(p.keys[a.Service().Name]) > 0 {
			set = append(set, p.clients.Endpoints(a))
		}
	}
	kept := map[xds.Key]bool{} // what one service no longer has, another may have now
	for _, r := range set {
		kept[r.Key] = true
	}
	remove = slices.DeleteFunc(remove, func(k xds.Key) bool { return kept[k] })
	set = slices.DeleteFunc(set, func(r xds.Resource) bool { return p.published[r.Key] == r.Version })
	return set, remove, keys
}

// aboutClients says of each violation that it lies with clients.
func aboutClients(list []proof.Violation) []proof.Violation {
	for i := range list {
		list[i].Reason = fmt.Sprintf("%s (for the region's clients without an Envoy)", list[i].Reason)
	}
	return list
}

// directory tells whose the hosts are that clients may call. Safe for concurrent
// use; the zero value is ready.
type directory struct {
	mu    sync.RWMutex
	hosts map[string]polder.ServiceName
}

// exchange replaces the hosts of a service, which has one listener for each.
func (d *directory) exchange(name polder.ServiceName, before, after []xds.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hosts == nil {
		d.hosts = map[string]polder.ServiceName{}
	}
	for _, key := range before {
		if key.Type == xds.TypeListener && d.hosts[key.Name] == name {
			delete(d.hosts, key.Name)
		}
	}
	for _, key := range after {
		if key.Type == xds.TypeListener {
			d.hosts[key.Name] = name
		}
	}
}

// service is the one of a host; false if clients may call none there.
func (d *directory) service(host string) (polder.ServiceName, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	name, ok := d.hosts[host]
	return name, ok
}
