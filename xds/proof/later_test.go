package proof_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// gradual publishes a world change by change.
type gradual struct {
	world
	hosts  xds.Hosts
	keys   map[polder.ServiceName][]xds.Key
	tables int
	at     time.Time
	turned int // changes of who is diverted, without a table
}

// advance brings the next world into force and gives the change.
func (g *gradual) advance(next world, tidy bool) proof.Change {
	g.at = g.at.Add(4 * time.Second) // so that what lingers is there in some steps
	kept := map[polder.ServiceName]bool{}
	judged := next.judge()
	for _, a := range judged {
		kept[a.Service().Name] = true
	}
	var set []xds.Resource
	var remove []xds.Key
	for name := range g.keys {
		if !kept[name] {
			g.hosts.Remove(name)
			remove = append(remove, g.keys[name]...)
			delete(g.keys, name)
		}
	}
	for _, a := range judged {
		g.hosts.Put(a)
		made := xds.Service(a, next.gateway())
		remove = append(remove, g.keys[a.Service().Name]...)
		g.keys[a.Service().Name] = nil
		for _, r := range made {
			g.keys[a.Service().Name] = append(g.keys[a.Service().Name], r.Key)
		}
		set = append(set, made...)
	}
	if tidy || g.hosts.Changed() {
		g.tables++
		node := next.nodeConfig()
		node.Now = g.at
		set = append(set, g.hosts.Node(node)...)
	}
	led, left := g.hosts.ByName(g.at)
	if slices.ContainsFunc(led, func(r xds.Resource) bool { return r.Type == xds.TypeExtension }) {
		g.turned++
	}
	set, remove = append(set, led...), append(remove, left...)
	site := next.site()
	site.Former = maps.Clone(g.hosts.Former())
	c := proof.Change{Set: plain(set), Instances: everyone(g.world, next), Book: proof.NewBook(next.model, site)}
	for _, k := range remove {
		if key := (proof.Key{Type: k.Type, Name: k.Name}); !slices.ContainsFunc(c.Set, func(r proof.Resource) bool { return r.Key == key }) {
			c.Remove = append(c.Remove, key)
		}
	}
	g.world = next
	return c
}

// ends lists what callers of a host reach, whatever the way.
func ends(c *proof.Checker, host polder.Host) []string {
	var list []string
	for _, w := range c.Reach(string(host)) {
		if w.Kind != proof.ToAnswer && w.Kind != proof.ToSink { // who comes by a table that is old is told of to nobody
			list = append(list, fmt.Sprint(w.Kind, " ", w.Address, " ", w.Region))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// elsewhere is a region that the gateway is not in.
func elsewhere(w world) polder.Place {
	i := slices.IndexFunc(w.model.Regions, func(r polder.Region) bool { return r.Name != w.here })
	return polder.Place(w.model.Regions[max(i, 0)].Name)
}

// TestLaterHostsReachTheSame lets services come, go, move and be refused change by change: the
// proof accepts what is published each time, and callers of every host reach the
// same as if everything were made anew.
func TestLaterHostsReachTheSame(t *testing.T) {
	steps, tables, turned := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		const there, refused, passed = 1, 2, 4
		everybody := slices.Clone(w.model.Services)
		is := make([]int, len(everybody))
		for i := range is {
			is[i] = rapid.IntRange(0, there).Draw(t, "there")
			if rapid.Bool().Draw(t, "served here, as most are") {
				everybody[i].Hosts = []polder.Host{polder.Host(everybody[i].Name) + ".test"} // below nobody's wildcard
				everybody[i].Run, everybody[i].Endpoints = &polder.Run{Command: []string{"./x"}}, nil
				everybody[i].Residency = polder.Residency{Allow: []polder.Place{polder.Place(w.here)}, Failover: polder.Failover{Class: polder.FailoverClosed},
					Telemetry: polder.DefaultTelemetry()}
			}
		}
		g := &gradual{world: w, hosts: xds.Hosts{Traces: true}, keys: map[polder.ServiceName][]xds.Key{}}
		c := proof.NewChecker(w.book())
		for range rapid.IntRange(2, 6).Draw(t, "steps") {
			next := w
			next.model = &polder.Model{Regions: w.model.Regions}
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				some := rapid.IntRange(0, len(everybody)-1).Draw(t, "service")
				is[some] = rapid.SampledFrom([]int{0, there, there, there | refused, there | passed}).Draw(t, "is")
			}
			if rapid.Bool().Draw(t, "a home moves") {
				next.homes = maps.Clone(next.homes)
				region := rapid.SampledFrom(regionPool).Draw(t, "home")
				next.homes[rapid.SampledFrom(everybody).Draw(t, "of").Name] = law.Home{Peer: string(region) + "-7", Region: region}
			}
			w.homes = next.homes
			for i, s := range everybody {
				if is[i]&refused != 0 {
					s.Residency.Allow, s.Residency.Elsewhere, s.Residency.Failover = []polder.Place{elsewhere(w)}, polder.Refuse, polder.Failover{Class: polder.FailoverClosed}
				}
				if is[i]&passed != 0 {
					s.Residency.Allow, s.Residency.Elsewhere, s.Residency.Failover = []polder.Place{elsewhere(w)}, polder.PassThrough, polder.Failover{Class: polder.FailoverClosed}
				}
				if is[i]&there != 0 {
					next.model.Services = append(next.model.Services, s)
				}
			}
			p := c.Propose(g.advance(next, rapid.IntRange(0, 4).Draw(t, "tidy") == 0))
			if found := p.Violations(); len(found) > 0 {
				t.Fatalf("the proof finds:\n%s", lines(found))
			}
			if err := p.Commit(); err != nil {
				t.Fatal(err)
			}
			if found := (lawbook{next}).unlawful(c); len(found) > 0 {
				t.Fatalf("callers reach %+v", found)
			}
			whole := proof.NewChecker(next.book())
			if err := whole.Propose(proof.Change{Set: next.snapshot(), Instances: next.observed()}).Commit(); err != nil {
				t.Fatal(err)
			}
			for _, s := range next.model.Services {
				for _, host := range s.Hosts {
					if got, want := ends(c, host), ends(whole, host); !slices.Equal(got, want) {
						t.Fatalf("%s reaches %v, and with everything made anew %v", host, got, want)
					}
				}
			}
			steps++
		}
		tables += g.tables
		turned += g.turned
	})
	t.Logf("%d steps, %d with the table of all, %d in which others were diverted from it", steps, tables, turned)
	if tables == steps || turned == 0 {
		t.Error("every step needed the table of all, or nobody was ever diverted from it")
	}
}
