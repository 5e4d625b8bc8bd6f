package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/audit"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// gate is the only way from the reconciler to Envoy: nothing passes that the
// proof does not accept. It fails closed; what was published before stays.
// publish belongs to the reconciler's goroutine, the other methods to anyone.
type gate struct {
	// Fixed after construction.
	log       *slog.Logger
	publisher publisher
	site      proof.Site // without what changes: PeerOf and Alive

	remote    *remotePlane  // of Envoys on other machines; nil without any
	clients   *clientPlane  // of programs that call without an Envoy; nil without any
	mirror    *audit.Mirror // told of everything that is published
	journal   *journal
	rebooked  func()    // told that another address book is in force, and published; may be nil
	addresses addresses // where requests may have gone
	checker   *proof.Checker
	kept      *keptWays          // beyond this process; nil without
	published map[xds.Key]string // versions

	book    atomic.Pointer[proof.Book]
	refused atomic.Pointer[[]string] // why the last change was refused; nil after one that passed
}

// change is what shall be published together.
type change struct {
	set       []xds.Resource
	remove    []xds.Key
	instances map[polder.ServiceName][]polder.Endpoint
	book      *proof.Book // nil keeps the one in force
	clients   toClients
	ways      toWays
}

// toWays is what a change is to the ways out.
type toWays struct {
	all   bool      // these are all
	taken []xds.Way // of which hosts were led to them
}

func newGate(log *slog.Logger, p publisher, g xds.Gateway, n xds.NodeConfig) *gate {
	site := proof.Site{
		Region: n.Region, HTTPS: n.HTTPS, HTTP: n.HTTP, Peer: n.Peer, TrustDomain: n.TrustDomain,
		Activator: g.Activator, ActivatorHeader: xds.HeaderService,
		Resident: xds.ResidentSecrets, Ending: xds.EndingChains,
		Identity: xds.SecretIdentity, Trust: xds.SecretTrust, Local: []string{xds.ControlPlane},
		ByName: xds.ByNamePrefix,
	}
	site.Ejections = n.Ejections
	if n.AccessLog != "" {
		site.LogFiles = []string{n.AccessLog}
	}
	first := proof.NewBook(&polder.Model{}, site)
	made := &gate{
		log: log, publisher: p, site: site, mirror: audit.NewMirror(first),
		checker: proof.NewChecker(first), published: map[xds.Key]string{},
	}
	made.book.Store(first)
	return made
}

// newBook writes the address book of a model in its surroundings, at an instant.
func (g *gate) newBook(m *polder.Model, s surroundings, now time.Time) *proof.Book {
	site := g.site
	site.PeerOf, site.Alive, site.Others, site.Now = s.known, s.health, s.others, now
	g.addresses.configured(m, site.Region, now)
	g.remote.prepare(m, site)
	g.clients.prepare(m, site)
	return proof.NewBook(m, site)
}

// nextBook writes the address book of a model of which only these services differ.
func (g *gate) nextBook(before, after []polder.Service, former map[string]polder.Service) *proof.Book {
	g.remote.follow(before, after, former)
	g.clients.follow(before, after, former)
	return g.book.Load().With(before, after, former)
}

// publish proves a change and publishes it, or returns why it must not be.
func (g *gate) publish(c change) []proof.Violation {
	commitRemote, remote := g.remote.propose(c)
	commitClients, clients := g.clients.propose(c)
	c = g.news(c)
	proposal := g.checker.Propose(proof.Change{
		Set: proofResources(c.set), Remove: proofKeys(c.remove), Instances: c.instances, Book: c.book,
	})
	violations := slices.Concat(proposal.Violations(), remote, clients)
	if len(violations) == 0 {
		if err := proposal.Commit(); err != nil {
			panic("gateway: " + err.Error()) // the checker has one owner, so nothing came between
		}
		if c.book != nil {
			g.book.Store(c.book)
		}
		for _, r := range c.set {
			g.published[r.Key] = r.Version
		}
		for _, k := range c.remove {
			delete(g.published, k)
		}
		g.addresses.observed(c.instances, time.Now())
		if c.ways.all {
			g.kept.replace(c.ways.taken, g.checker.Tell())
		} else {
			g.kept.add(c.ways.taken)
		}
		g.mirror.Publish(c.set, c.remove, c.instances, c.book)
		g.publisher.Apply(c.set, c.remove)
		commitRemote()
		commitClients()
		g.journal.accepted(len(c.set)+len(c.remove), c.book == nil)
		g.refused.Store(nil)
		if c.book != nil && g.rebooked != nil {
			g.rebooked()
		}
		return nil
	}
	lines := make([]string, len(violations))
	for i, v := range violations {
		lines[i] = v.String()
		g.log.Error("the proof refuses a change; what was published before stays", "violation", lines[i])
	}
	g.refused.Store(&lines)
	g.journal.refused(violations, lines)
	return violations
}

// news drops from a change what is published already.
func (g *gate) news(c change) change {
	c.set = slices.DeleteFunc(slices.Clone(c.set), func(r xds.Resource) bool { return g.published[r.Key] == r.Version })
	return c
}

// stale lists what is published and not in set.
func (g *gate) stale(set []xds.Resource) []xds.Key {
	kept := make(map[xds.Key]bool, len(set))
	for _, r := range set {
		kept[r.Key] = true
	}
	var stale []xds.Key
	for k := range g.published {
		if !kept[k] {
			stale = append(stale, k)
		}
	}
	return stale
}

// bootstrap proves the file that Envoy is to be started with.
func (g *gate) bootstrap(data []byte) error {
	var faults []error
	for _, v := range proof.CheckBootstrap(g.book.Load(), data) {
		faults = append(faults, errors.New(v.String()))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("Envoy is not started, because the proof refuses what it would start with: %w", err)
	}
	return nil
}

// mayHave tells whether Envoy may be given the secret of that name.
func (g *gate) mayHave(name string) bool {
	violations := proof.CheckSecret(g.book.Load(), name)
	for _, v := range violations {
		g.log.Warn("the proof refuses a secret", "violation", v.String())
	}
	return len(violations) == 0
}

// lawful is mayHave without a word.
func (g *gate) lawful(name string) bool { return len(proof.CheckSecret(g.book.Load(), name)) == 0 }

// Refused lists why the last change was refused; nil when it passed.
func (g *gate) Refused() []string {
	if lines := g.refused.Load(); lines != nil {
		return *lines
	}
	return nil
}

func proofResources(set []xds.Resource) []proof.Resource {
	list := make([]proof.Resource, len(set))
	for i, r := range set {
		list[i] = proof.Resource{Key: proof.Key(r.Key), Body: r.Body}
	}
	return list
}

func proofKeys(keys []xds.Key) []proof.Key {
	list := make([]proof.Key, len(keys))
	for i, k := range keys {
		list[i] = proof.Key(k)
	}
	return list
}
