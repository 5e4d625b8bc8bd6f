package gateway

import (
	"maps"
	"slices"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

const (
	// tableHosts is how many hosts may differ from the table of the listeners, and
	// tableAge for how long: then it is made anew, and sent once for all of them.
	tableHosts = 256
	tableAge   = time.Minute
)

// publication is what the reconciler has published, as far as the next change of
// the model needs it: with it the change costs time in proportion to itself.
type publication struct {
	hosts xds.Hosts
	keys  map[polder.ServiceName][]xds.Key
	node  []xds.Key
	since time.Time // that some host differs from the table; zero while none does
}

// newPublication begins anew, and takes over the ways out that Envoy has.
func newPublication(w xds.Ways, traces bool) *publication {
	return &publication{hosts: xds.Hosts{Ways: w, Traces: traces}, keys: map[polder.ServiceName][]xds.Key{}}
}

// put takes in a service and gives its resources, and the keys that it had before
// and has no more.
func (p *publication) put(s *service, g xds.Gateway) (set []xds.Resource, outdated []xds.Key) {
	p.hosts.Put(s.approved)
	set = s.resources(g)
	name := s.spec.Name
	outdated = p.keys[name]
	p.keys[name] = keysIn(set)
	return set, without(outdated, p.keys[name])
}

func (p *publication) remove(name polder.ServiceName) (outdated []xds.Key) {
	p.hosts.Remove(name)
	outdated = p.keys[name]
	delete(p.keys, name)
	return outdated
}

// table gives what the node has once, with a table of all hosts.
func (p *publication) table(n xds.NodeConfig) (set []xds.Resource, outdated []xds.Key) {
	set = p.hosts.Node(n)
	outdated, p.node = p.node, keysIn(set)
	return set, without(outdated, p.node)
}

// byName gives what is different for hosts that are led by their names. What belongs to
// the node, and comes before the next table, goes with that one if it is not in it.
func (p *publication) byName(now time.Time) (set []xds.Resource, remove []xds.Key) {
	set, remove = p.hosts.ByName(now)
	for _, r := range set {
		if !(r.Type == xds.TypeCluster && xds.IsByName(r.Name)) && !slices.Contains(p.node, r.Key) {
			p.node = append(p.node, r.Key)
		}
	}
	return set, remove
}

// ways gives all ways out after a table was made, and what ByName added to them else.
func (p *publication) ways(table bool, now time.Time) toWays {
	if table {
		return toWays{all: true, taken: p.hosts.Ways.Tell(now)}
	}
	return toWays{taken: p.hosts.Joined()}
}

func keysIn(set []xds.Resource) []xds.Key {
	keys := make([]xds.Key, len(set))
	for i, r := range set {
		keys[i] = r.Key
	}
	return keys
}

func without(keys, kept []xds.Key) []xds.Key {
	return slices.DeleteFunc(slices.Clone(keys), func(k xds.Key) bool { return slices.Contains(kept, k) })
}

// judgeSome applies the law to what is different, and publishes it.
func (r *reconciler) judgeSome(d difference, now time.Time) {
	if len(d.before)+len(d.after) == 0 {
		return
	}
	known, served := map[polder.ServiceName]law.Approved{}, map[polder.ServiceName][]polder.Host{}
	var closed []polder.ServiceName
	for _, spec := range d.after {
		s := r.services[spec.Name]
		if s.approved = r.judge(s); s.approved.Verdict() == law.Serve {
			served[spec.Name], known[spec.Name] = spec.Hosts, s.approved
		} else {
			closed = append(closed, spec.Name)
		}
	}
	for _, s := range d.gone {
		closed = append(closed, s.spec.Name)
	}
	r.served.change(known, closed)
	r.closed(closed)
	r.turnWith(d)
	r.complain(r.certificates.Change(r.ctx, served, closed))
	r.publishSome(d, now)
	for _, spec := range d.after {
		r.follow(r.services[spec.Name], now)
		r.announceIfWarm(r.services[spec.Name])
	}
	for _, s := range d.gone {
		r.announceIfWarm(s)
	}
}

// turnWith notes when what was judged ceases to hold by itself. All services were
// judged for one instant, and so are these.
func (r *reconciler) turnWith(d difference) {
	changed := map[polder.ServiceName]*service{}
	for _, spec := range d.after {
		changed[spec.Name] = r.services[spec.Name]
	}
	if at := turnsNext(changed, r.judged); !at.IsZero() && (r.turns.IsZero() || at.Before(r.turns)) {
		r.turns = at
	}
}

// publishSome publishes what is different. What the proof refuses is found out by
// publishing everything.
func (r *reconciler) publishSome(d difference, now time.Time) {
	p := r.published
	c := change{instances: map[polder.ServiceName][]polder.Endpoint{}}
	for _, s := range d.gone {
		c.remove = append(c.remove, p.remove(s.spec.Name)...)
		c.clients.gone = append(c.clients.gone, s.spec.Name)
		c.instances[s.spec.Name] = nil
	}
	for _, spec := range d.after {
		set, outdated := p.put(r.services[spec.Name], r.gateway)
		c.set, c.remove = append(c.set, set...), append(c.remove, outdated...)
		c.clients.judged = append(c.clients.judged, r.forClients(r.services[spec.Name]))
		c.instances[spec.Name] = r.services[spec.Name].runningEndpoints()
	}
	// What one service no longer has, another may have now.
	has := map[xds.Key]bool{}
	for _, resource := range c.set {
		has[resource.Key] = true
	}
	c.remove = slices.DeleteFunc(c.remove, func(k xds.Key) bool { return has[k] })
	if !r.publishHosts(c, p.hosts.Changed(), d, now) {
		r.publishAll(slices.Sorted(maps.Keys(r.services)), now)
	}
}

// publishHosts completes a change with what the node says of the hosts, and
// publishes it. False means that the proof refuses it, and that what is published
// is not what r.published says.
func (r *reconciler) publishHosts(c change, table bool, d difference, now time.Time) bool {
	p := r.published
	if table {
		set, outdated := p.table(r.nodeConfig(now))
		c.set, c.remove = append(c.set, set...), append(c.remove, outdated...)
	}
	led, left := p.byName(now)
	c.set, c.remove = append(c.set, led...), append(c.remove, left...)
	c.ways = p.ways(table, now)
	c.book = r.gate.nextBook(d.before, d.after, maps.Clone(p.hosts.Former()))
	switch {
	case p.hosts.Pending() == 0:
		p.since = time.Time{}
	case p.since.IsZero():
		p.since = now
	}
	if len(r.gate.publish(c)) > 0 {
		r.published = nil
		return false
	}
	r.ways = p.hosts.Ways
	return true
}

// tidyTable takes the hosts that came and went into the listeners' table, once there
// are many of them, or some time has passed, and drops ways out that were kept for
// long enough.
func (r *reconciler) tidyTable(now time.Time) {
	p := r.published
	if p == nil {
		return
	}
	late := !p.since.IsZero() && (p.hosts.Pending() >= tableHosts || now.Sub(p.since) >= tableAge)
	table := late || p.hosts.Ways.Expired(now)
	if table || p.hosts.Lingering(now) {
		r.publishHosts(change{}, table, difference{}, now)
	}
}

// publishAll publishes everything that the law approved. If the proof refuses it,
// the ways out that are only kept go; services that it refuses then are left out, so
// that they stop no other; if it refuses what belongs to all, everything stays as it was.
func (r *reconciler) publishAll(names []polder.ServiceName, now time.Time) {
	r.published = nil
	book := r.gate.newBook(r.model, r.around, r.judged)
	withheld := map[polder.ServiceName]bool{}
	ways := r.ways
	for {
		p := newPublication(ways, r.node.Traces)
		violations := r.gate.publish(r.everything(p, names, withheld, book, now))
		if len(violations) == 0 {
			r.ways = p.hosts.Ways
		}
		if len(violations) == 0 && len(withheld) == 0 {
			r.published = p
		}
		if len(violations) > 0 && ways.Kept() > 0 {
			ways = xds.Ways{} // old connections first: no service is withheld for their sake
			continue
		}
		before := len(withheld)
		for _, v := range violations {
			for _, name := range v.Services {
				withheld[name] = true
			}
		}
		if len(withheld) == before {
			return
		}
	}
}

// everything gathers the resources of the node and of all services but those withheld.
func (r *reconciler) everything(p *publication, names []polder.ServiceName, withheld map[polder.ServiceName]bool, book *proof.Book, now time.Time) change {
	c := change{book: book, instances: map[polder.ServiceName][]polder.Endpoint{}, clients: toClients{whole: true}}
	for _, name := range names {
		if s := r.services[name]; !withheld[name] {
			set, _ := p.put(s, r.gateway)
			c.set = append(c.set, set...)
			c.clients.judged = append(c.clients.judged, r.forClients(s))
			c.instances[name] = s.runningEndpoints()
		}
	}
	set, _ := p.table(r.nodeConfig(now))
	c.set = append(c.set, set...)
	led, _ := p.byName(now) // of what is not in the table
	c.set = append(c.set, led...)
	c.ways = p.ways(true, now)
	c.remove = r.gate.stale(c.set)
	return c
}

func (r *reconciler) nodeConfig(now time.Time) xds.NodeConfig {
	node := r.node
	node.Now = now
	node.PeerOf, node.PeerAt, node.Draining = r.around.peerOf, r.around.peerAt, r.lost
	node.WeightOf, node.RTT = r.around.weightOf, r.around.rtt
	return node
}
