package xds

import (
	"reflect"
	"slices"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// Hosts remembers what the law said of every service, and tells whether the
// resources of the node, which say what happens to each host, would differ from
// those made last. It costs time in proportion to what changes: a service whose
// hosts are treated as before, or a host that moves between services which are
// served alike, changes nothing. The zero value is ready; not safe for
// concurrent use.
type Hosts struct {
	judged    map[polder.ServiceName]law.Approved
	treated   map[string]treatment
	before    map[string]treatment // of the hosts touched since Node; zero for none
	wildcards int                  // hosts with a wildcard, of all services
	stale     bool                 // Node was never called, or a wildcard's routes changed
}

// treatment is what happens to the connections for one host.
type treatment struct {
	owner   polder.ServiceName
	verdict law.Verdict
	chain   string // where its connections go; "" when the verdict tells
}

// Put takes in the law's word on a service, new or not.
func (h *Hosts) Put(a law.Approved) {
	if h.judged == nil {
		h.judged, h.treated, h.before = map[polder.ServiceName]law.Approved{}, map[string]treatment{}, map[string]treatment{}
		h.stale = true
	}
	s := a.Service()
	old, known := h.judged[s.Name]
	if known {
		h.drop(old, a)
	}
	h.judged[s.Name] = a
	now := treatment{owner: s.Name, verdict: a.Verdict()}
	if now.verdict == law.Pass {
		now.chain = passOf(a).name
	}
	for _, host := range s.Hosts {
		if now.verdict == law.Serve {
			now.chain = servingChain(a, string(host))
			if a.Home() != (law.Home{}) {
				now.chain += " " + passOf(a).name
			}
		}
		h.treat(string(host), now)
	}
	// The routes of wildcard hosts are the node's.
	if h.wildcards > 0 && slices.ContainsFunc(plain(s.Hosts), isWildcard) {
		h.stale = h.stale || !known || !reflect.DeepEqual(old.Service(), s)
	}
}

// Remove forgets a service.
func (h *Hosts) Remove(name polder.ServiceName) {
	if old, ok := h.judged[name]; ok {
		h.drop(old, law.Approved{})
		delete(h.judged, name)
	}
}

// drop forgets the hosts that the service no longer has.
func (h *Hosts) drop(old, now law.Approved) {
	name := old.Service().Name
	for _, host := range old.Service().Hosts {
		if h.treated[string(host)].owner == name && !slices.Contains(now.Service().Hosts, host) {
			h.treat(string(host), treatment{})
		}
	}
}

// treat sets what happens to a host; the zero treatment removes it.
func (h *Hosts) treat(host string, now treatment) {
	was := h.treated[host]
	if was == now {
		return
	}
	if _, touched := h.before[host]; !touched {
		h.before[host] = was
	}
	if isWildcard(host) && (was == treatment{}) != (now == treatment{}) {
		if now != (treatment{}) {
			h.wildcards++
		} else {
			h.wildcards--
			h.stale = true
		}
	}
	if now == (treatment{}) {
		delete(h.treated, host)
	} else {
		h.treated[host] = now
	}
}

// Changed tells whether Node would give other resources than the last time,
// for the same configuration of the node.
func (h *Hosts) Changed() bool {
	if h.judged == nil || h.stale {
		return true
	}
	for host, was := range h.before {
		now := h.treated[host]
		if h.wildcards == 0 {
			// Without wildcards it is all the same who owns a host.
			was.owner, now.owner = "", ""
		}
		if was != now {
			return true
		}
	}
	return false
}

// Node gives the resources of the node for what the law said. It costs time in
// proportion to the number of services.
func (h *Hosts) Node(n NodeConfig) []Resource {
	judged := make([]law.Approved, 0, len(h.judged))
	for _, a := range h.judged {
		judged = append(judged, a)
	}
	h.stale = h.judged == nil
	clear(h.before)
	return Node(judged, n)
}
