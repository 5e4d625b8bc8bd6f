package proof

import (
	"slices"

	"google.golang.org/protobuf/types/known/anypb"
)

// facts is what one resource says, as far as the proof needs it. It depends on
// the resource's bytes alone and is immutable once read.
type facts struct {
	key    Key
	body   *anypb.Any
	faults []fault // what is wrong whatever else there is
	// clients are constructs that only clients without an Envoy understand as they
	// are meant: wrong in every other book.
	clients []fault

	// One of these, by the resource's type; nil when it could not be read.
	listener  *listenerFacts
	scope     *scopeFacts
	routes    *routesFacts
	cluster   *clusterFacts
	endpoints *assignmentFacts
	diverted  *divertedFacts
}

// fault is something wrong in one resource.
type fault struct {
	path    []string // within the resource
	address string   // what it would reach, if the construct itself tells
	strings []string // what the construct mentions: names of clusters, addresses
	reason  string
	// Where it lies, to know whose callers are concerned.
	domains []string // of the virtual host
	chain   string   // name of the filter chain
}

// place is somewhere a connection is made to.
type place struct {
	path     string // "endpoint 10.0.0.5:8080"
	address  string // canonical; the listener's name for an internal one
	internal bool   // an internal listener of this Envoy
	pipe     bool   // a Unix socket
	label    string // chooses another transport socket of the cluster; "" for the usual one
}

// way is a cluster that traffic may be sent to.
type way struct {
	path    []string // from the virtual host or chain
	cluster string
}

// socket is how bytes are wrapped on a connection, outermost first.
type socket struct {
	kind  socketKind
	inner *socket   // of header and internal
	tls   *tlsFacts // of tls
}

type socketKind int

const (
	clear    socketKind = iota // as they are
	tlsKind                    // TLS
	header                     // after a PROXY protocol header
	internal                   // within this Envoy
	unclear                    // not understood
)

// tlsFacts is one side's TLS.
type tlsFacts struct {
	onDemand   bool   // its certificate is asked for by the caller's SNI
	identity   string // secret with its certificate; "" if onDemand
	trust      string // secret with the authorities it trusts; "" if it asks for no certificate
	wantsPeer  bool   // as a server: demands a certificate
	peerNames  []peerName
	requireSNI bool
	quic       bool // as a server: inside QUIC
	resumes    bool // as a server: takes up sessions that began earlier
	provided   bool // identity and trust are what the client's bootstrap has, and no secrets
}

// peerName is a name that the other side's certificate may have.
type peerName struct {
	text  string
	exact bool // else text is a prefix
}

// clusterFacts is where a cluster leads.
type clusterFacts struct {
	eds        string   // name of its load assignment; "" if it carries its places
	places     []place  // carried
	members    []string // clusters that it is made of
	socket     socket
	labelled   map[string]socket // by label, for the places that have it
	understood bool              // places or eds or members are all there is
}

// socketFor is how bytes to a place are wrapped.
func (c *clusterFacts) socketFor(p place) socket {
	if s, ok := c.labelled[p.label]; ok {
		return s
	}
	return c.socket
}

// assignmentFacts are the places of a load assignment.
type assignmentFacts struct{ places []place }

// scopeFacts leads a scope key to routes.
type scopeFacts struct{ key, routes string }

// routesFacts is a route configuration.
type routesFacts struct{ hosts []virtualHost }

// virtualHost is what happens to requests for some domains.
type virtualHost struct {
	name    string
	domains []string
	ways    []way
	sets    []mutation // of request headers, before they are sent on
}

// local tells that every request is answered on the spot.
func (h virtualHost) local() bool { return len(h.ways) == 0 }

// mutation is a change of a request header.
type mutation struct {
	name, value string
	overwrite   bool
}

// listenerFacts is a listener.
type listenerFacts struct {
	bind      string // address, "" when internal
	internal  bool
	quic      bool // takes datagrams
	chains    []chainFacts
	byName    map[string]string // domain to chain name; nil without a matcher
	otherwise string            // chain for all other names, with a matcher
	diverts   diversion         // before the name is looked for; its chain is "" if it does not
	entry     *httpFacts        // where a client that resolves the listener's name goes on; nil for one that listens
}

// chainFacts is a filter chain.
type chainFacts struct {
	name   string
	socket socket
	sinks  []sink // that its connections are told to
	// What its connections come to. None of these means that it could not be read.
	answers bool // a fixed answer, and the end
	http    *httpFacts
	proxied []way  // as they are, to these
	byName  string // as they are, to the cluster named by this and the name in the ClientHello
}

// httpFacts is where HTTP requests find their routes.
type httpFacts struct {
	routes string // one configuration for all; "" when scoped
	bySNI  bool   // scoped by the SNI of the connection
}

// sink is something that is told about traffic.
type sink struct {
	path    []string
	cluster string // gRPC service
	file    string
	tracer  bool // it is told of requests as spans
}

// opens tells whether some chain reads requests.
func (l *listenerFacts) opens() bool {
	return slices.ContainsFunc(l.chains, func(c chainFacts) bool { return c.http != nil })
}

// closes tells whether all its connections end unopened with a fixed answer, whichever
// chain they take, and nobody is told of them.
func (l *listenerFacts) closes() bool {
	return len(l.chains) > 0 && !slices.ContainsFunc(l.chains, func(c chainFacts) bool { return !c.closes() })
}

func (c chainFacts) closes() bool {
	return c.answers && c.socket.kind == clear && c.http == nil && c.byName == "" && len(c.proxied) == 0 && len(c.sinks) == 0
}

func (l *listenerFacts) chain(name string) *chainFacts {
	for i := range l.chains {
		if l.chains[i].name == name {
			return &l.chains[i]
		}
	}
	return nil
}
