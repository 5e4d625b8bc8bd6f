package proof

import (
	"iter"
	"maps"
	"slices"
)

// mostFew is how many units are looked for one by one.
const mostFew = 16

// units are those that rest on one key. They are nearly always few; on the gates rest
// as many as there are hosts, and none of them must cost a look at all others.
type units struct {
	few  []unit
	many map[unit]struct{} // instead of few, once there were more than mostFew
}

func (s *units) add(u unit) {
	switch {
	case s.many != nil:
		s.many[u] = struct{}{}
	case len(s.few) < mostFew:
		s.few = append(s.few, u)
	default:
		s.many = map[unit]struct{}{u: {}}
		for _, other := range s.few {
			s.many[other] = struct{}{}
		}
		s.few = nil
	}
}

func (s *units) remove(u unit) {
	delete(s.many, u)
	if at := slices.Index(s.few, u); at >= 0 {
		s.few = slices.Delete(s.few, at, at+1)
	}
}

func (s *units) empty() bool { return len(s.few)+len(s.many) == 0 }

func (s *units) all() iter.Seq[unit] {
	if s.many != nil {
		return maps.Keys(s.many)
	}
	return slices.Values(s.few)
}
