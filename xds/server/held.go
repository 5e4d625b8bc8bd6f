package server

import "github.com/polder/polder/xds"

// Held is what a node should have now.
type Held struct {
	// Connected tells whether the node follows this control plane.
	Connected bool
	// Settled tells that nothing was under way: all that was sent is answered,
	// and nothing is waiting to be sent. Only then Versions is certain.
	Settled bool
	// Versions are those that the node was sent last and did not reject, of the
	// resources that it asks for, secrets included.
	Versions map[xds.Key]string
}

// Held tells what a node should have now, by what it was sent and answered.
func (s *Server) Held(node string) Held {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := Held{Settled: true, Versions: map[xds.Key]string{}}
	for st := range s.streams {
		if st.node != node {
			continue
		}
		held.Connected = true
		for typeURL, sub := range st.types {
			if sub.inflight != nil || len(sub.dirty) > 0 || len(sub.suspects) > 0 {
				held.Settled = false
			}
			for name, r := range sub.sent {
				if r.Body != nil {
					held.Versions[xds.Key{Type: typeURL, Name: name}] = r.Version
				}
			}
		}
	}
	return held
}
