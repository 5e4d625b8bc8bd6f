package proof

import (
	"iter"
	"maps"
	"slices"
)

// mostOnTop is how many entries a layered map or list keeps apart from its base at least.
const mostOnTop = 64

// fitsOnTop tells whether so many entries are kept apart from a base of that size.
// Above that a new base is made, once in as many changes as make the work of each small.
func fitsOnTop(entries, base int) bool { return entries <= mostOnTop+base/64 }

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
	if fitsOnTop(len(l.top)+len(changes), len(l.base)) {
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

// layeredList is a sorted list, without doubles, that is changed as a layered map is.
type layeredList struct {
	base       []string
	gone, come []string // of base, and over it; sorted
}

// from gives the list from a name on, which need not be in it.
func (l layeredList) from(name string) iter.Seq[string] {
	after := func(list []string) []string {
		at, _ := slices.BinarySearch(list, name)
		return list[at:]
	}
	return func(yield func(string) bool) {
		base, gone, come := after(l.base), after(l.gone), after(l.come)
		for len(base) > 0 || len(come) > 0 {
			switch {
			case len(base) > 0 && len(gone) > 0 && base[0] == gone[0]:
				base, gone = base[1:], gone[1:]
				continue
			case len(come) > 0 && (len(base) == 0 || come[0] < base[0]):
				if !yield(come[0]) {
					return
				}
				come = come[1:]
			default:
				if !yield(base[0]) {
					return
				}
				base = base[1:]
			}
		}
	}
}

// with gives a list without some names and then with others.
func (l layeredList) with(gone, come []string) layeredList {
	if len(gone)+len(come) == 0 {
		return l
	}
	next := layeredList{l.base, slices.Clone(l.gone), slices.Clone(l.come)}
	for _, name := range gone {
		if contains(l.base, name) {
			next.gone = including(next.gone, name)
		} else {
			next.come = excluding(next.come, name)
		}
	}
	for _, name := range come {
		if contains(l.base, name) {
			next.gone = excluding(next.gone, name)
		} else {
			next.come = including(next.come, name)
		}
	}
	if fitsOnTop(len(next.gone)+len(next.come), len(next.base)) {
		return next
	}
	return layeredList{base: slices.Collect(next.from(""))}
}

// What follows is of sorted lists, which including and excluding change in place.

func contains(list []string, name string) bool {
	_, found := slices.BinarySearch(list, name)
	return found
}

func including(list []string, name string) []string {
	if at, found := slices.BinarySearch(list, name); !found {
		return slices.Insert(list, at, name)
	}
	return list
}

func excluding(list []string, name string) []string {
	if at, found := slices.BinarySearch(list, name); found {
		return slices.Delete(list, at, at+1)
	}
	return list
}
