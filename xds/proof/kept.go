package proof

import (
	"cmp"
	"maps"
	"slices"
)

// A chain that passes connections on keeps those that it has when the public
// listener no longer leads anybody to it. Nothing in the resources tells whose they
// are; the checker knows, for it proved what was there before.

// led is a chain of a public listener.
type led struct {
	listener Key
	chain    string
}

// Led are the names whose connections one filter chain of a public listener may have,
// in a form that outlives the process.
type Led struct {
	Listener Key      `json:"listener"`
	Chain    string   `json:"chain"`
	Names    []string `json:"names"` // sorted
}

// Tell gives what the checker knows of the connections that chains have which pass
// them on, as of the last Commit.
func (c *Checker) Tell() []Led {
	list := make([]Led, 0, len(c.now.through))
	for way, names := range c.now.through {
		list = append(list, Led{way.listener, way.chain, slices.Sorted(maps.Keys(names))})
	}
	slices.SortFunc(list, func(a, b Led) int {
		return cmp.Or(cmp.Compare(a.Listener.Name, b.Listener.Name), cmp.Compare(a.Chain, b.Chain))
	})
	return list
}

// Recall tells a new checker what an earlier one knew of the connections that Envoy
// still has. In what is proved first a chain to which no name leads, and of which nobody
// told, is a violation then: it may have anybody's. Later there is none of which the
// checker does not know.
func (c *Checker) Recall(list []Led) {
	c.now.recalled = true
	c.now.through = map[led]map[string]bool{}
	for _, told := range list {
		names := make(map[string]bool, len(told.Names))
		for _, name := range told.Names {
			names[name] = true
		}
		c.now.through[led{told.Listener, told.Chain}] = names
	}
}

// names lists the names that a gate leads to each of its chains.
func (g gate) names() map[string][]string {
	names := map[string][]string{}
	for name, chain := range g.l.byName {
		names[chain] = append(names[chain], name)
	}
	return names
}

// remember notes, of what is in force now, whose connections each chain of a public
// listener that passes them on may have. A chain that callers are led to cannot go
// because of one host, so hosts that nobody has any more are forgotten there.
func (s *state) remember(before map[led]map[string]bool) map[led]map[string]bool {
	now := map[led]map[string]bool{}
	for _, g := range s.gates {
		if !g.public {
			continue
		}
		names := g.names()
		for chain, d := range g.deeds {
			if d.kind != passes {
				continue
			}
			way := led{g.key, chain}
			through := maps.Clone(before[way])
			if through == nil {
				through = map[string]bool{}
			}
			if len(names[chain]) > 0 {
				maps.DeleteFunc(through, func(host string, _ bool) bool { return !s.book.owners.has(host) })
			}
			for _, host := range names[chain] {
				through[host] = true
			}
			now[way] = through
		}
	}
	return now
}

// judgeKept proves that a chain to which no name leads any more, and which may still
// have connections, passes on only those whose services may still go to all regions
// that it leads to.
func (v *view) judgeKept(g gate) {
	names := g.names()
	for _, chain := range slices.Sorted(maps.Keys(g.deeds)) {
		d := g.deeds[chain]
		if d.kind != passes || len(names[chain]) > 0 {
			continue
		}
		through, told := v.through[led{g.key, chain}]
		if v.recalled && !told {
			v.report(nil, extend(g.path, at("chain", chain)), someAddress(d), "keeps connections alive, and nobody knows for which names")
			continue
		}
		for _, host := range slices.Sorted(maps.Keys(through)) {
			path := extend(g.path, at("chain", chain), at("kept for", host))
			e := v.owner(host)
			if e == nil {
				v.report(nil, path, someAddress(d), "keeps connections alive for a name that nobody owns")
				continue
			}
			v.judgeDeed(e, d, path, host)
		}
	}
}
