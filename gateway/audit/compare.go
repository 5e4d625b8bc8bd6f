package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/dump"
	"github.com/polder/polder/xds/proof"
	"github.com/polder/polder/xds/server"
)

// Kind says in which way an Envoy differs from what it should be.
type Kind string

// The kinds of drift.
const (
	Foreign   Kind = "foreign"   // nobody here published it
	Changed   Kind = "changed"   // it is not as it was published
	Missing   Kind = "missing"   // the Envoy accepted it, and does not have it
	Unlawful  Kind = "unlawful"  // the proof refuses it
	Unread    Kind = "unread"    // it cannot be taken apart
	Overruled Kind = "overruled" // a runtime value was set by hand
)

// Drift is one difference between a running Envoy and what was published.
type Drift struct {
	Kind   Kind   `json:"kind"`
	What   string `json:"what"` // kind and name of the resource
	Reason string `json:"reason"`
}

func (d Drift) String() string { return fmt.Sprintf("%s %s: %s", d.Kind, d.What, d.Reason) }

// what is the word for a resource: that of the proof's paths.
func what(k xds.Key) string {
	words := map[string]string{
		xds.TypeListener: "listener", xds.TypeScope: "scope", xds.TypeRoute: "routes",
		xds.TypeCluster: "cluster", xds.TypeEndpoint: "endpoints", xds.TypeSecret: "secret",
		xds.TypeExtension: "filter",
	}
	return cmp.Or(words[k.Type], k.Type) + " " + k.Name
}

// look is everything that one look at an Envoy found.
type look struct {
	expectation
	held      server.Held
	last      map[xds.Key]string // digests that the last audit found in order
	dump      *dump.Dump
	overrides []dump.Override
}

// compare finds the differences. settled tells that the expectation is
// certain; otherwise only what was never published counts, and, as long as the
// Envoy was not yet seen to be as it should (known), not even that: it may
// still have what an earlier Polder gave it.
func compare(l look, want dump.Expected, settled, known bool) []Drift {
	var list []Drift
	add := func(kind Kind, k xds.Key, format string, values ...any) {
		list = append(list, Drift{kind, what(k), fmt.Sprintf(format, values...)})
	}
	for _, f := range l.dump.Faults {
		list = append(list, Drift{Unread, f.Where, f.Reason})
	}
	for _, o := range l.overrides {
		list = append(list, Drift{Overruled, "runtime value " + o.Key, fmt.Sprintf("layer %s sets it to %q", o.Layer, o.Value)})
	}
	if l.dump.Bootstrap != want.Bootstrap {
		list = append(list, Drift{Changed, "bootstrap", "the Envoy was started with another one than this region's"})
	}
	static := map[xds.Key]bool{}
	for _, r := range l.dump.Static {
		static[r.Key] = true
		switch digest, ok := want.Static[r.Key]; {
		case !ok:
			add(Foreign, r.Key, "is built into the Envoy, and the region's bootstrap has none of that name")
		case digest != r.Digest:
			add(Changed, r.Key, "is not as in the region's bootstrap")
		}
	}
	for k := range want.Static {
		if !static[k] {
			add(Missing, k, "is part of the region's bootstrap")
		}
	}
	switch {
	case settled:
		list = append(list, l.compareHeld()...)
	case known:
		list = append(list, l.comparePublished()...)
	}
	slices.SortFunc(list, func(a, b Drift) int {
		return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Reason, b.Reason))
	})
	return slices.Compact(list)
}

// compareHeld holds the dump against exactly what the Envoy acknowledged.
func (l look) compareHeld() []Drift {
	var list []Drift
	add := func(kind Kind, k xds.Key, reason string) { list = append(list, Drift{kind, what(k), reason}) }
	there := map[xds.Key]bool{}
	for _, r := range l.dump.Resources {
		there[r.Key] = true
		sent, ok := l.held.Versions[r.Key]
		if !ok {
			add(Foreign, r.Key, "this region's control plane did not send it")
			continue
		}
		switch digest, ok := l.digest(r.Key, sent); {
		case r.Digest == digest:
		case !ok && (r.Digest == sent && r.Type != xds.TypeEndpoint || r.Digest == l.last[r.Key]):
			// The Envoy rejected all newer ones, and has the last that it accepted, from
			// the archive of an earlier Polder perhaps, which holds no endpoints. Whether
			// it is lawful still, the proof tells.
		case !ok:
			add(Foreign, r.Key, "the control plane sent it, and it never passed the proof")
		default:
			add(Changed, r.Key, fmt.Sprintf("runs as %s, was published as %s", r.Digest, digest))
		}
	}
	for _, s := range l.dump.Secrets {
		k := xds.Key{Type: xds.TypeSecret, Name: s.Name}
		switch sent, ok := l.held.Versions[k]; {
		case !ok:
			add(Foreign, k, "this region's control plane did not give it, or took it back")
		case sent != s.Version:
			add(Changed, k, fmt.Sprintf("runs as %s, was given as %s", s.Version, sent))
		}
	}
	for _, k := range l.dump.Warming {
		there[k] = true
		if _, ok := l.held.Versions[k]; !ok {
			add(Foreign, k, "is being taken in, and this region's control plane did not send it")
		}
	}
	for k := range l.held.Versions {
		if !there[k] && k.Type != xds.TypeSecret { // an Envoy may drop a key that it can ask for again
			add(Missing, k, "the Envoy acknowledged it, and does not have it")
		}
	}
	return list
}

// comparePublished holds the dump against all that was ever published.
func (l look) comparePublished() []Drift {
	var list []Drift
	for _, r := range l.dump.Resources {
		switch same, name := l.published(r.Key, r.Digest); {
		case !name:
			list = append(list, Drift{Foreign, what(r.Key), "this region never published anything of that name"})
		case !same && r.Digest != l.last[r.Key]:
			list = append(list, Drift{Changed, what(r.Key), fmt.Sprintf("runs as %s, which this region never published", r.Digest)})
		}
	}
	return list
}

// prove runs the proof over what the Envoy has. It says whose rights are
// concerned, which a difference in bytes does not.
func (c *prover) prove(l look) []Drift {
	book := l.book
	if c.checker == nil {
		c.checker, c.had = proof.NewChecker(book), map[proof.Key]bool{}
	}
	change := proof.Change{Book: book, Instances: maps.Clone(l.instances)}
	has := map[proof.Key]bool{}
	for _, r := range l.dump.Resources {
		k := proof.Key(r.Key)
		has[k] = true
		change.Set = append(change.Set, proof.Resource{Key: k, Body: r.Body})
	}
	for k := range c.had {
		if !has[k] {
			change.Remove = append(change.Remove, k)
		}
	}
	for service := range c.services {
		if _, ok := l.instances[service]; !ok {
			change.Instances[service] = nil
		}
	}
	proposal := c.checker.Propose(change)
	var list []Drift
	for _, v := range proposal.Violations() {
		list = append(list, Drift{Unlawful, v.Path[len(v.Path)-1], v.String()})
	}
	for _, s := range l.dump.Secrets {
		for _, v := range proof.CheckSecret(book, s.Name) {
			list = append(list, Drift{Unlawful, v.Path[0], v.String()})
		}
	}
	if len(list) > 0 || proposal.Commit() != nil {
		c.checker = nil // the next proof starts afresh
		return list
	}
	c.had, c.services = has, l.instances
	return nil
}

// names lists what drifts concern, for one line.
func names(list []Drift) string {
	const most = 5
	var parts []string
	for i, d := range list {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(list)-most))
			break
		}
		parts = append(parts, string(d.Kind)+" "+d.What)
	}
	return strings.Join(parts, ", ")
}
