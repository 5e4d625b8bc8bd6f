package regions

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/polder/polder"
)

func TestRedact(t *testing.T) {
	law := map[polder.ServiceName][]polder.RegionName{
		"billing": {"fr"},             // pinned
		"catalog": {"fr", "nl", "pl"}, // everywhere
		"legacy":  {"fr", "nl"},
	}
	permitted := func(s polder.ServiceName, r polder.RegionName) bool { return slices.Contains(law[s], r) }
	row := plainRow()
	row.Warm = []polder.ServiceName{"billing", "catalog", "legacy", "unheard-of"}
	tests := map[string]struct {
		disclosure Disclosure
		also       []polder.RegionName
		want       string
	}{
		"three regions":         {Disclosure{[]polder.RegionName{"fr", "nl", "pl"}, permitted}, nil, "[catalog]"},
		"two regions":           {Disclosure{[]polder.RegionName{"fr", "nl"}, permitted}, nil, "[catalog legacy]"},
		"one region":            {Disclosure{[]polder.RegionName{"fr"}, permitted}, nil, "[billing catalog legacy]"},
		"a stranger among them": {Disclosure{[]polder.RegionName{"fr"}, permitted}, []polder.RegionName{"us"}, "[]"},
		"no configuration":      {Disclosure{nil, permitted}, nil, "[]"},
		"no law":                {Disclosure{[]polder.RegionName{"fr"}, nil}, nil, "[]"},
		"own region not listed": {Disclosure{[]polder.RegionName{"nl"}, permitted}, nil, "[catalog legacy]"},
		"own region not permitted": {Disclosure{[]polder.RegionName{"nl"},
			func(s polder.ServiceName, r polder.RegionName) bool { return r == "nl" }}, nil, "[]"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := fmt.Sprint(tt.disclosure.Redact(row, tt.also...).Warm); got != tt.want {
				t.Errorf("told %s, want %s", got, tt.want)
			}
			if len(row.Warm) != 4 {
				t.Fatal("Redact changed its input")
			}
		})
	}
}

// Nothing is told to a membership with a region that is not permitted to know it.
func TestRedactNeverTellsTheForbidden(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		places := []polder.RegionName{"fr", "nl", "pl", "us"}
		some := rapid.SliceOfDistinct(rapid.SampledFrom(places), rapid.ID[polder.RegionName])
		forbidden := map[string]bool{}
		for _, s := range names(12, "s") {
			for _, r := range places {
				forbidden[string(s)+string(r)] = rapid.Bool().Draw(t, "forbidden")
			}
		}
		d := Disclosure{some.Draw(t, "regions"), func(s polder.ServiceName, r polder.RegionName) bool { return !forbidden[string(s)+string(r)] }}
		also := some.Draw(t, "also")
		row := anyRow().Draw(t, "row")
		told := d.Redact(row, also...)
		for _, s := range told.Warm {
			for _, r := range append(slices.Clone(d.Regions), also...) {
				if forbidden[string(s)+string(r)] {
					t.Fatalf("%s was told to a membership with %s", s, r)
				}
			}
		}
		for _, s := range row.Warm {
			audience := append(append(slices.Clone(d.Regions), also...), row.Region)
			silent := len(d.Regions) == 0 || slices.ContainsFunc(audience, func(r polder.RegionName) bool { return forbidden[string(s)+string(r)] })
			if !silent && !slices.Contains(told.Warm, s) {
				t.Fatalf("%s could have been told", s)
			}
		}
	})
}
