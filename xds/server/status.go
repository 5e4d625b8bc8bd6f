package server

import (
	"cmp"
	"slices"
	"time"

	"github.com/polder/polder/xds"
)

// NodeStatus is what the control plane knows of one connected Envoy.
type NodeStatus struct {
	Node       string       `json:"node"`
	Remote     bool         `json:"remote,omitempty"` // on another machine; not audited from here
	Client     bool         `json:"client,omitempty"` // no Envoy, but a program that calls without one
	Variant    string       `json:"variant"`          // "delta" or "state-of-the-world"
	Since      time.Time    `json:"since"`
	Types      []TypeStatus `json:"types"`
	Rejections []Rejection  `json:"rejections,omitempty"`
}

// TypeStatus counts one node's resources of one type.
type TypeStatus struct {
	Type     string `json:"type"`
	Accepted int    `json:"accepted"` // held by the Envoy at the version last sent
	Pending  int    `json:"pending"`  // sent and not answered, or to be sent
}

// Nodes lists the connected Envoys, sorted by name. The streams of single types
// that a node has in one variant are listed as one.
func (s *Server) Nodes() []NodeStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var nodes []NodeStatus
	separate := map[string]int{} // where in nodes, by name and variant
	for st := range s.streams {
		if st.node == "" {
			continue
		}
		node := st.status()
		if at, ok := separate[node.Variant+" "+node.Node]; ok && st.only != "" {
			nodes[at].join(node)
			continue
		}
		if st.only != "" {
			separate[node.Variant+" "+node.Node] = len(nodes)
		}
		node.Rejections = s.rejectionsOf(st.node)
		nodes = append(nodes, node)
	}
	for _, n := range nodes {
		slices.SortFunc(n.Types, func(a, b TypeStatus) int { return cmp.Compare(a.Type, b.Type) })
	}
	slices.SortFunc(nodes, func(a, b NodeStatus) int { return cmp.Compare(a.Node, b.Node) })
	return nodes
}

// status describes one stream.
func (st *stream) status() NodeStatus {
	node := NodeStatus{Node: st.node, Since: st.since, Variant: "state-of-the-world"}
	if st.delta {
		node.Variant = "delta"
	}
	for typeURL, sub := range st.types {
		if st.only != "" && typeURL != st.only {
			continue
		}
		node.Types = append(node.Types, sub.status(typeURL))
	}
	return node
}

// status describes what a stream has of one type.
func (sub *subscription) status(typeURL string) TypeStatus {
	t := TypeStatus{Type: typeURL, Pending: len(sub.dirty)}
	for _, r := range sub.sent {
		if r.Body != nil {
			t.Accepted++
		}
	}
	if sub.inflight != nil {
		n := len(sub.inflight.set)
		t.Pending, t.Accepted = t.Pending+n, max(0, t.Accepted-n)
	}
	return t
}

// join adds another stream of the same node, of one type.
func (n *NodeStatus) join(other NodeStatus) {
	if other.Since.Before(n.Since) {
		n.Since = other.Since
	}
	for _, t := range other.Types {
		at := slices.IndexFunc(n.Types, func(x TypeStatus) bool { return x.Type == t.Type })
		if at < 0 {
			n.Types = append(n.Types, t)
			continue
		}
		n.Types[at].Accepted += t.Accepted
		n.Types[at].Pending += t.Pending
	}
}

func (s *Server) rejectionsOf(node string) []Rejection {
	var list []Rejection
	for k, r := range s.rejections {
		if k.node == node {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b Rejection) int { return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name)) })
	return list
}

// Listens tells whether the node is connected and has answered to a listener, and to the
// filters that listeners wait for. It is asked often, and looks at nothing but these,
// which are few.
func (s *Server) Listens(node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		sub, filters := st.types[xds.TypeListener], st.types[xds.TypeExtension]
		if st.node == node && sub != nil && sub.status(xds.TypeListener).Accepted > 0 {
			return filters == nil || filters.status(xds.TypeExtension).Pending == 0
		}
	}
	return false
}
