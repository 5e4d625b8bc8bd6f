package server

import (
	"slices"
	"strconv"
	"time"

	"github.com/polder/polder/xds"
)

// stream is one Envoy's discovery stream. Everything but node's first setting
// and wake is guarded by Server.mu.
type stream struct {
	server    *Server
	node      string
	delta     bool
	only      string // the one type that it is of; "" means all
	since     time.Time
	types     map[string]*subscription
	nonces    uint64
	wake      chan struct{} // capacity 1: there may be something to send
	warming   map[string]bool
	warmUntil time.Time
	givenUp   bool // nobody waits for its answers, until it gives one
}

// subscription is what one Envoy wants and has of one type of resources.
type subscription struct {
	asked    bool                    // the Envoy spoke of this type at all
	greet    bool                    // it wants all and waits for a first response, be it empty
	wildcard bool                    // it wants all
	named    bool                    // state of the world: it has named something, so that no names mean nothing
	names    map[string]bool         // it wants these
	sent     map[string]xds.Resource // what it was sent last and did not reject; Body nil for an absence
	dirty    map[string]bool         // names to be looked at
	suspects [][]string              // after a rejection: names to be sent apart from others, a group at a time
	suspect  map[string]bool         // the names in suspects
	withheld map[string]bool         // taken away from the Envoy until it asks again
	inflight *response               // sent, not answered
}

// response is one message to an Envoy that waits for its answer.
type response struct {
	nonce    string
	at       time.Time // when it was sent
	version  string    // state of the world: of the whole
	set      []xds.Resource
	remove   []string
	previous map[string]xds.Resource // what the Envoy had before
}

func newStream(s *Server, delta bool, only string) *stream {
	return &stream{
		server: s, delta: delta, only: only, since: time.Now(),
		types: map[string]*subscription{}, wake: make(chan struct{}, 1), warming: map[string]bool{},
	}
}

func (st *stream) subscription(typeURL string) *subscription {
	sub := st.types[typeURL]
	if sub == nil {
		sub = &subscription{names: map[string]bool{}, sent: map[string]xds.Resource{}, dirty: map[string]bool{}, withheld: map[string]bool{}, suspect: map[string]bool{}}
		st.types[typeURL] = sub
	}
	return sub
}

func (sub *subscription) wants(name string) bool { return sub.wildcard || sub.names[name] }

func (st *stream) mark(key xds.Key) {
	sub := st.types[key.Type]
	if sub == nil {
		return
	}
	if _, held := sub.sent[key.Name]; held || sub.wants(key.Name) {
		sub.dirty[key.Name] = true
		st.kick()
	}
}

func (st *stream) kick() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// settled tells whether the Envoy has answered to the present version of a resource.
func (st *stream) settled(key xds.Key) bool {
	sub := st.types[key.Type]
	if sub == nil || !sub.asked {
		return true
	}
	if sub.dirty[key.Name] || sub.suspect[key.Name] {
		return false
	}
	return sub.inflight == nil || !sub.inflight.names(key.Name)
}

func (st *stream) settledAll(keys []xds.Key) bool {
	return !slices.ContainsFunc(keys, func(key xds.Key) bool { return !st.settled(key) })
}

func (r *response) names(name string) bool {
	return slices.Contains(r.remove, name) ||
		slices.ContainsFunc(r.set, func(x xds.Resource) bool { return x.Name == name })
}

// step is one place in the order of publishing: make before break.
type step struct {
	kind
	removing bool
	warming  bool   // only what a cluster that was not acknowledged waits for
	after    []kind // that must be settled first
}

// kind is a type of resources, or those of a type that have their own place in the
// order.
type kind struct {
	typeURL string
	byName  bool // of clusters: those that lead callers to a host, as a listener does
	inside  bool // of listeners: those that clusters lead to
	any     bool // of all kinds of the type
}

// has tells whether a resource of the kind's type is of the kind.
func (k kind) has(name string) bool {
	switch {
	case k.any:
	case k.typeURL == xds.TypeCluster:
		return xds.IsByName(name) == k.byName
	case k.typeURL == xds.TypeListener:
		return xds.IsInside(name) == k.inside
	}
	return true
}

var (
	secrets   = kind{typeURL: xds.TypeSecret}
	clusters  = kind{typeURL: xds.TypeCluster}
	endpoints = kind{typeURL: xds.TypeEndpoint}
	scopes    = kind{typeURL: xds.TypeScope}
	routes    = kind{typeURL: xds.TypeRoute}
	hosts     = kind{typeURL: xds.TypeCluster, byName: true}
	listeners = kind{typeURL: xds.TypeListener}
	inner     = kind{typeURL: xds.TypeListener, inside: true}
	filters   = kind{typeURL: xds.TypeExtension} // that listeners fetch apart
)

// order follows the xDS protocol's advice on eventual consistency, stricter in
// that it waits for acknowledgements: a host appears in a listener only when
// its routes, clusters and endpoints are there, and they go only when it went. What
// clusters lead to inside of Envoy comes before those that lead callers there. A
// cluster of its own that leads callers to a host is to it what a listener is. It
// goes once the listener has the host. The filter that diverts callers from a listener's
// table to such clusters follows both.
var order = []step{
	{kind: secrets},
	{kind: secrets, removing: true},
	{kind: clusters},
	// Not after the acknowledgement of the clusters: Envoy withholds it until they are warm.
	{kind: endpoints},
	// A cluster that goes before it is warm is acknowledged, and can be taken away,
	// once Envoy knows that no endpoints will come; else it waits for its own timeout.
	{kind: endpoints, removing: true, warming: true},
	{kind: scopes, after: []kind{clusters, endpoints}},
	{kind: routes, after: []kind{clusters, endpoints}},
	{kind: inner, after: []kind{clusters, endpoints, scopes, routes}},
	{kind: hosts, after: []kind{clusters, endpoints, scopes, routes, inner}},
	{kind: listeners, after: []kind{clusters, endpoints, scopes, routes, inner}},
	{kind: filters, after: []kind{clusters, endpoints, scopes, routes, inner, hosts, listeners}},
	{kind: listeners, removing: true},
	{kind: filters, removing: true, after: []kind{listeners}},
	{kind: hosts, removing: true, after: []kind{listeners, filters}},
	{kind: inner, removing: true, after: []kind{listeners, filters, hosts}},
	{kind: scopes, removing: true, after: []kind{listeners, filters, hosts, inner}},
	{kind: routes, removing: true, after: []kind{listeners, filters, hosts, inner, scopes}},
	{kind: clusters, removing: true, after: []kind{listeners, filters, hosts, inner, scopes, routes}},
	{kind: endpoints, removing: true, after: []kind{clusters}},
}

// firstListeners is how listeners come to an Envoy that has none: all at once, because it
// begins to work when it has heard of listeners for the first time.
var firstListeners = step{kind: kind{typeURL: xds.TypeListener, any: true}, after: []kind{clusters, endpoints, scopes, routes}}

// next finds the next message to send, or nil. Called with mu held.
func (st *stream) next(now time.Time) (string, *response) {
	for _, step := range order {
		sub := st.types[step.typeURL]
		if sub == nil || !sub.asked || sub.inflight != nil {
			continue
		}
		if step.typeURL == xds.TypeListener && !step.removing && len(sub.sent) == 0 {
			step = firstListeners
		}
		if !st.mayFollow(step, now) {
			continue
		}
		if r := st.collect(step, sub); r != nil {
			st.nonces++
			r.nonce, r.at = strconv.FormatUint(st.nonces, 10), now
			if !st.delta {
				r.version = strconv.FormatUint(st.server.sequence, 10)
			}
			sub.inflight = r
			st.server.count(step.typeURL).Pushed++
			st.expectEndpoints(step.typeURL, r, now)
			return step.typeURL, r
		}
	}
	return "", nil
}

// mayFollow tells whether everything that must come before the step is
// acknowledged. Removals that are held back themselves hold back nothing.
func (st *stream) mayFollow(step step, now time.Time) bool {
	for _, before := range step.after {
		sub := st.types[before.typeURL]
		if sub == nil || !sub.asked {
			continue
		}
		if sub.inflight != nil || len(sub.suspects) > 0 {
			return false
		}
		for name := range sub.dirty {
			if before.has(name) && (step.removing || st.adds(before.typeURL, sub, name)) {
				return false
			}
		}
	}
	waitsForEndpoints := !step.removing && slices.Contains(step.after, endpoints)
	return !waitsForEndpoints || len(st.warming) == 0 || now.After(st.warmUntil)
}

// adds tells whether a dirty name is to be sent, and not to be removed.
func (st *stream) adds(typeURL string, sub *subscription, name string) bool {
	r, ok := st.server.effective(st.node, xds.Key{Type: typeURL, Name: name})
	return ok && sub.wants(name) && sub.sent[name].Version != r.Version
}

// mostPerResponse bounds the resources that a delta response sets. Envoy takes one in
// without a break, and keeps the memory that this takes.
const mostPerResponse = 500

// collect takes what is due out of the dirty names.
func (st *stream) collect(step step, sub *subscription) *response {
	if !st.delta && fullState(step.typeURL) {
		return st.collectAll(step, sub)
	}
	r := &response{previous: map[string]xds.Resource{}}
	for !step.removing && len(sub.suspects) > 0 {
		for name := range sub.nextSuspects() {
			st.take(step, sub, name, r)
		}
		if len(r.set) > 0 {
			sortResponse(r)
			return r
		}
	}
	former := st.formerScopes(step, sub)
	for name := range sub.dirty {
		if len(r.set) >= mostPerResponse && len(former) == 0 {
			break
		}
		if !sub.suspect[name] && step.has(name) && (!step.warming || st.awaited(name)) {
			st.take(step, sub, name, r)
		}
	}
	if len(r.set) > 0 {
		for _, name := range former {
			st.takeAway(step, sub, name, r)
		}
	}
	if len(r.set) == 0 && len(r.remove) == 0 && !sub.greeting(step) {
		return nil
	}
	sub.greet = sub.greet && step.removing
	sortResponse(r)
	return r
}

// formerScopes lists the scopes that an Envoy brought along and that are no more. They
// go in the response that sets others: an older Polder may have named the same hosts
// otherwise, and Envoy takes no two scopes with one key. Within one response it puts
// the new in the place of the old.
func (st *stream) formerScopes(step step, sub *subscription) []string {
	if step.kind != scopes || step.removing {
		return nil
	}
	var former []string
	for name := range sub.dirty {
		if sub.sent[name].Body != unknownBody {
			continue
		}
		if _, exists := st.server.effective(st.node, xds.Key{Type: step.typeURL, Name: name}); !exists {
			former = append(former, name)
		}
	}
	return former
}

// awaited tells whether Envoy holds back its answer about a cluster until it has
// heard of the endpoints.
func (st *stream) awaited(name string) bool {
	sub := st.types[xds.TypeCluster]
	return st.warming[name] && sub != nil && sub.inflight != nil && sub.inflight.names(name)
}

// nextSuspects takes out the next group of names that must be sent apart.
func (sub *subscription) nextSuspects() map[string]bool {
	group := map[string]bool{}
	for _, name := range sub.suspects[0] {
		group[name] = true
		delete(sub.suspect, name)
	}
	sub.suspects = sub.suspects[1:]
	return group
}

// greeting tells whether an empty response is due: an Envoy that asked for all
// of a type waits for the first response to learn that there is none.
func (sub *subscription) greeting(step step) bool {
	return sub.greet && !step.removing && !step.byName && len(sub.dirty) == 0
}

// take moves one dirty name into the response if it belongs to this step.
func (st *stream) take(step step, sub *subscription, name string, r *response) {
	had, known := sub.sent[name]
	if !sub.wants(name) {
		delete(sub.sent, name)
		st.drop(sub, name)
		return
	}
	resource, exists := st.server.effective(st.node, xds.Key{Type: step.typeURL, Name: name})
	exists = exists && !sub.withheld[name]
	switch {
	case exists && had.Version == resource.Version && had.Body != nil:
		st.drop(sub, name)
	case exists && !step.removing:
		delete(sub.dirty, name)
		r.previous[name] = had
		sub.sent[name] = resource
		r.set = append(r.set, resource)
	case !exists && step.removing:
		if known && had.Body == nil || !known && sub.wildcard && !sub.names[name] {
			st.drop(sub, name) // told before, or never had it
			return
		}
		st.takeAway(step, sub, name, r)
	}
}

// drop settles a name of which the Envoy needs not be told: whoever waits for its answer
// waits for none.
func (st *stream) drop(sub *subscription, name string) {
	delete(sub.dirty, name)
	st.server.answered()
}

// takeAway moves one name into the response as removed.
func (st *stream) takeAway(step step, sub *subscription, name string, r *response) {
	delete(sub.dirty, name)
	r.previous[name] = sub.sent[name]
	sub.sent[name] = xds.Resource{Key: xds.Key{Type: step.typeURL, Name: name}}
	r.remove = append(r.remove, name)
}

// expectEndpoints remembers that Envoy warms these clusters until it has their
// endpoints. A cluster that is sent again forgets its endpoints, and Envoy does
// not ask again for what it already subscribes to.
func (st *stream) expectEndpoints(typeURL string, r *response, now time.Time) {
	if typeURL != xds.TypeCluster {
		return
	}
	if st.only != "" {
		for _, c := range r.changed() {
			st.server.resendEndpoints(st.node, c.Name)
		}
		return
	}
	assigned := st.subscription(xds.TypeEndpoint)
	for _, c := range r.set {
		if _, ok := st.server.effective(st.node, xds.Key{Type: xds.TypeEndpoint, Name: c.Name}); !ok {
			continue
		}
		st.warming[c.Name] = true
		if assigned.wants(c.Name) {
			delete(assigned.sent, c.Name)
			assigned.dirty[c.Name] = true
		}
	}
	st.warmUntil = now.Add(st.server.options.WarmWait)
	for _, name := range r.remove {
		delete(st.warming, name)
	}
}

func sortResponse(r *response) {
	slices.SortFunc(r.set, func(a, b xds.Resource) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	slices.Sort(r.remove)
}
