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

// Candidates are the peers that may be a service's home: they can serve now and
// their region passes permitted, which is the law's answer for that service.
// Steady peers are preferred; while there is none, those that flap will do.
func Candidates(peers []Peer, permitted func(polder.RegionName) bool) []string {
	var steady, any []string
	for _, p := range peers {
		if !p.Usable || !permitted(p.Row.Region) {
			continue
		}
		any = append(any, p.Row.Peer)
		if p.Steady {
			steady = append(steady, p.Row.Peer)
		}
	}
	if len(steady) > 0 {
		return steady
	}
	return any
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
