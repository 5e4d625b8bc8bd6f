package proof

import (
	"hash/fnv"
	"iter"
	"slices"

	"github.com/polder/polder"
)

// unit is a part of the proof that is judged at once: a resource, or one
// virtual host of a route configuration.
type unit struct {
	Key
	part int // index of the virtual host; whole for the resource
}

const whole = -1

// ofName is the type of the units for the names that listeners choose by. They have
// no resource of their own.
const ofName = "name"

// What conclusions rest on beside resources are keys too, of these types.
const (
	onSite      = "book/site"
	onPeers     = "book/peers"
	onHost      = "book/host"    // whose it is
	onBelow     = "book/below"   // the hosts below a wildcard
	onEnds      = "book/ends"    // when broken glass is whole
	onGates     = "gates"        // what the listeners that callers and peers come to do with a name
	onService   = "book/service" // what the law allows
	onInstances = "instances"    // addresses of a service here
	onAddress   = "book/address" // who has it by the configuration
	onSeen      = "seen"         // whose instances were seen at an address
)

// state is everything that conclusions can rest on. It is only replaced, never
// changed, while a view looks at it.
type state struct {
	book      *Book
	resources map[Key]*facts
	instances map[polder.ServiceName][]polder.Endpoint
	holders   map[string][]holder // of observed instances, by address
	gates     []gate
	through   map[led]map[string]bool // whose connections may still go there; replaced as a whole
	recalled  bool                    // through is an earlier checker's

	// Overlay of a proposal; nil values are removals.
	newResources map[Key]*facts
	newInstances map[polder.ServiceName][]polder.Endpoint
	newHolders   map[string][]holder
}

// view reads the state for one unit and writes down what it read, found or
// not: when any of that changes, the unit must be judged again.
//
// Everything rests on the unit's own resource and on the site; that is not
// written down.
type view struct {
	*state
	own   Key
	rests map[Key]struct{}
	found []Violation
}

func (v *view) restsOn(k Key) {
	if k != v.own {
		v.rests[k] = struct{}{}
	}
}

// facts reads a resource; nil if there is none of that name.
func (v *view) facts(k Key) *facts {
	v.restsOn(k)
	return v.resource(k)
}

func (s *state) resource(k Key) *facts {
	if f, ok := s.newResources[k]; ok {
		return f
	}
	return s.resources[k]
}

func (s *state) site() *Site { return &s.book.site }

// peersAt lists the regions whose peers have an address.
func (v *view) peersAt(address string) []polder.RegionName {
	v.restsOn(Key{onPeers, ""})
	return v.book.peers[address]
}

// service reads what the law allows a service; nil if it does not exist.
func (v *view) service(name polder.ServiceName) *entry {
	v.restsOn(Key{onService, string(name)})
	e, _ := v.book.services.get(string(name))
	return e
}

// owner finds the service of a host or wildcard, exactly as written.
func (v *view) owner(host string) *entry {
	v.restsOn(Key{onHost, host})
	if name, _ := v.book.owners.get(host); name != "" {
		return v.service(name)
	}
	return nil
}

// ends tells whether some broken glass is whole at that second.
func (v *view) ends(second int64) bool {
	v.restsOn(Key{onEnds, ""})
	return v.book.ends[second] > 0
}

// former finds the service that a host belonged to which nobody has now, as it was; nil
// if there is none.
func (v *view) former(host string) *entry {
	v.restsOn(Key{onHost, host})
	return v.book.former[host]
}

func (v *view) below(wildcard string) []string {
	v.restsOn(Key{onBelow, wildcard})
	return v.book.below(wildcard)
}

// has tells whether an address is one of the service's in this region, by the
// configuration or because an instance runs there.
func (v *view) has(e *entry, address string) bool {
	v.restsOn(Key{onInstances, string(e.name)})
	if slices.Contains(e.local, address) {
		return true
	}
	list, ok := v.newInstances[e.name]
	if !ok {
		list = v.instances[e.name]
	}
	return slices.ContainsFunc(list, func(i polder.Endpoint) bool {
		return i.Service == e.name && i.Region == v.site().Region && canonical(i.Address) == address
	})
}

// holdersOf lists who has an address, by the configuration or as observed.
func (v *view) holdersOf(address string) iter.Seq[holder] {
	v.restsOn(Key{onAddress, address})
	return func(yield func(holder) bool) {
		configured, _ := v.book.holders.get(address)
		for _, list := range [][]holder{configured, v.observed(address)} {
			for _, h := range list {
				if !yield(h) {
					return
				}
			}
		}
	}
}

// observed lists the services that an instance of was seen at an address.
func (v *view) observed(address string) []holder {
	v.restsOn(Key{onSeen, address})
	return v.seen(address)
}

func (s *state) seen(address string) []holder {
	if list, ok := s.newHolders[address]; ok {
		return list
	}
	return s.holders[address]
}

// isInstance tells whether an address is an instance's of some service that this region
// serves now. If it is, that rests on the one service that was found and not on who else has the
// address, which may be as many as there are services. Each resource looks from another one on, so
// that not all rest on the same.
func (v *view) isInstance(address string) bool {
	configured, _ := v.book.holders.get(address)
	seen := v.seen(address)
	all, first := len(configured)+len(seen), v.own.hash()
	for i := range all {
		at := (first + i) % all
		var h holder
		if at < len(configured) {
			h = configured[at]
		} else {
			h = seen[at-len(configured)]
		}
		if h.region != v.site().Region {
			continue
		}
		if e := v.service(h.service); e != nil && e.opened && v.has(e, address) {
			return true
		}
	}
	return false
}

// hash is a number from 0 on that hardly any other key has.
func (k Key) hash() int {
	sum := fnv.New32a()
	sum.Write([]byte(k.Name))
	return int(sum.Sum32() >> 1)
}

// callers finds the services whose callers a violation concerns. It is asked
// only once there is one.
type callers func() []polder.ServiceName

func everybody() []polder.ServiceName { return nil }

// report adds a violation.
func (v *view) report(services []polder.ServiceName, path []string, address, reason string) {
	services = slices.Clone(services)
	slices.Sort(services)
	services = slices.Compact(services)
	v.found = append(v.found, Violation{
		Services: services[:min(len(services), maxServices)],
		Path:     slices.Clone(path), Address: address, Reason: reason,
	})
}

// extend adds elements to a path without touching the original.
func extend(path []string, more ...string) []string {
	return append(path[:len(path):len(path)], more...)
}
