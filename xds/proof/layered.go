package proof

import (
	"iter"
	"maps"
)

// mostOnTop is how many entries a layered map keeps apart from its base at least.
const mostOnTop = 64

// layered is a map of which a changed copy costs time in proportion to the change:
// both share what is below. It is immutable once made.
type layered[V any] struct {
	base map[string]V
	top  map[string]*V // over base; nil for what is gone
}

func (l layered[V]) get(key string) (V, bool) {
	if v, ok := l.top[key]; ok {
		if v == nil {
			var none V
			return none, false
		}
		return *v, true
	}
	v, ok := l.base[key]
	return v, ok
}

func (l layered[V]) has(key string) bool { _, ok := l.get(key); return ok }

func (l layered[V]) all() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for key, v := range l.top {
			if v != nil && !yield(key, *v) {
				return
			}
		}
		for key, v := range l.base {
			if _, over := l.top[key]; !over && !yield(key, v) {
				return
			}
		}
	}
}

// with gives a map with changes, of which a nil removes.
func (l layered[V]) with(changes map[string]*V) layered[V] {
	if len(changes) == 0 {
		return l
	}
	if len(l.top)+len(changes) <= mostOnTop+len(l.base)/64 {
		top := make(map[string]*V, len(l.top)+len(changes))
		maps.Copy(top, l.top)
		maps.Copy(top, changes)
		return layered[V]{l.base, top}
	}
	base := make(map[string]V, len(l.base)+len(changes))
	for key, v := range l.all() {
		base[key] = v
	}
	for key, v := range changes {
		if v == nil {
			delete(base, key)
		} else {
			base[key] = *v
		}
	}
	return layered[V]{base: base}
}
