package dns

import (
	"net/netip"

	"github.com/polder/polder"
)

// atlas finds the place of an address by its longest known prefix. It is a
// binary trie: one step for each bit.
type atlas struct{ v4, v6 *spot }

type spot struct {
	at    *polder.Location // nil where no prefix ends
	child [2]*spot
}

func newAtlas(places []polder.CallersPlace) *atlas {
	a := &atlas{v4: &spot{}, v6: &spot{}}
	for _, p := range places {
		n, bytes := a.root(p.Prefix.Addr()), p.Prefix.Addr().AsSlice()
		for i := range p.Prefix.Bits() {
			b := bit(bytes, i)
			if n.child[b] == nil {
				n.child[b] = &spot{}
			}
			n = n.child[b]
		}
		at := p.Location
		n.at = &at
	}
	return a
}

func (a *atlas) root(addr netip.Addr) *spot {
	if addr.Is4() {
		return a.v4
	}
	return a.v6
}

func bit(bytes []byte, i int) byte { return bytes[i/8] >> (7 - i%8) & 1 }

// find tells where an address is of which the first bits are known, and how many
// of these decided: every address that shares so many is at the same place.
func (a *atlas) find(addr netip.Addr, bits int) (at polder.Location, known bool, scope int) {
	addr = addr.Unmap()
	n, bytes := a.root(addr), addr.AsSlice()
	for i := 0; ; i++ {
		if n.at != nil {
			at, known = *n.at, true
		}
		if n.child == [2]*spot{} || i >= min(bits, len(bytes)*8) {
			return at, known, i
		}
		next := n.child[bit(bytes, i)]
		if next == nil {
			return at, known, i + 1
		}
		n = next
	}
}
