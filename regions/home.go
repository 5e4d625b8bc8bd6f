package regions

import (
	"cmp"
	"slices"

	"github.com/polder/polder"
)

// Home chooses the one peer where a rarely called service is kept warm, so that
// three quiet gateways keep one warm instance between them and not three. All
// peers that see the same candidates choose the same home, without a word
// between them. With no candidates there is no home.
//
// It is rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings
// to increase hit rates", 1998): the candidate with the highest hash of
// (service, candidate) wins. When a candidate goes, only the services that had
// their home there move; when one comes, services move only to it.
func Home(service polder.ServiceName, candidates []string) (home string, ok bool) {
	var best uint64
	for _, peer := range candidates {
		w := weight(service, peer)
		// Equal weights are next to impossible; the name keeps the choice
		// independent of the order of the candidates.
		if !ok || w > best || w == best && peer < home {
			home, best, ok = peer, w, true
		}
	}
	return home, ok
}

// Homes orders the candidates for a service: its home, then the one that would
// be its home without the first, and so on. A busy service spreads over the
// first few.
func Homes(service polder.ServiceName, candidates []string) []string {
	ordered := slices.Clone(candidates)
	slices.SortFunc(ordered, func(a, b string) int {
		if c := cmp.Compare(weight(service, b), weight(service, a)); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	return ordered
}

// Saturated is the load, in percent, from which on a peer is given nothing more
// while another can take it.
const Saturated = 90

// Candidates are the peers that may be a service's home: they can serve now and
// their region passes permitted, which is the law's answer for that service.
// Steady peers with room are preferred; while there is none, those that flap or
// are saturated will do.
func Candidates(peers []Peer, permitted func(polder.RegionName) bool) []string {
	var good, any []string
	for _, p := range peers {
		if !p.Usable || !permitted(p.Row.Region) {
			continue
		}
		any = append(any, p.Row.Peer)
		if p.Steady && p.Row.Load < Saturated {
			good = append(good, p.Row.Peer)
		}
	}
	if len(good) > 0 {
		return good
	}
	return any
}

// Choice is where a service's callers go.
type Choice struct {
	Now  string // the peer that has them
	Next string // the peer that shall have them; not Now while Now drains and Next is still cold
}

// Choose chooses the peer that has a service's callers, and the same one at every
// gateway that sees the same peers:
//
//  1. of the candidates that are warm, the first of Homes: who has an instance
//     keeps the service until it sleeps, so that a home that comes back takes
//     nothing away;
//  2. a warm peer that drains, until the home after it is warm;
//  3. the home.
//
// False means that there is no candidate, and whoever has a caller serves it.
// Which services are warm is known as far as rows may tell.
func Choose(service polder.ServiceName, peers []Peer, permitted func(polder.RegionName) bool) (Choice, bool) {
	order := Homes(service, Candidates(peers, permitted))
	if len(order) == 0 {
		return Choice{}, false
	}
	var leaving []string
	warm := map[string]bool{}
	for _, p := range peers {
		if !permitted(p.Row.Region) || !contains(p.Row.Warm, service) {
			continue
		}
		warm[p.Row.Peer] = true
		if p.Able && p.Row.Draining {
			leaving = append(leaving, p.Row.Peer)
		}
	}
	for _, peer := range order {
		if warm[peer] {
			return Choice{peer, peer}, true
		}
	}
	if last, ok := Home(service, leaving); ok {
		return Choice{last, order[0]}, true
	}
	return Choice{order[0], order[0]}, true
}

// IsBusy tells whether a peer says that the service is called too often to have
// one home: then every gateway that may serves it itself.
func IsBusy(service polder.ServiceName, peers []Peer) bool {
	return slices.ContainsFunc(peers, func(p Peer) bool { return p.Able && contains(p.Row.Busy, service) })
}

func contains(sorted []polder.ServiceName, service polder.ServiceName) bool {
	_, found := slices.BinarySearch(sorted, service)
	return found
}

// weight is FNV-1a over service, a zero byte and peer, finished with the 64-bit
// mixer of MurmurHash3: FNV alone leaves the last bytes, in which peers' names
// differ, badly spread over the high bits. It must never change: peers of
// different versions of Polder have to agree on it.
func weight(service polder.ServiceName, peer string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(service) {
		h = (h ^ uint64(service[i])) * prime
	}
	h *= prime // the zero byte: "ab"+"c" is not "a"+"bc"
	for i := range len(peer) {
		h = (h ^ uint64(peer[i])) * prime
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
