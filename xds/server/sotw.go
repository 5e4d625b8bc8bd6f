package server

import (
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/polder/polder/xds"
)

// unknownBody stands for bytes that an Envoy has and we do not.
var unknownBody = new(anypb.Any)

// StreamAggregatedResources serves one Envoy that speaks the state-of-the-world variant.
func (s *Server) StreamAggregatedResources(wire discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return s.serveState("", wire)
}

// serveState serves a stream of one type, or of all if only is empty.
func (s *Server) serveState(only string, wire stateWire) error {
	st := newStream(s, false, only)
	return s.serve(wire.Context(), st,
		func() error {
			request, err := wire.Recv()
			if err != nil {
				return err
			}
			if err := st.introduce(request.GetNode().GetId()); err != nil {
				return err
			}
			if request.TypeUrl, err = st.typeOf(request.TypeUrl); err != nil {
				return err
			}
			st.hearState(request)
			return nil
		},
		func(typeURL string, r *response) error {
			message := &discovery.DiscoveryResponse{TypeUrl: typeURL, Nonce: r.nonce, VersionInfo: r.version}
			for _, resource := range r.set {
				message.Resources = append(message.Resources, resource.Body)
			}
			return wire.Send(message)
		})
}

// fullState tells whether each response of the type must hold everything that
// was asked for: in this variant an absence is how a removal is told.
func fullState(typeURL string) bool {
	return typeURL == xds.TypeListener || typeURL == xds.TypeCluster || typeURL == xds.TypeScope
}

// collectAll gathers the whole state of a type. While removals are not due,
// what the Envoy has of the removed resources stays in it.
func (st *stream) collectAll(step step, sub *subscription) *response {
	due := map[string]bool{}
	for name := range sub.dirty {
		resource, exists := st.server.effective(st.node, xds.Key{Type: step.typeURL, Name: name})
		exists = exists && sub.wants(name)
		had, known := sub.sent[name]
		switch {
		case exists && known && had.Version == resource.Version, !exists && !known:
			st.drop(sub, name)
		case exists != step.removing && step.has(name):
			due[name] = true
		}
	}
	if len(due) == 0 && !sub.greeting(step) {
		return nil
	}
	sub.greet = sub.greet && step.removing
	r := &response{previous: map[string]xds.Resource{}}
	if !step.removing && len(sub.suspects) > 0 {
		sub.nextSuspects() // these may be sent, all other suspects not yet
	}
	for name := range due {
		if sub.suspect[name] {
			continue
		}
		delete(sub.dirty, name)
		if step.removing {
			r.remove = append(r.remove, name)
			delete(sub.sent, name)
			continue
		}
		r.previous[name] = sub.sent[name]
		sub.sent[name], _ = st.server.effective(st.node, xds.Key{Type: step.typeURL, Name: name})
	}
	for _, resource := range sub.sent {
		if resource.Body != nil {
			r.set = append(r.set, resource)
		}
	}
	sortResponse(r)
	return r
}

// hearState takes in one request: an answer, a list of names, or both.
func (st *stream) hearState(request *discovery.DiscoveryRequest) {
	s := st.server
	s.mu.Lock()
	sub := st.subscription(request.TypeUrl)
	first := !sub.asked
	sub.asked = true
	sub.greet = sub.greet || first && fullState(request.TypeUrl)
	var rejection *Rejection
	stale := sub.inflight != nil && request.ResponseNonce != "" && request.ResponseNonce != sub.inflight.nonce
	if r := sub.inflight; r != nil && request.ResponseNonce == r.nonce {
		if detail := request.ErrorDetail; detail != nil {
			r.set = r.changed() // the others were there before and are not at fault
			rejection = st.reject(request.TypeUrl, sub, detail.Message, time.Now())
		} else {
			st.accept(request.TypeUrl, sub)
		}
	}
	if !stale {
		st.wantNames(request, sub)
	}
	st.kick()
	s.mu.Unlock()
	if rejection != nil {
		s.report(*rejection)
	}
}

// wantNames replaces the names that the Envoy asks for. No names mean all of the
// type only while none was ever named: after that they mean nothing at all (xDS
// protocol, "How the client specifies what resources to return").
func (st *stream) wantNames(request *discovery.DiscoveryRequest, sub *subscription) {
	wanted := map[string]bool{}
	for _, name := range request.ResourceNames {
		wanted[name] = true
	}
	sub.named = sub.named || len(wanted) > 0
	all := !sub.named || wanted["*"]
	delete(wanted, "*")
	if all && !sub.wildcard {
		st.wantAll(request.TypeUrl, sub)
	}
	sub.wildcard = all
	for name := range wanted {
		if !sub.names[name] {
			delete(sub.sent, name)
			sub.dirty[name] = true
		}
	}
	sub.names = wanted
	st.forgetUnwanted(sub)
}

// forgetUnwanted drops what is known of resources that the Envoy does not ask for any
// more. One that it asks for again is sent again, even if it has not changed.
func (st *stream) forgetUnwanted(sub *subscription) {
	for name := range sub.sent {
		st.forget(sub, name)
	}
	for name := range sub.dirty {
		st.forget(sub, name)
	}
}

// forget does so for one name.
func (st *stream) forget(sub *subscription, name string) {
	if !sub.wants(name) {
		delete(sub.sent, name)
		delete(st.warming, name)
		st.drop(sub, name)
	}
}

// changed keeps those resources of a response that the Envoy did not have before.
func (r *response) changed() []xds.Resource {
	var changed []xds.Resource
	for _, resource := range r.set {
		if _, ok := r.previous[resource.Name]; ok {
			changed = append(changed, resource)
		}
	}
	return changed
}
