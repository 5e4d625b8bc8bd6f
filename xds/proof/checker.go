package proof

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/polder/polder"
)

// maxViolations bounds what one proposal reports; there are seldom many causes.
const maxViolations = 256

// Checker holds the proof of everything that one node has. It belongs to one
// goroutine.
type Checker struct {
	now   state
	rests map[unit][]Key // what each conclusion rests on
	users map[Key]*units // the reverse of rests
	count int            // of commits, to notice proposals that came too late
	// gated is what the gates rest on.
	gated map[Key]struct{}
}

// NewChecker makes a Checker of a node without resources.
func NewChecker(book *Book) *Checker {
	return &Checker{
		now: state{
			book: book, resources: map[Key]*facts{},
			instances: map[polder.ServiceName][]polder.Endpoint{}, holders: map[string][]holder{},
		},
		rests: map[unit][]Key{}, users: map[Key]*units{},
	}
}

// Change is what shall be different. All of it takes effect together: put into
// one change what belongs together, such as a service that appears and the
// listener that leads to it.
type Change struct {
	Set    []Resource // new or replaced
	Remove []Key
	// Instances are the addresses where each service runs, as observed. Those
	// of the services named here are replaced, of others kept. An endpoint in
	// another region is known to belong there and may not be reached.
	Instances map[polder.ServiceName][]polder.Endpoint
	// Book replaces the address book; nil keeps it. Give one with every new
	// model, and whenever regions come, go, or change their peers.
	Book *Book
}

// Proposal is a proved change. It waits for Commit, which must come before the
// next Propose whose result shall count.
type Proposal struct {
	checker    *Checker
	count      int
	next       state
	rests      map[unit][]Key
	gone       []unit
	gated      map[Key]struct{}
	touched    bool // the gates were looked for again
	violations []Violation
}

// Propose proves what a change can affect, and nothing else. It takes nothing
// over.
func (c *Checker) Propose(change Change) *Proposal {
	p := &Proposal{checker: c, count: c.count, next: c.now, rests: map[unit][]Key{}}
	p.next.newResources = map[Key]*facts{}
	p.next.newInstances = maps.Clone(change.Instances)
	changed := map[Key]bool{}
	p.takeResources(change, changed)
	p.takeInstances(change.Instances, changed)
	if change.Book != nil {
		p.next.book = change.Book
		compareBooks(c.now.book, change.Book, changed)
	}
	p.findGates(changed)
	for u := range p.affected(changed) {
		p.prove(u)
	}
	p.violations = p.next.presentable(p.violations)
	return p
}

// Violations are the reasons why the change must not be published; none means
// that it may.
func (p *Proposal) Violations() []Violation { return p.violations }

// Commit takes a proved change over.
func (p *Proposal) Commit() error {
	c := p.checker
	switch {
	case len(p.violations) > 0:
		return errors.New("proof: a change with violations cannot be taken over; publish something else")
	case p.count != c.count:
		return errors.New("proof: another change was taken over since this one was proved; prove it again")
	}
	c.count++
	for k, f := range p.next.newResources {
		if f == nil {
			delete(c.now.resources, k)
		} else {
			c.now.resources[k] = f
		}
	}
	maps.Copy(c.now.instances, p.next.newInstances)
	for address, list := range p.next.newHolders {
		if len(list) == 0 {
			delete(c.now.holders, address)
		} else {
			c.now.holders[address] = list
		}
	}
	for service, list := range p.next.newInstances {
		if len(list) == 0 {
			delete(c.now.instances, service)
		}
	}
	c.now.book, c.now.gates, c.gated = p.next.book, p.next.gates, p.gated
	if p.touched {
		c.now.through, c.now.recalled = c.now.remember(c.now.through), false
	}
	for _, u := range p.gone {
		c.forget(u)
	}
	for u, keys := range p.rests {
		c.forget(u)
		c.rests[u] = keys
		for _, k := range keys {
			if c.users[k] == nil {
				c.users[k] = new(units)
			}
			c.users[k].add(u)
		}
	}
	return nil
}

func (c *Checker) forget(u unit) {
	for _, k := range c.rests[u] {
		if c.users[k].remove(u); c.users[k].empty() {
			delete(c.users, k)
		}
	}
	delete(c.rests, u)
}

// takeResources reads what is new. Bytes that are the same are not read again.
func (p *Proposal) takeResources(change Change, changed map[Key]bool) {
	for _, k := range change.Remove {
		if p.next.resources[k] != nil {
			p.next.newResources[k] = nil
			changed[k] = true
		}
	}
	for _, r := range change.Set {
		before := p.next.resource(r.Key)
		if before != nil && before.body != nil && r.Body != nil &&
			before.body.TypeUrl == r.Body.TypeUrl && bytes.Equal(before.body.Value, r.Body.Value) {
			continue
		}
		p.next.newResources[r.Key] = read(r)
		changed[r.Key] = true
	}
}

// takeInstances notes who has which address, before and after.
func (p *Proposal) takeInstances(instances map[polder.ServiceName][]polder.Endpoint, changed map[Key]bool) {
	p.next.newHolders = map[string][]holder{}
	touch := func(address string) {
		if _, ok := p.next.newHolders[address]; !ok {
			p.next.newHolders[address] = slices.Clone(p.next.holders[address])
		}
		changed[Key{onSeen, address}] = true
	}
	for service, list := range instances {
		if slices.Equal(list, p.next.instances[service]) {
			continue
		}
		changed[Key{onInstances, string(service)}] = true
		for _, e := range p.next.instances[service] {
			address := canonical(e.Address)
			touch(address)
			p.next.newHolders[address] = slices.DeleteFunc(p.next.newHolders[address], func(h holder) bool { return h == holder{service, e.Region} })
		}
		for _, e := range list {
			address := canonical(e.Address)
			touch(address)
			p.next.newHolders[address] = append(p.next.newHolders[address], holder{service, e.Region})
		}
	}
}

// findGates looks for the gates again if a change can touch them.
func (p *Proposal) findGates(changed map[Key]bool) {
	touched := p.checker.gated == nil || changed[Key{onSite, ""}]
	for k := range changed {
		_, rests := p.checker.gated[k]
		before, after := p.next.resources[k], p.next.resource(k)
		opened := func(f *facts) bool {
			return f != nil && f.listener != nil && f.listener.entry == nil && (!f.listener.internal || f.listener.opens())
		}
		touched = touched || rests || opened(before) || opened(after)
	}
	p.touched = touched
	if p.gated = p.checker.gated; !touched {
		return
	}
	v := view{state: &p.next, rests: map[Key]struct{}{}}
	p.next.gates = v.findGates()
	p.gated = v.rests
	changed[Key{onGates, ""}] = true
}

// names lists the units for names that a change can affect.
func (p *Proposal) names(changed map[Key]bool, dirty map[unit]bool) {
	add := func(name string) { dirty[unit{Key{ofName, name}, whole}] = true }
	if changed[Key{onGates, ""}] {
		for _, g := range p.next.gates {
			for name := range g.l.byName {
				add(name)
			}
			for _, name := range turned(nil, p.next.resource(Key{typeExtension, g.l.diverts.filter})) {
				add(name)
			}
		}
		for host := range p.next.book.owners.all() {
			add(host)
		}
	}
	for k := range changed {
		switch k.Type {
		case onHost:
			add(k.Name)
		case typeExtension:
			for _, name := range turned(p.next.resources[k], p.next.resource(k)) {
				add(name)
			}
		}
	}
	for u := range dirty {
		if u.Type == ofName && !p.next.known(u.Name) {
			delete(dirty, u)
			p.gone = append(p.gone, u)
		}
	}
}

// known tells whether somebody owns a name, or a gate names or diverts it.
func (s *state) known(name string) bool {
	return s.book.owners.has(name) || slices.ContainsFunc(s.gates, func(g gate) bool {
		_, ok := g.l.byName[name]
		return ok || s.diverted(g.l, name)
	})
}

// affected lists the units whose conclusions a change can touch.
func (p *Proposal) affected(changed map[Key]bool) map[unit]bool {
	dirty := map[unit]bool{}
	if changed[Key{onSite, ""}] {
		p.next.eachResource(func(f *facts) {
			for _, u := range f.units() {
				dirty[u] = true
			}
		})
	}
	for k := range changed {
		before, after := p.next.resources[k], p.next.resource(k)
		if before != nil {
			p.gone = append(p.gone, before.units()...)
		}
		if after != nil {
			for _, u := range after.units() {
				dirty[u] = true
			}
		}
		if users := p.checker.users[k]; users != nil {
			for u := range users.all() {
				dirty[u] = true
			}
		}
	}
	p.names(changed, dirty)
	// What is gone, or has fewer parts than before, is not proved again.
	for _, u := range p.gone {
		if u.Type == ofName {
			continue
		}
		if after := p.next.resource(u.Key); after == nil || !slices.Contains(after.units(), u) {
			delete(dirty, u)
		}
	}
	return dirty
}

func (p *Proposal) prove(u unit) {
	v := view{state: &p.next, own: u.Key, rests: map[Key]struct{}{}}
	v.judge(u)
	p.rests[u] = slices.Collect(maps.Keys(v.rests))
	p.violations = append(p.violations, v.found...)
}

// presentable sorts violations, drops those that repeat another with less of a
// path, and leads each path from a listener.
func (s *state) presentable(list []Violation) []Violation {
	type fault struct{ last, address string }
	longest := map[fault]int{}
	for _, v := range list {
		f := fault{v.Path[len(v.Path)-1], v.Address}
		longest[f] = max(longest[f], len(v.Path))
	}
	list = slices.DeleteFunc(list, func(v Violation) bool {
		alone := strings.HasPrefix(v.Path[0], "cluster ") || strings.HasPrefix(v.Path[0], "endpoints ")
		return alone && len(v.Path) < longest[fault{v.Path[len(v.Path)-1], v.Address}]
	})
	list = tidy(list)
	list = list[:min(len(list), maxViolations)]
	for i, v := range list {
		if name, ok := strings.CutPrefix(v.Path[0], "routes "); ok {
			list[i].Path = append(s.wayTo(name), v.Path...)
		}
	}
	return list
}

// wayTo leads from a listener to a route configuration. For messages only.
func (s *state) wayTo(routes string) []string {
	scope := ""
	var chains [][]string
	s.eachResource(func(f *facts) {
		if f.scope != nil && f.scope.routes == routes && (scope == "" || f.scope.key < scope) {
			scope = f.scope.key
		}
	})
	s.eachResource(func(f *facts) {
		if f.listener == nil {
			return
		}
		if e := f.listener.entry; e != nil && e.routes == routes {
			chains = append(chains, f.path())
		}
		for _, c := range f.listener.chains {
			if c.http != nil && c.http.routes == routes {
				chains = append(chains, extend(f.path(), at("chain", c.name)))
			}
			if c.http != nil && c.http.bySNI && scope != "" {
				chains = append(chains, extend(f.path(), at("chain", c.name), at("scope", scope)))
			}
		}
	})
	if len(chains) == 0 {
		return nil
	}
	return slices.MinFunc(chains, slices.Compare[[]string])
}
