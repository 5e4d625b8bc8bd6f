package gateway

import (
	"slices"
	"sync"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// servedHere is the law's word on the services that are served in this region, as it
// came into force last. The zero value knows of none, and permits nothing. Safe for
// concurrent use.
type servedHere struct {
	mu sync.RWMutex
	by map[polder.ServiceName]law.Approved
}

// of is the law's word on a service; false when it is not served here.
func (s *servedHere) of(name polder.ServiceName) (law.Approved, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a, ok := s.by[name]
	return a, ok
}

// owner is the service to which a host belongs: the host itself, or else the longest
// wildcard above it. It looks at all services, and is asked only about requests for one
// that is no more. The keyring has an index of hosts, but follows a change later than
// this, and would name the former owner meanwhile.
func (s *servedHere) owner(host string) (polder.ServiceName, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return mostSpecific(canonicalHost(host), func(name string) (polder.ServiceName, bool) {
		for service, a := range s.by {
			if slices.Contains(a.Service().Hosts, polder.Host(name)) {
				return service, true
			}
		}
		return "", false
	})
}

// mayKeep tells whether records of that kind about a service may be kept here.
func (s *servedHere) mayKeep(name polder.ServiceName, kind polder.Record) bool {
	a, ok := s.of(name)
	return ok && a.MayKeep(kind)
}

// replace makes these the services that are served, and lists those that are no more.
// It takes the map over.
func (s *servedHere) replace(all map[polder.ServiceName]law.Approved) (gone []polder.ServiceName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.by {
		if _, ok := all[name]; !ok {
			gone = append(gone, name)
		}
	}
	s.by = all
	return gone
}

// change brings into force what is different, at one instant, and leaves all others.
func (s *servedHere) change(served map[polder.ServiceName]law.Approved, gone []polder.ServiceName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range gone {
		delete(s.by, name)
	}
	if s.by == nil {
		s.by = map[polder.ServiceName]law.Approved{}
	}
	for name, a := range served {
		s.by[name] = a
	}
}
