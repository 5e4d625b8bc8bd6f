package server

import (
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"github.com/polder/polder/xds"
)

// The tests of this file hold each clause on the aggregated stream as well as on those
// of one type. A route stands for all types without a wildcard, a cluster for the others.

// transports are the methods of both transports for a type: delta, and the state of the world.
func transports(typeURL string) map[string][2]string {
	of := map[string][2]string{"aggregated": {
		"discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
		"discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"}}
	for _, s := range separateServices {
		if s.typeURL == typeURL {
			of["separate"] = [2]string{s.delta, s.state}
		}
	}
	return of
}

// deltaScript is a client of one type in one transport.
type deltaScript struct {
	*overTCP
	*deltaClient
	typeURL, method string
	t               *testing.T
}

func eachDelta(t *testing.T, typeURL string, o Options, test func(deltaScript)) {
	for name, methods := range transports(typeURL) {
		t.Run(name, func(t *testing.T) {
			c := newOverTCP(t, o)
			test(deltaScript{c, c.delta(methods[0]), typeURL, methods[0], t})
		})
	}
}

func (d deltaScript) again() deltaScript { d.deltaClient = d.overTCP.delta(d.method); return d }

// ask subscribes and unsubscribes (a minus before the name), as a first request would.
func (d deltaScript) ask(names ...string) { d.t.Helper(); d.reply("", names...) }

func (d deltaScript) reply(nonce string, names ...string) {
	d.t.Helper()
	r := &discovery.DeltaDiscoveryRequest{Node: fr1, TypeUrl: d.typeURL, ResponseNonce: nonce}
	for _, name := range names {
		if name[0] == '-' {
			r.ResourceNamesUnsubscribe = append(r.ResourceNamesUnsubscribe, name[1:])
		} else {
			r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, name)
		}
	}
	d.say(r)
}

// gets acknowledges the next response, which must be that.
func (d deltaScript) gets(want ...string) *discovery.DeltaDiscoveryResponse {
	d.t.Helper()
	r := holds(d.t, d.hear(), d.typeURL, want...)
	d.reply(r.Nonce)
	return r
}

// silent fails if anything is said before the answer to one question more.
func (d deltaScript) silent() {
	d.t.Helper()
	d.ask("nobody")
	d.gets("-nobody")
	d.ask("-nobody")
}

// stateScript is the same in the other variant.
type stateScript struct {
	*overTCP
	*stateClient
	typeURL, method string
	t               *testing.T
}

func eachState(t *testing.T, typeURL string, o Options, test func(stateScript)) {
	for name, methods := range transports(typeURL) {
		t.Run(name, func(t *testing.T) {
			c := newOverTCP(t, o)
			test(stateScript{c, c.state(methods[1]), typeURL, methods[1], t})
		})
	}
}

func (s stateScript) again() stateScript { s.stateClient = s.overTCP.state(s.method); return s }

// ask answers to last, unless that is nil, and names all that is wanted.
func (s stateScript) ask(last *discovery.DiscoveryResponse, names ...string) {
	s.t.Helper()
	s.say(&discovery.DiscoveryRequest{Node: fr1, TypeUrl: s.typeURL, ResourceNames: names,
		ResponseNonce: last.GetNonce(), VersionInfo: last.GetVersionInfo()})
}

func (s stateScript) gets(want ...string) *discovery.DiscoveryResponse {
	s.t.Helper()
	return isState(s.t, s.hear(), s.typeURL, want...)
}

// TestConformanceNodeInTheFirstRequest: later ones may leave the node out or repeat
// it, and must not name another; without one, nothing is served.
func TestConformanceNodeInTheFirstRequest(t *testing.T) {
	other := &core.Node{Id: "fr-9"}
	eachDelta(t, xds.TypeRoute, Options{}, func(d deltaScript) {
		d.set(d.typeURL, "a", "a1")
		d.ask("a")
		r := holds(t, d.hear(), d.typeURL, "a@a1")
		d.say(&discovery.DeltaDiscoveryRequest{TypeUrl: d.typeURL, ResponseNonce: r.Nonce})
		d.set(d.typeURL, "a", "a2")
		d.gets("a@a2")
		d.say(&discovery.DeltaDiscoveryRequest{Node: other, TypeUrl: d.typeURL})
		d.ends(codes.InvalidArgument)
		nameless := d.again()
		nameless.say(&discovery.DeltaDiscoveryRequest{TypeUrl: d.typeURL})
		nameless.ends(codes.InvalidArgument)
	})
	eachState(t, xds.TypeRoute, Options{}, func(s stateScript) {
		s.set(s.typeURL, "a", "a1")
		s.ask(nil, "a")
		r := s.gets("a1")
		s.say(&discovery.DiscoveryRequest{TypeUrl: s.typeURL, ResponseNonce: r.Nonce, VersionInfo: r.VersionInfo, ResourceNames: []string{"a"}})
		s.set(s.typeURL, "a", "a2")
		s.ask(s.gets("a2"), "a")
		s.say(&discovery.DiscoveryRequest{Node: other, TypeUrl: s.typeURL})
		s.ends(codes.InvalidArgument)
		nameless := s.again()
		nameless.say(&discovery.DiscoveryRequest{TypeUrl: s.typeURL})
		nameless.ends(codes.InvalidArgument)
	})
}

// TestConformanceDeltaWildcardIsLeft goes through the text's own example: all, all and
// A, A, nothing. What was left is sent again when it is wanted again.
func TestConformanceDeltaWildcardIsLeft(t *testing.T) {
	eachDelta(t, xds.TypeCluster, Options{}, func(d deltaScript) {
		d.set(d.typeURL, "a", "a1")
		d.set(d.typeURL, "b", "b1")
		d.set(d.typeURL, "c", "c1")
		d.ask()
		d.gets("a@a1", "b@b1", "c@c1")
		d.ask("a")
		d.gets("a@a1")
		d.ask("-*")
		d.silent()
		d.set(d.typeURL, "b", "b2")
		d.set(d.typeURL, "a", "a2")
		d.gets("a@a2")
		d.ask("-a")
		d.silent()
		d.set(d.typeURL, "a", "a3")
		d.ask() // not a wildcard any more
		d.silent()
		d.ask("*")
		d.gets("a@a3", "b@b2", "c@c1") // c is what it was, and the Envoy has dropped it
	})
}

// TestConformanceStateWildcardIsLeft does so in the other variant, in which no names
// mean everything only before the first name.
func TestConformanceStateWildcardIsLeft(t *testing.T) {
	eachState(t, xds.TypeCluster, Options{}, func(s stateScript) {
		s.set(s.typeURL, "a", "a1")
		s.set(s.typeURL, "b", "b1")
		s.ask(nil)
		s.ask(s.gets("a1", "b1"), "*", "a")
		r := s.gets("a1", "b1")
		s.ask(r, "a")
		s.heard("a")
		s.set(s.typeURL, "b", "b2")
		s.set(s.typeURL, "a", "a2")
		r = s.gets("a2")
		s.ask(r) // nothing at all
		s.heard()
		s.set(s.typeURL, "a", "a3")
		s.ask(r, "*")
		s.ask(s.gets("a3", "b2"), "*")
	})
}

// heard returns once the server knows that exactly these names are wanted.
func (s stateScript) heard(names ...string) {
	s.t.Helper()
	(&control{Server: s.Server, t: s.t}).until("the names are heard", func() bool {
		for st := range s.streams {
			sub := st.subscription(s.typeURL)
			if sub.wildcard || len(sub.names) != len(names) || sub.inflight != nil {
				return false
			}
			for _, name := range names {
				if !sub.names[name] {
					return false
				}
			}
		}
		return len(s.streams) > 0
	})
}

// TestConformanceDeltaUnsubscribeUnderWildcard: who wants everything and leaves a name
// is told whether the name is one of all.
func TestConformanceDeltaUnsubscribeUnderWildcard(t *testing.T) {
	eachDelta(t, xds.TypeCluster, Options{}, func(d deltaScript) {
		d.set(d.typeURL, "a", "a1")
		d.ask("*", "a", "nowhere")
		d.gets("a@a1")
		d.gets("-nowhere")
		d.ask("-a", "-nowhere")
		d.gets("a@a1")
		d.gets("-nowhere")
		d.set(d.typeURL, "a", "a2")
		d.gets("a@a2")
	})
}

// TestConformanceDeltaPhantomUnsubscribe: leaving what was never subscribed to, or
// not to be had, is no error and says nothing.
func TestConformanceDeltaPhantomUnsubscribe(t *testing.T) {
	eachDelta(t, xds.TypeRoute, Options{}, func(d deltaScript) {
		d.set(d.typeURL, "a", "a1")
		d.ask("b")
		d.gets("-b")
		d.ask("-a", "-phantom", "-*")
		d.silent()
	})
}

// TestConformanceDeltaStaleNonce: what a request subscribes to counts, whatever its
// nonce; the response that waits is not acknowledged by it.
func TestConformanceDeltaStaleNonce(t *testing.T) {
	eachDelta(t, xds.TypeRoute, Options{}, func(d deltaScript) {
		d.set(d.typeURL, "a", "a1")
		d.set(d.typeURL, "b", "b1")
		d.ask("a")
		r := holds(t, d.hear(), d.typeURL, "a@a1")
		d.reply("of another time", "b")
		d.again().ask("x") // one more stream, to which the names of this one are nothing
		(&control{Server: d.Server, t: t}).until("b is asked for, and a waits", func() bool {
			for st := range d.streams {
				if sub := st.subscription(d.typeURL); sub.names["b"] {
					return sub.inflight != nil && sub.inflight.nonce == r.Nonce
				}
			}
			return false
		})
		d.reply(r.Nonce)
		d.gets("b@b1")
	})
}

// TestConformanceDeltaResumption: an Envoy that connects again says what it has. It is
// sent what changed or went, and nothing else, however it asks for all or some.
func TestConformanceDeltaResumption(t *testing.T) {
	for name, wanted := range map[string][]string{"legacy wildcard": nil, "wildcard": {"*"}, "names": {"same", "newer", "gone"}} {
		t.Run(name, func(t *testing.T) {
			eachDelta(t, xds.TypeCluster, Options{}, func(d deltaScript) {
				d.set(d.typeURL, "same", "1")
				d.set(d.typeURL, "newer", "2")
				d.say(&discovery.DeltaDiscoveryRequest{Node: fr1, TypeUrl: d.typeURL, ResourceNamesSubscribe: wanted,
					InitialResourceVersions: map[string]string{"same": "1", "newer": "1", "gone": "1"}})
				d.gets("newer@2")
				d.gets("-gone")
				d.silent()
			})
		})
	}
}

// TestConformanceStateResumption: a nonce is of one stream. On the next one, the
// version that an Envoy says it has acknowledges nothing, and it is sent what it asks for.
func TestConformanceStateResumption(t *testing.T) {
	eachState(t, xds.TypeRoute, Options{}, func(s stateScript) {
		s.set(s.typeURL, "a", "a1")
		s.ask(nil, "a")
		r := s.gets("a1")
		s.ask(r, "a")
		next := s.again()
		next.ask(r, "a")
		next.ask(next.gets("a1"), "a")
		s.set(s.typeURL, "a", "a2")
		next.gets("a2")
		s.gets("a2")
	})
}

// TestConformanceStateNotThere: nothing says that a resource is not there, but a
// response without it; it is remembered that it is wanted, and sent once it is there.
// One that goes is not among the next ones, and the others stay what they were.
func TestConformanceStateNotThere(t *testing.T) {
	eachState(t, xds.TypeRoute, Options{}, func(s stateScript) {
		s.set(s.typeURL, "a", "a1")
		s.ask(nil, "a", "later")
		r := s.gets("a1")
		s.ask(r, "a", "later")
		s.ask(s.gets(), "a", "later") // "no-op"
		s.set(s.typeURL, "later", "l1")
		s.ask(s.gets("l1"), "a", "later")
		s.remove(s.typeURL, "a")
		s.ask(s.gets(), "a", "later")
		s.set(s.typeURL, "a", "a2")
		s.gets("a2")
	})
}

// TestConformanceNoNameTwice: a name that is asked for twice in one request is once in
// the response.
func TestConformanceNoNameTwice(t *testing.T) {
	eachDelta(t, xds.TypeCluster, Options{}, func(d deltaScript) {
		d.set(d.typeURL, "a", "a1")
		d.ask("a", "*", "a")
		d.gets("a@a1")
		d.silent()
	})
	eachState(t, xds.TypeCluster, Options{}, func(s stateScript) {
		s.set(s.typeURL, "a", "a1")
		s.ask(nil, "a", "*", "a")
		s.gets("a1")
	})
}

// TestConformanceOnlyChangesAreSent: an acknowledgement, or publishing the same again,
// sends nothing; the version says that something changed.
func TestConformanceOnlyChangesAreSent(t *testing.T) {
	eachDelta(t, xds.TypeRoute, Options{}, func(d deltaScript) {
		d.set(d.typeURL, "a", "a1")
		d.ask("a")
		d.gets("a@a1")
		d.set(d.typeURL, "a", "a1")
		d.silent()
	})
	eachState(t, xds.TypeRoute, Options{}, func(s stateScript) {
		s.set(s.typeURL, "a", "a1")
		s.ask(nil, "a")
		r := s.gets("a1")
		s.ask(r, "a")
		s.set(s.typeURL, "a", "a1")
		s.set(s.typeURL, "a", "a2")
		if next := s.gets("a2"); next.VersionInfo == r.VersionInfo || next.Nonce == r.Nonce {
			t.Errorf("a change came with version %q and nonce %q, those of the response before", next.VersionInfo, next.Nonce)
		}
	})
}

// TestConformanceErrorDetailRejects: a request with error_detail is a NACK, whatever
// version it names, and its words are kept; one without is an ACK.
func TestConformanceErrorDetailRejects(t *testing.T) {
	rejected := make(chan Rejection, 10)
	o := Options{Rejected: func(r Rejection) { rejected <- r }}
	told := func() {
		t.Helper()
		if r := <-rejected; r.Name != "a" || r.Reason != "it is bad" || r.Version != "a1" {
			t.Errorf("the rejection is %+v", r)
		}
	}
	eachDelta(t, xds.TypeRoute, o, func(d deltaScript) {
		d.set(d.typeURL, "a", "a1")
		d.ask("a")
		r := holds(t, d.hear(), d.typeURL, "a@a1")
		d.say(&discovery.DeltaDiscoveryRequest{TypeUrl: d.typeURL, ResponseNonce: r.Nonce, ErrorDetail: &rpcstatus.Status{Message: "it is bad"}})
		told()
		d.gets("-a") // what it has instead: nothing
		d.set(d.typeURL, "a", "a2")
		d.gets("a@a2")
	})
	eachState(t, xds.TypeRoute, o, func(s stateScript) {
		s.set(s.typeURL, "a", "a1")
		s.ask(nil, "a")
		r := s.gets("a1")
		s.say(&discovery.DiscoveryRequest{TypeUrl: s.typeURL, ResponseNonce: r.Nonce, VersionInfo: r.VersionInfo,
			ResourceNames: []string{"a"}, ErrorDetail: &rpcstatus.Status{Message: "it is bad"}})
		told()
	})
}

// TestConformanceSeveralStreams: of one node, each has what it asked for itself.
func TestConformanceSeveralStreams(t *testing.T) {
	eachDelta(t, xds.TypeEndpoint, Options{}, func(d deltaScript) {
		d.set(d.typeURL, "foo", "f1")
		d.set(d.typeURL, "bar", "b1")
		other := d.again()
		d.ask("foo")
		d.gets("foo@f1")
		other.ask("bar")
		other.gets("bar@b1")
		d.set(d.typeURL, "bar", "b2")
		other.gets("bar@b2")
		d.silent()
	})
	eachState(t, xds.TypeEndpoint, Options{}, func(s stateScript) {
		s.set(s.typeURL, "foo", "f1")
		s.set(s.typeURL, "bar", "b1")
		other := s.again()
		s.ask(nil, "foo")
		s.ask(s.gets("f1"), "foo")
		other.ask(nil, "bar")
		other.ask(other.gets("b1"), "bar")
		s.set(s.typeURL, "bar", "b2")
		other.gets("b2")
		s.set(s.typeURL, "foo", "f2")
		s.gets("f2")
	})
}
