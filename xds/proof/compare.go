package proof

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/polder/polder"
)

// compareBooks notes what conclusions can rest on and differs between two
// books. It costs a comparison per service, and nothing is proved again for a
// service that is the same.
func compareBooks(before, after *Book, changed map[Key]bool) {
	if before == after {
		return
	}
	comparePeers(before, after, changed)
	for name, e := range after.services {
		old := before.services[name]
		if old == nil || !old.equal(e) {
			changed[Key{onService, string(name)}] = true
			changed[Key{onInstances, string(name)}] = true // its configured addresses
			changed[Key{onHosts, ""}] = true
		}
	}
	for name := range before.services {
		if after.services[name] == nil {
			changed[Key{onService, string(name)}] = true
			changed[Key{onInstances, string(name)}] = true
			changed[Key{onHosts, ""}] = true
		}
	}
	compareHosts(before.owners, after.owners, changed)
	for address, list := range after.holders {
		if !slices.Equal(list, before.holders[address]) {
			changed[Key{onAddress, address}] = true
		}
	}
	for address := range before.holders {
		if after.holders[address] == nil {
			changed[Key{onAddress, address}] = true
		}
	}
}

func comparePeers(before, after *Book, changed map[Key]bool) {
	a, b := before.site, after.site
	if a.TrustDomain != b.TrustDomain || !maps.EqualFunc(a.PeerOf, b.PeerOf, slices.Equal[[]string]) {
		changed[Key{onPeers, ""}] = true
	}
	// Who lives, when it is and what peers say is in the services' entries.
	a.PeerOf, b.PeerOf, a.Alive, b.Alive, a.Others, b.Others = nil, nil, nil, nil, nil, nil
	a.Now, b.Now = time.Time{}, time.Time{}
	if !reflect.DeepEqual(a, b) {
		changed[Key{onSite, ""}] = true
	}
}

func compareHosts(before, after map[string]polder.ServiceName, changed map[Key]bool) {
	touch := func(host string) {
		changed[Key{onHost, host}] = true
		changed[Key{onHosts, ""}] = true
		for _, wildcard := range parents(host) {
			changed[Key{onBelow, wildcard}] = true
		}
	}
	for host, owner := range after {
		if old, ok := before[host]; !ok || old != owner {
			touch(host)
		}
	}
	for host := range before {
		if _, ok := after[host]; !ok {
			touch(host)
		}
	}
}
