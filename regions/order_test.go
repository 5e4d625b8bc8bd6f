package regions

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polder/polder"
)

var (
	paris     = polder.Location{Latitude: 48.86, Longitude: 2.35}
	amsterdam = polder.Location{Latitude: 52.37, Longitude: 4.90}
	warsaw    = polder.Location{Latitude: 52.23, Longitude: 21.01}
	sydney    = polder.Location{Latitude: -33.87, Longitude: 151.21}
	all       = []polder.Region{{Name: "fr", Location: paris}, {Name: "nl", Location: amsterdam}, {Name: "pl", Location: warsaw}}
)

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b polder.Location
		km   float64 // by an independent geodesic calculator, WGS 84
	}{
		{paris, paris, 0},
		{paris, amsterdam, 430},
		{paris, warsaw, 1370},
		{amsterdam, warsaw, 1095},
		{paris, sydney, 16960},
		{polder.Location{Latitude: 90}, polder.Location{Latitude: -90}, 20004},
		{polder.Location{Longitude: 179.9}, polder.Location{Longitude: -179.9}, 22.3},
	} {
		if got := Distance(tt.a, tt.b); math.Abs(got-tt.km) > 0.006*tt.km+0.1 {
			t.Errorf("%v to %v: %.1f km, want %.1f", tt.a, tt.b, got, tt.km)
		}
	}
}

func TestOrder(t *testing.T) {
	up := func(names ...polder.RegionName) polder.RegionHealth {
		h := polder.RegionHealth{}
		for _, n := range names {
			h[n] = true
		}
		return h
	}
	const ms = time.Millisecond
	tests := map[string]struct {
		view View
		want string
		why  string
	}{
		"geography": {View{Health: up("fr", "nl", "pl")}, "fr nl pl", "nothing measured: from Paris, Amsterdam is nearer than Warsaw"},
		"measured": {View{Health: up("fr", "nl", "pl"), RTT: map[polder.RegionName]time.Duration{"nl": 80 * ms, "pl": 30 * ms}},
			"fr pl nl", "what the network takes counts, not the map"},
		"measured beside not measured": {View{Health: up("fr", "nl", "pl"), RTT: map[polder.RegionName]time.Duration{"nl": 40 * ms}},
			"fr pl nl", "Warsaw's distance suggests 28 ms"},
		"one machine": {View{Health: up("fr", "nl", "pl"), RTT: map[polder.RegionName]time.Duration{"nl": 900 * time.Microsecond, "pl": 200 * time.Microsecond}},
			"fr nl pl", "below a millisecond everything is equally near, and the map decides"},
		"one down":        {View{Health: up("fr", "pl")}, "fr pl nl", "what cannot serve comes last"},
		"missing is down": {View{Health: up("pl")}, "pl fr nl", "no word of a region means that it cannot serve"},
		"flapping": {View{Health: up("fr", "nl", "pl"), Unsteady: map[polder.RegionName]bool{"nl": true}},
			"fr pl nl", "a steady region further away is better"},
		"all flap, one is down": {View{Health: up("nl", "pl"), Unsteady: map[polder.RegionName]bool{"nl": true, "pl": true, "fr": true}},
			"nl pl fr", "flapping still beats down"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := join(Order(paris, all, tt.view)); got != tt.want {
				t.Errorf("%s, want %s: %s", got, tt.want, tt.why)
			}
		})
	}
}

func join(names []polder.RegionName) string {
	s := ""
	for i, n := range names {
		if i > 0 {
			s += " "
		}
		s += string(n)
	}
	return s
}

type orderCase struct {
	from    polder.Location
	regions []polder.Region
	view    View
}

func anyCase(t *rapid.T) orderCase {
	place := rapid.Custom(func(t *rapid.T) polder.Location {
		return polder.Location{Latitude: rapid.Float64Range(-90, 90).Draw(t, "lat"), Longitude: rapid.Float64Range(-180, 180).Draw(t, "lon")}
	})
	c := orderCase{from: place.Draw(t, "from"), view: View{
		Health: polder.RegionHealth{}, Unsteady: map[polder.RegionName]bool{}, RTT: map[polder.RegionName]time.Duration{},
	}}
	for _, name := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,3}`), 1, 8, rapid.ID[string]).Draw(t, "names") {
		n := polder.RegionName(name)
		c.regions = append(c.regions, polder.Region{Name: n, Location: place.Draw(t, "at")})
		c.view.Health[n] = rapid.Bool().Draw(t, "healthy")
		c.view.Unsteady[n] = rapid.Bool().Draw(t, "unsteady")
		if rapid.Bool().Draw(t, "measured") {
			c.view.RTT[n] = time.Duration(rapid.IntRange(0, 60000).Draw(t, "rtt")) * time.Microsecond
		}
	}
	return c
}

func TestOrderIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyCase(t)
		got := Order(c.from, c.regions, c.view)
		var given []polder.RegionName
		for _, r := range c.regions {
			given = append(given, r.Name)
		}
		sorted, sortedGiven := slices.Clone(got), slices.Clone(given)
		slices.Sort(sorted)
		slices.Sort(sortedGiven)
		if !slices.Equal(sorted, sortedGiven) {
			t.Fatalf("%v is not a permutation of %v", got, given)
		}
		shuffled := rapid.Permutation(c.regions).Draw(t, "shuffled")
		if again := Order(c.from, shuffled, c.view); !slices.Equal(got, again) {
			t.Fatalf("the input's order decided: %v, then %v", got, again)
		}
		for i := 1; i < len(got); i++ {
			if c.view.Health[got[i]] && !c.view.Health[got[i-1]] {
				t.Fatalf("%s cannot serve and comes before %s, which can", got[i-1], got[i])
			}
		}
	})
}

// A change of one region leaves the others as they were among themselves, and
// what gets worse never moves forward.
func TestOrderChangesLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyCase(t)
		before := Order(c.from, c.regions, c.view)
		victim := rapid.SampledFrom(before).Draw(t, "victim")
		switch rapid.IntRange(0, 2).Draw(t, "what") {
		case 0:
			c.view.Health[victim] = false
		case 1:
			c.view.Unsteady[victim] = true
		case 2:
			worse := c.view.cost(victim, Distance(c.from, location(c.regions, victim)))
			c.view.RTT[victim] = time.Duration(worse+int64(rapid.IntRange(0, 50).Draw(t, "more"))) * time.Millisecond
		}
		after := Order(c.from, c.regions, c.view)
		if slices.Index(after, victim) < slices.Index(before, victim) {
			t.Fatalf("%s got worse and moved forward: %v, then %v", victim, before, after)
		}
		drop := func(names []polder.RegionName) []polder.RegionName {
			return slices.DeleteFunc(slices.Clone(names), func(n polder.RegionName) bool { return n == victim })
		}
		if !slices.Equal(drop(before), drop(after)) {
			t.Fatalf("%s changed and others swapped: %v, then %v", victim, before, after)
		}
	})
}

func location(regions []polder.Region, name polder.RegionName) polder.Location {
	for _, r := range regions {
		if r.Name == name {
			return r.Location
		}
	}
	return polder.Location{}
}

func TestRoundTripStaysPut(t *testing.T) {
	const ms = time.Millisecond
	var r roundTrip
	r = r.add(20 * ms)
	if r.shown != 20*ms {
		t.Fatalf("first sample shows as %v", r.shown)
	}
	for i := range 100 { // noise of a tenth
		r = r.add(20*ms + time.Duration(i%5-2)*ms)
	}
	if r.shown != 20*ms {
		t.Errorf("noise moved the shown value to %v", r.shown)
	}
	for range 40 { // another route
		r = r.add(60 * ms)
	}
	if r.shown < 45*ms {
		t.Errorf("a lasting change shows as %v only", r.shown)
	}
	for _, bad := range []time.Duration{0, -ms, maxRTT + 1} {
		if r.add(bad) != r {
			t.Errorf("sample %v counted", bad)
		}
	}
}

func TestSeeTakesTheNearestLivePeer(t *testing.T) {
	const ms = time.Millisecond
	table := newTable("nl-1")
	for i, peer := range []string{"fr-1", "fr-2", "fr-3"} {
		row := plainRow()
		row.Peer = peer
		table.Merge(row, start)
		table.Alive(peer, "fr", 1, start)
		table.Measured(peer, time.Duration(30-10*i)*ms)
	}
	if got := See(table.Peers()).RTT["fr"]; got != 10*ms {
		t.Errorf("%v, want 10ms", got)
	}
	table.Dead("fr-3", start)
	if got := See(table.Peers()).RTT["fr"]; got != 20*ms {
		t.Errorf("after the nearest died: %v, want 20ms", got)
	}
	table.Measured("fr-3", ms)
	if got := See(table.Peers()).RTT["fr"]; got != 20*ms {
		t.Errorf("a dead peer's round trip counted: %v", got)
	}
}

// A region without room comes after all that have some, and before those that
// cannot serve.
func TestFullRegionsSpillOver(t *testing.T) {
	places := []polder.Region{{Name: "fr"}, {Name: "nl"}, {Name: "pl"}}
	order := func(peers []Peer) string { return fmt.Sprint(Order(polder.Location{}, places, See(peers))) }
	peers := crowd("fr-1", "fr-2", "nl-1", "pl-1")
	peers[0].Row.Load = Saturated
	if got := order(peers); got != "[fr nl pl]" {
		t.Errorf("%s, though one of two in fr has room", got)
	}
	peers[1].Row.Load = 100
	if got := order(peers); got != "[nl pl fr]" {
		t.Errorf("%s, want fr, which is full, last", got)
	}
	peers[2].Usable, peers[2].Able, peers[2].Steady = false, false, false
	if got := order(peers); got != "[pl fr nl]" {
		t.Errorf("%s, want fr before nl, which cannot serve", got)
	}
}
