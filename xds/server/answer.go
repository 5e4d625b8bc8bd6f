package server

import (
	"maps"
	"strings"
	"time"

	"github.com/polder/polder/xds"
)

// Rejection is a resource that an Envoy did not accept.
type Rejection struct {
	Node    string    `json:"node"`
	Type    string    `json:"type"`
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Reason  string    `json:"reason"` // Envoy's own words
	At      time.Time `json:"at"`
	// Cause is where the configuration says what the resource was made of,
	// FILE:LINE:COLUMN. The Server leaves it empty; whoever knows the configuration fills it in.
	Cause string `json:"cause,omitempty"`
}

// nodeKey is one resource of one node.
type nodeKey struct {
	node string
	key  xds.Key
}

// refusal is a version that a node rejected, and what it gets instead while that is
// the current one; Body nil for nothing.
type refusal struct {
	version string
	instead xds.Resource
}

// accept records that the Envoy took the response in flight. Called with mu held.
func (st *stream) accept(typeURL string, sub *subscription) {
	r := sub.inflight
	sub.inflight, st.givenUp = nil, false
	st.server.count(typeURL).Accepted++
	for _, resource := range r.set {
		if typeURL == xds.TypeEndpoint {
			delete(st.warming, resource.Name)
		}
		if typeURL == xds.TypeSecret {
			continue // keys are kept nowhere but at their owner
		}
		if st.server.current[typeURL][resource.Name].Version != resource.Version {
			continue // it has changed since, or takes the place of one that was rejected
		}
		st.server.good[resource.Key] = resource
		delete(st.server.rejections, nodeKey{st.node, resource.Key})
		delete(st.server.refused, nodeKey{st.node, resource.Key})
		st.server.options.Archive.keep(st.node, resource)
	}
	if typeURL == xds.TypeEndpoint {
		for _, name := range r.remove {
			delete(st.warming, name)
		}
	}
	st.server.answered()
	st.kick()
}

// reject takes a rejected response apart. With one resource in it, that one is
// at fault; with several, those that Envoy's words name are sent apart from the
// others, or one half from the other. It returns the rejection to report, if
// the culprit is known. Called with mu held.
func (st *stream) reject(typeURL string, sub *subscription, reason string, now time.Time) *Rejection {
	r := sub.inflight
	sub.inflight, st.givenUp = nil, false
	st.server.count(typeURL).Rejected++
	defer st.server.answered()
	defer st.kick()
	for _, name := range r.remove {
		if len(r.set) > 0 { // else it would be rejected again and again
			sub.sent[name], sub.dirty[name] = r.previous[name], true
		}
	}
	if len(r.set) != 1 {
		names := make([]string, 0, len(r.set))
		for _, resource := range r.set {
			sub.sent[resource.Name] = r.previous[resource.Name]
			sub.dirty[resource.Name], sub.suspect[resource.Name] = true, true
			names = append(names, resource.Name)
		}
		sub.suspects = append(takeApart(names, reason), sub.suspects...)
		return nil
	}
	culprit := r.set[0]
	if typeURL == xds.TypeEndpoint {
		delete(st.warming, culprit.Name)
	}
	rejection := Rejection{
		Node: st.node, Type: typeURL, Name: culprit.Name,
		Version: culprit.Version, Reason: reason, At: now,
	}
	st.server.rejections[nodeKey{st.node, culprit.Key}] = rejection
	if typeURL == xds.TypeSecret {
		return &rejection
	}
	// The Envoy itself still holds what it had, and gets it again after a restart.
	// Other Envoys answer for themselves: one that is broken, or lies, stops nobody.
	previous := r.previous[culprit.Name]
	no := refusal{culprit.Version, st.server.lastGood(st.node, culprit, previous)}
	st.server.refused[nodeKey{st.node, culprit.Key}] = no
	st.server.options.Archive.refuse(st.node, culprit.Key, no)
	if no.instead.Body != nil && previous.Version == no.instead.Version {
		sub.sent[culprit.Name] = previous
	} else {
		sub.dirty[culprit.Name] = true
	}
	return &rejection
}

// lastGood is what a node gets in the place of a resource that it rejected: what it
// had, else what it got instead of an earlier one, else what some Envoy accepted.
// Body is nil for nothing.
func (s *Server) lastGood(node string, culprit, had xds.Resource) xds.Resource {
	if had.Body != nil && had.Body != unknownBody {
		return had
	}
	if no := s.refused[nodeKey{node, culprit.Key}]; no.instead.Body != nil {
		return no.instead
	}
	if good := s.good[culprit.Key]; good.Version != culprit.Version {
		return good
	}
	return xds.Resource{}
}

// takeApart makes groups of the names of a rejected response, of which each will
// be sent by itself.
func takeApart(names []string, reason string) [][]string {
	var named, others []string
	for _, name := range names {
		if strings.Contains(reason, name) {
			named = append(named, name)
		} else {
			others = append(others, name)
		}
	}
	if len(named) == 0 || len(others) == 0 {
		half := len(names) / 2
		return [][]string{names[:half], names[half:]}
	}
	return [][]string{named, others}
}

func (s *Server) forgetRejections(key xds.Key) {
	is := func(k nodeKey) bool { return k.key == key }
	maps.DeleteFunc(s.rejections, func(k nodeKey, _ Rejection) bool { return is(k) })
	maps.DeleteFunc(s.refused, func(k nodeKey, _ refusal) bool { return is(k) })
}
