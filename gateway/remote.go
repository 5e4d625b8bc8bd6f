package gateway

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// remotePlane is what the region's Envoys on other machines get. It is derived
// from what the local one gets, resource by resource, and proved by itself: what
// the law and the translation say of a service is said once. It belongs to the
// reconciler's goroutine.
type remotePlane struct {
	// Fixed after construction.
	publisher interface {
		Apply(set []xds.Resource, remove []xds.Key) int
	}
	viewed func(xds.Remote) // told of another view before it is published

	view    xds.Remote
	book    *proof.Book // in force; nil before the first
	checker *proof.Checker
	derived map[xds.Key]derivation // by the local Envoy's key
	next    *remoteBook            // prepared for the next change that has a book
}

// derivation is what became of one resource.
type derivation struct {
	from    xds.Resource
	remotes []xds.Resource
}

// remoteBook is another view with the book that goes with it.
type remoteBook struct {
	view xds.Remote
	book *proof.Book
}

func newRemotePlane(site proof.Site, activator netip.AddrPort, viewed func(xds.Remote)) *remotePlane {
	site = remoteSite(site, activator)
	return &remotePlane{
		viewed: viewed, derived: map[xds.Key]derivation{},
		view:    xds.Remote{Region: site.Region, Activator: activator, TrustDomain: site.TrustDomain},
		checker: proof.NewChecker(proof.NewBook(&polder.Model{}, site)),
	}
}

// remoteSite is what a remote node's book knows, without the nodes themselves.
func remoteSite(local proof.Site, activator netip.AddrPort) proof.Site {
	local.HTTPS, local.HTTP, local.Peer, local.Activator = netip.AddrPort{}, netip.AddrPort{}, netip.AddrPort{}, ""
	local.ActivatorAt = activator
	return local
}

// prepare writes the book of a model, for the next change. local is what the
// local Envoy's book knows of its surroundings.
func (p *remotePlane) prepare(m *polder.Model, local proof.Site) {
	if p == nil {
		return
	}
	site, view := remoteSite(local, p.view.Activator), p.view
	region, _ := m.Region(site.Region)
	view.Nodes = remoteNodes(region)
	for _, n := range view.Nodes {
		site.Remote = append(site.Remote, proof.Entrypoints{HTTPS: n.HTTPS, HTTP: n.HTTP})
	}
	p.next = &remoteBook{view, proof.NewBook(m, site)}
}

// follow does the same when only these services differ.
func (p *remotePlane) follow(before, after []polder.Service, former map[string]polder.Service) {
	if p == nil || p.book == nil {
		return
	}
	p.next = &remoteBook{p.view, p.book.With(before, after, former)}
}

// remoteNodes lists a region's Envoys on other machines. The configuration's
// validation has seen that the addresses are ones.
func remoteNodes(region polder.Region) []xds.RemoteNode {
	var nodes []xds.RemoteNode
	for _, n := range region.Nodes {
		l := listenOn(polder.Listen{HTTPS: n.HTTPS, HTTP: n.HTTP}, region.Listen)
		https, errHTTPS := bindAddress(l.HTTPS)
		http, errHTTP := bindAddress(l.HTTP)
		if errHTTPS == nil && errHTTP == nil {
			nodes = append(nodes, xds.RemoteNode{Name: n.Name, HTTPS: https, HTTP: http})
		}
	}
	return nodes
}

// propose derives and proves a change. commit publishes it, unless there are violations.
func (p *remotePlane) propose(c change) (commit func(), violations []proof.Violation) {
	if p == nil {
		return func() {}, nil
	}
	view, book := p.view, (*proof.Book)(nil)
	if c.book != nil && p.next != nil {
		view, book = p.next.view, p.next.book
	}
	set := c.set
	if !slices.Equal(view.Nodes, p.view.Nodes) { // what differs from node to node is made anew
		set = p.withPersonal(set)
	}
	made := map[xds.Key]derivation{}
	var out change
	for _, r := range set {
		before, known := p.derived[r.Key]
		if known && before.from.Version == r.Version && slices.Equal(view.Nodes, p.view.Nodes) {
			continue
		}
		now := derivation{r, view.Derive(r)}
		made[r.Key] = now
		out.set = append(out.set, now.remotes...)
		for _, old := range before.remotes {
			if !slices.ContainsFunc(now.remotes, func(n xds.Resource) bool { return n.Key == old.Key }) {
				out.remove = append(out.remove, old.Key)
			}
		}
	}
	for _, key := range c.remove {
		for _, old := range p.derived[key].remotes {
			out.remove = append(out.remove, old.Key)
		}
	}
	proposal := p.checker.Propose(proof.Change{
		Set: proofResources(out.set), Remove: proofKeys(out.remove), Instances: c.instances, Book: book,
	})
	return func() {
		if err := proposal.Commit(); err != nil {
			panic("gateway: " + err.Error()) // the checker has one owner, so nothing came between
		}
		if book != nil {
			p.view, p.book, p.next = view, book, nil
			p.viewed(view)
		}
		for key, d := range made {
			p.derived[key] = d
		}
		for _, key := range c.remove {
			delete(p.derived, key)
		}
		p.publisher.Apply(out.set, out.remove)
	}, aboutRemotes(proposal.Violations())
}

// withPersonal adds the resources that each node has its own of, unless they change anyway.
func (p *remotePlane) withPersonal(set []xds.Resource) []xds.Resource {
	set = slices.Clone(set)
	for key, d := range p.derived {
		personal := !slices.Equal(p.view.Names(key), []xds.Key{key})
		if personal && !slices.ContainsFunc(set, func(r xds.Resource) bool { return r.Key == key }) {
			set = append(set, d.from)
		}
	}
	return set
}

// aboutRemotes says of each violation that it lies on other machines.
func aboutRemotes(list []proof.Violation) []proof.Violation {
	for i := range list {
		list[i].Reason = fmt.Sprintf("%s (on the region's Envoys on other machines)", list[i].Reason)
	}
	return list
}
