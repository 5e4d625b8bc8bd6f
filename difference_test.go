package polder_test

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/polder/polder"
)

// TestDifferenceNamesWhatDiffers: what Compare does not name is the same in both
// models, what it names is not, and after two changes nothing that differs from the
// first model is missing.
func TestDifferenceNamesWhatDiffers(t *testing.T) {
	names := []polder.ServiceName{"a", "b", "c", "d", "e"}
	draw := func(t *rapid.T, label string) *polder.Model {
		m := &polder.Model{}
		if rapid.Bool().Draw(t, label+" region") {
			m.Regions = []polder.Region{{Name: "fr"}}
		}
		for _, name := range names {
			if version := rapid.IntRange(0, 2).Draw(t, label+" "+string(name)); version > 0 {
				m.Services = append(m.Services, polder.Service{Name: name, Hosts: []polder.Host{polder.Host(name)[:version-1] + ".example"},
					At: polder.Position{Line: rapid.IntRange(1, 9).Draw(t, "line")}})
			}
		}
		return m
	}
	same := func(a, b *polder.Model, name polder.ServiceName) bool {
		x, was := a.Service(name)
		y, is := b.Service(name)
		return was == is && reflect.DeepEqual(x.Hosts, y.Hosts)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := draw(t, "first"), draw(t, "second"), draw(t, "third")
		d := polder.Compare(a, b)
		both := d.And(polder.Compare(b, c))
		for _, name := range names {
			if got := slices.Contains(d.Services, name); got == same(a, b, name) {
				t.Errorf("%s differs: %v, is named: %v", name, !same(a, b, name), got)
			}
			if !slices.Contains(both.Services, name) && !same(a, c, name) {
				t.Errorf("after two changes %s differs and is not named: %v", name, both.Services)
			}
		}
		for _, list := range [][]polder.ServiceName{d.Services, both.Services} {
			if !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
				t.Errorf("%v is not sorted, or has a name twice", list)
			}
		}
		if d.Rest != (len(a.Regions) != len(b.Regions)) || both.Rest != (d.Rest || len(b.Regions) != len(c.Regions)) {
			t.Errorf("the rest differs: %v, and after both %v", d.Rest, both.Rest)
		}
	})
	if d := polder.Compare(nil, &polder.Model{Services: []polder.Service{{Name: "a"}}}); !slices.Equal(d.Services, names[:1]) || d.Rest {
		t.Errorf("from nothing to one service: %+v", d)
	}
}
