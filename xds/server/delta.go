package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/polder/polder/xds"
)

// DeltaAggregatedResources serves one Envoy that speaks the delta variant.
func (s *Server) DeltaAggregatedResources(wire discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return s.serveDelta("", wire)
}

// serveDelta serves a stream of one type, or of all if only is empty.
func (s *Server) serveDelta(only string, wire deltaWire) error {
	st := newStream(s, true, only)
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
			st.hearDelta(request)
			return nil
		},
		func(typeURL string, r *response) error {
			message := &discovery.DeltaDiscoveryResponse{
				TypeUrl: typeURL, Nonce: r.nonce, SystemVersionInfo: r.version, RemovedResources: r.remove,
			}
			for _, resource := range r.set {
				message.Resources = append(message.Resources, &discovery.Resource{
					Name: resource.Name, Version: resource.Version, Resource: resource.Body})
			}
			return wire.Send(message)
		})
}

// serve runs one stream until it ends: one goroutine hears, another sends, and
// the caller's watches both. They end when the caller has returned, which ends
// their stream.
func (s *Server) serve(ctx context.Context, st *stream, hear func() error, send func(string, *response) error) error {
	s.join(st)
	defer s.leave(st)
	ended := make(chan error, 2)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			if err := hear(); err != nil {
				ended <- err
				return
			}
		}
	}()
	go func() { ended <- st.sendAll(send, stop) }()
	watch := time.NewTicker(s.options.AnswerWait / 4)
	defer watch.Stop()
	for {
		select {
		case now := <-watch.C:
			if err := st.overdue(now); err != nil {
				s.options.Log.Warn("envoy does not answer; its stream is ended", "node", st.node, "reason", err)
				return status.Error(codes.DeadlineExceeded, err.Error())
			}
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sendAll sends what is due, one message of a type at a time, until stop.
func (st *stream) sendAll(send func(string, *response) error, stop <-chan struct{}) error {
	s := st.server
	warm := time.NewTimer(time.Hour)
	defer warm.Stop()
	for {
		for {
			s.mu.Lock()
			typeURL, r := st.next(time.Now())
			wait := time.Until(st.warmUntil)
			s.mu.Unlock()
			if r == nil {
				if wait > 0 {
					warm.Reset(wait)
				}
				break
			}
			if err := send(typeURL, r); err != nil {
				return err
			}
		}
		select {
		case <-st.wake:
		case <-warm.C:
		case <-stop:
			return nil
		}
	}
}

// overdue tells of a response that the Envoy should have answered by now,
// whether it has not answered it or not even read it.
func (st *stream) overdue(now time.Time) error {
	s := st.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for typeURL, sub := range st.types {
		if r := sub.inflight; r != nil && now.Sub(r.at) > s.options.AnswerWait {
			return fmt.Errorf("node %q has not answered for %s to %d resources of type %s",
				st.node, now.Sub(r.at).Round(time.Second), len(r.set)+len(r.remove), typeURL)
		}
	}
	return nil
}

// introduce takes the node's name from the first message that has one.
func (st *stream) introduce(node string) error {
	s := st.server
	s.mu.Lock()
	known := st.node
	if known == "" {
		st.node = node
	}
	s.mu.Unlock()
	switch {
	case known != "" && (node == "" || node == known):
		return nil
	case known != "":
		return status.Errorf(codes.InvalidArgument, "node %q cannot become %q on one stream", known, node)
	case node == "":
		return status.Error(codes.InvalidArgument, "the first request names no node")
	case s.options.Accept == nil:
		return nil
	}
	if err := s.options.Accept(node); err != nil {
		return status.Errorf(codes.PermissionDenied, "node %q: %v", node, err)
	}
	return nil
}

// hearDelta takes in one request: an answer, a change of subscription, or both.
func (st *stream) hearDelta(request *discovery.DeltaDiscoveryRequest) {
	s := st.server
	s.mu.Lock()
	sub := st.subscription(request.TypeUrl)
	first := !sub.asked
	sub.asked = true
	var rejection *Rejection
	var asked []string
	if r := sub.inflight; r != nil && request.ResponseNonce == r.nonce {
		if detail := request.ErrorDetail; detail != nil {
			rejection = st.reject(request.TypeUrl, sub, detail.Message, time.Now())
		} else {
			st.accept(request.TypeUrl, sub)
		}
	}
	if first {
		for name, version := range request.InitialResourceVersions {
			sub.sent[name] = st.held(request.TypeUrl, name, version)
			sub.dirty[name] = true // it may be gone, or newer
		}
		sub.wildcard = len(request.ResourceNamesSubscribe) == 0 && len(request.ResourceNamesUnsubscribe) == 0
		if sub.wildcard {
			sub.greet = true
			st.wantAll(request.TypeUrl, sub)
		}
	}
	for _, name := range request.ResourceNamesSubscribe {
		if name == "*" {
			sub.wildcard, sub.greet = true, true
			st.wantAll(request.TypeUrl, sub)
			continue
		}
		// Whoever asks again wants an answer, even if it is the same.
		sub.names[name] = true
		delete(sub.withheld, name)
		if request.TypeUrl == xds.TypeSecret && !first {
			asked = append(asked, name)
		}
		if _, initial := request.InitialResourceVersions[name]; !initial || !first {
			delete(sub.sent, name)
		}
		sub.dirty[name] = true
	}
	for _, name := range request.ResourceNamesUnsubscribe {
		if name == "*" {
			sub.wildcard = false
			st.forgetUnwanted(sub)
			continue
		}
		if sub.names[name] && sub.wildcard {
			// The Envoy cannot know whether it is one of all, and is told, present or not.
			sub.sent[name] = xds.Resource{Key: xds.Key{Type: request.TypeUrl, Name: name}, Body: unknownBody}
			sub.dirty[name] = true
		}
		delete(sub.names, name)
		st.forget(sub, name)
	}
	st.kick()
	s.mu.Unlock()
	if rejection != nil {
		s.report(*rejection)
	}
	if s.options.Asked != nil {
		for _, name := range asked {
			s.options.Asked(name)
		}
	}
}

// held reconstructs what a reconnecting Envoy says that it has. Its body
// matters only when the version is still the present one.
func (st *stream) held(typeURL, name, version string) xds.Resource {
	key := xds.Key{Type: typeURL, Name: name}
	if r, ok := st.server.effective(st.node, key); ok && r.Version == version {
		return r
	}
	return xds.Resource{Key: key, Version: version, Body: unknownBody}
}

func (st *stream) wantAll(typeURL string, sub *subscription) {
	for name := range st.server.current[typeURL] {
		sub.dirty[name] = true
	}
}

func (s *Server) report(r Rejection) {
	s.options.Log.Error("envoy rejected a resource; it keeps the last accepted version",
		"node", r.Node, "resource", r.Name, "type", r.Type, "version", r.Version, "reason", r.Reason)
	if s.options.Rejected != nil {
		s.options.Rejected(r)
	}
}
