package server

import (
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

type rejectionKey struct {
	node string
	key  xds.Key
}

// accept records that the Envoy took the response in flight. Called with mu held.
func (st *stream) accept(typeURL string, sub *subscription) {
	r := sub.inflight
	sub.inflight = nil
	st.server.count(typeURL).Accepted++
	for _, resource := range r.set {
		if typeURL == xds.TypeEndpoint {
			delete(st.warming, resource.Name)
		}
		if typeURL == xds.TypeSecret {
			continue // keys are kept nowhere but at their owner
		}
		st.server.good[resource.Key] = resource
		st.server.options.Archive.keep(resource)
		delete(st.server.rejections, rejectionKey{st.node, resource.Key})
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
	sub.inflight = nil
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
	st.server.rejections[rejectionKey{st.node, culprit.Key}] = rejection
	if typeURL == xds.TypeSecret {
		return &rejection
	}
	st.server.bad[culprit.Key] = culprit.Version
	st.server.options.Archive.condemn(culprit)
	// The Envoy itself still holds what it had. Others, and this one after a
	// restart, get the last accepted version.
	if good, ok := st.server.good[culprit.Key]; ok && r.previous[culprit.Name].Version == good.Version {
		sub.sent[culprit.Name] = good
	} else {
		sub.dirty[culprit.Name] = true
	}
	for other := range st.server.streams {
		if other != st {
			other.mark(culprit.Key)
		}
	}
	return &rejection
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
	for k := range s.rejections {
		if k.key == key {
			delete(s.rejections, k)
		}
	}
}
