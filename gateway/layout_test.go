package gateway

import (
	"os"
	"slices"
	"testing"
)

// A state folder tells who ran with it: also where the second peer of a region is
// on a machine of its own.
func TestRegionsAreThoseThatRan(t *testing.T) {
	for name, c := range map[string]struct{ peers, want []string }{
		"the first peer alone":  {[]string{"fr-1"}, []string{"fr"}},
		"the second one alone":  {[]string{"fr-2"}, []string{"fr-2"}},
		"both, and one of many": {[]string{"fr-1", "fr-2", "fr-3"}, []string{"fr", "fr-2", "fr-3"}},
	} {
		t.Run(name, func(t *testing.T) {
			state, err := os.MkdirTemp("", "polder-l-") // short enough for sockets
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(state)
			for _, peer := range c.peers {
				l, err := NewLayout(state, "fr")
				if err == nil {
					err = l.Of(peer).Make()
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			layouts, err := Regions(state)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, l := range layouts {
				got = append(got, l.Name())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
