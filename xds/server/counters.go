package server

import (
	"cmp"
	"slices"
)

// TypeCounters count the responses of one resource type since the Server was made.
type TypeCounters struct {
	Type     string // URL
	Pushed   uint64 // sent to an Envoy
	Accepted uint64 // acknowledged
	Rejected uint64
}

// Counters lists the counters of every type that was ever sent, by type.
func (s *Server) Counters() []TypeCounters {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []TypeCounters
	for _, c := range s.counters {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b TypeCounters) int { return cmp.Compare(a.Type, b.Type) })
	return list
}

// count returns the counters of a type of ours. Called with mu held.
func (s *Server) count(typeURL string) *TypeCounters {
	c := s.counters[typeURL]
	if c == nil {
		c = &TypeCounters{Type: typeURL}
		s.counters[typeURL] = c
	}
	return c
}
