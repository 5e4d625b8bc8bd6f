package proof_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

// gradual publishes a world change by change.
type gradual struct {
	world
	hosts  xds.Hosts
	keys   map[polder.ServiceName][]xds.Key
	tables int
}

// advance brings the next world into force and gives the change.
func (g *gradual) advance(next world, tidy bool) proof.Change {
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
		set = append(set, g.hosts.Node(next.nodeConfig())...)
	}
	led, left := g.hosts.ByName()
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

// TestLaterHostsReachTheSame lets services come, go and move change by change: the
// proof accepts what is published each time, and callers of every host reach the
// same as if everything were made anew.
func TestLaterHostsReachTheSame(t *testing.T) {
	steps, tables := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		everybody := w.model.Services
		g := &gradual{world: w, hosts: xds.Hosts{Traces: true}, keys: map[polder.ServiceName][]xds.Key{}}
		c := proof.NewChecker(w.book())
		for range rapid.IntRange(2, 6).Draw(t, "steps") {
			next := w
			next.model = &polder.Model{Regions: w.model.Regions}
			for _, s := range everybody {
				if rapid.Bool().Draw(t, "there") {
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
	})
	t.Logf("%d steps, %d with the table of all", steps, tables)
	if tables == steps {
		t.Error("every step needed the table of all")
	}
}
