package proof

import (
	"maps"
	"reflect"
	"slices"
	"time"
)

// compareBooks notes what conclusions can rest on and differs between two books. It
// costs time in proportion to the change if one was made of the other, else a
// comparison per service; and nothing is proved again for a service that is the same.
func compareBooks(before, after *Book, changed map[Key]bool) {
	if before == after {
		return
	}
	compareFormer(before.former, after.former, changed)
	if !maps.Equal(before.ends, after.ends) {
		changed[Key{onEnds, ""}] = true
	}
	if after.from == before.mark {
		for name := range after.changed.services {
			compareService(before, after, name, changed)
		}
		for host := range after.changed.hosts {
			compareHost(before, after, host, changed)
		}
		for address := range after.changed.addresses {
			compareAddress(before, after, address, changed)
		}
		return
	}
	comparePeers(before, after, changed)
	both(before.services, after.services, func(name string) { compareService(before, after, name, changed) })
	both(before.owners, after.owners, func(host string) { compareHost(before, after, host, changed) })
	both(before.holders, after.holders, func(address string) { compareAddress(before, after, address, changed) })
}

// both visits the keys of two maps, some of them twice.
func both[V any](before, after layered[V], visit func(key string)) {
	for key := range before.all() {
		visit(key)
	}
	for key := range after.all() {
		visit(key)
	}
}

func compareService(before, after *Book, name string, changed map[Key]bool) {
	old, _ := before.services.get(name)
	e, _ := after.services.get(name)
	if old == nil || e == nil || !old.equal(e) {
		changed[Key{onService, name}] = true
		changed[Key{onInstances, name}] = true // its configured addresses
	}
}

func compareHost(before, after *Book, host string, changed map[Key]bool) {
	old, was := before.owners.get(host)
	owner, is := after.owners.get(host)
	if was == is && old == owner {
		return
	}
	changed[Key{onHost, host}] = true
	for _, wildcard := range parents(host) {
		changed[Key{onBelow, wildcard}] = true
	}
}

func compareAddress(before, after *Book, address string, changed map[Key]bool) {
	old, _ := before.holders.get(address)
	list, _ := after.holders.get(address)
	if !slices.Equal(list, old) {
		changed[Key{onAddress, address}] = true
	}
}

func comparePeers(before, after *Book, changed map[Key]bool) {
	a, b := before.site, after.site
	if a.TrustDomain != b.TrustDomain || !maps.EqualFunc(a.PeerOf, b.PeerOf, slices.Equal[[]string]) {
		changed[Key{onPeers, ""}] = true
	}
	// Who lives, when it is and what peers say is in the services' entries.
	a.PeerOf, b.PeerOf, a.Alive, b.Alive, a.Others, b.Others, a.Former, b.Former = nil, nil, nil, nil, nil, nil, nil, nil
	a.Now, b.Now = time.Time{}, time.Time{}
	if !reflect.DeepEqual(a, b) {
		changed[Key{onSite, ""}] = true
	}
}

func compareFormer(before, after map[string]*entry, changed map[Key]bool) {
	for host, e := range after {
		if old := before[host]; old == nil || !old.equal(e) {
			changed[Key{onHost, host}] = true
		}
	}
	for host := range before {
		if after[host] == nil {
			changed[Key{onHost, host}] = true
		}
	}
}
