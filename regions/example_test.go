package regions_test

import (
	"fmt"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

// A caller in Paris is passed to Amsterdam before Warsaw; once Amsterdam cannot
// serve, it comes last.
func ExampleOrder() {
	places := []polder.Region{
		{Name: "nl", Location: polder.Location{Latitude: 52.37, Longitude: 4.90}},
		{Name: "pl", Location: polder.Location{Latitude: 52.23, Longitude: 21.01}},
	}
	paris := polder.Location{Latitude: 48.86, Longitude: 2.35}
	view := regions.View{Health: polder.RegionHealth{"nl": true, "pl": true}}
	fmt.Println(regions.Order(paris, places, view))
	view.Health["nl"] = false
	fmt.Println(regions.Order(paris, places, view))
	// Output:
	// [nl pl]
	// [pl nl]
}

// Every gateway comes to the same home without asking, whoever else comes or
// goes; only when the home itself goes does the service move.
func ExampleHome() {
	home, _ := regions.Home("billing", []string{"fr-1", "fr-2", "fr-3"})
	still, _ := regions.Home("billing", []string{"fr-3", "fr-1"})
	fmt.Println(home, still)
	// Output: fr-1 fr-1
}

// A row alone does not make a peer usable: the failure detector must vouch for
// it.
func ExampleTable() {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	table := regions.NewTable("nl-1", "nl", 1, regions.DefaultDamping(), time.Hour, now)
	table.Merge(polder.PeerRow{Peer: "fr-1", Region: "fr", Epoch: 4, Sequence: 2, Healthy: true}, now)
	fmt.Println(regions.See(table.Peers()).Health["fr"])
	table.Alive("fr-1", "fr", 4, now)
	fmt.Println(regions.See(table.Peers()).Health["fr"])
	// Output:
	// false
	// true
}
