package proof

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestLayeredListIsASortedSet changes a list in steps, so many that new bases are made,
// and holds what it gives, from any name on, against a set.
func TestLayeredListIsASortedSet(t *testing.T) {
	rebuilt := false
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("n%03d", rapid.IntRange(0, 400).Draw(t, "number")) })
		set := map[string]bool{}
		for _, n := range rapid.SliceOfN(name, 0, 100).Draw(t, "base") {
			set[n] = true
		}
		l := layeredList{base: slices.Sorted(maps.Keys(set))}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			gone, come := rapid.SliceOfN(name, 0, 20).Draw(t, "gone"), rapid.SliceOfN(name, 0, 20).Draw(t, "come")
			before := slices.Collect(l.from(""))
			next := l.with(gone, come)
			if !slices.Equal(slices.Collect(l.from("")), before) {
				t.Fatalf("without %v and with %v, the list that was changed is another", gone, come)
			}
			for _, n := range gone {
				delete(set, n)
			}
			for _, n := range come {
				set[n] = true
			}
			rebuilt = rebuilt || len(gone)+len(come) > 0 && len(next.gone)+len(next.come) == 0
			l = next
			from := name.Draw(t, "from")
			want := slices.DeleteFunc(slices.Sorted(maps.Keys(set)), func(n string) bool { return n < from })
			if got := slices.Collect(l.from(from)); !slices.Equal(got, want) {
				t.Fatalf("from %s: %v, want %v", from, got, want)
			}
		}
	})
	if !rebuilt {
		t.Error("no list had so many changes that a new base was made")
	}
}
