package xds

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

const (
	// KeptWay is how long a way out stays that no new connection is led to any more.
	// Envoy cuts what goes through a chain that is gone, and a connection that is
	// still being made finds no cluster to try again with. Who moves nothing for so
	// long is cut anyway.
	KeptWay = passIdle
	// maxKeptWays bounds how many such ways there are; the oldest go first.
	maxKeptWays = 64
)

// Ways remember the ways out that were made, and whose connections they may have
// taken. A way that nobody is led to any more, because a home moved or the order of
// the regions changed, is kept for KeptWay for the connections that it has: as long
// as the law still permits the hosts of all of them to go to all its regions, and not
// a moment longer. The zero value remembers nothing; it is a value, never changed.
type Ways struct{ taken map[string]takenWay }

type takenWay struct {
	pass
	through map[string]bool // hosts
	kept    bool            // nobody is led to it any more
	left    time.Time       // since when
}

// next gives what is remembered once passes are the ways that callers are led to, and
// the ways to keep besides. approved finds the law's present word on a host's service.
func (w Ways) next(passes []pass, approved func(host string) (law.Approved, bool), now time.Time) (Ways, []pass) {
	taken := make(map[string]takenWay, len(passes))
	for _, p := range passes {
		through := make(map[string]bool, len(p.hosts))
		for host := range w.taken[p.name].through {
			if _, owned := approved(host); owned {
				through[host] = true
			}
		}
		for _, host := range p.hosts {
			through[host] = true
		}
		taken[p.name] = takenWay{pass: p, through: through}
	}
	var kept []takenWay
	for name, t := range w.taken {
		if _, used := taken[name]; used {
			continue
		}
		if !t.kept {
			t.kept, t.left = true, now
		}
		if now.Sub(t.left) < KeptWay && t.lawful(approved) {
			t.follow(approved)
			kept = append(kept, t)
		}
	}
	slices.SortFunc(kept, func(a, b takenWay) int {
		if order := b.left.Compare(a.left); order != 0 {
			return order
		}
		return strings.Compare(a.name, b.name)
	})
	kept = kept[:min(len(kept), maxKeptWays)]
	list := make([]pass, len(kept))
	for i, t := range kept {
		taken[t.name], list[i] = t, t.pass
	}
	return Ways{taken}, list
}

// follow lets the way prefer what the present way of one of its hosts prefers, so that
// a connection which is still being made does not try again where nobody answers. The
// regions stay the same.
func (t *takenWay) follow(approved func(host string) (law.Approved, bool)) {
	t.hosts = nil
	for _, host := range slices.Sorted(maps.Keys(t.through)) {
		a, owned := approved(host)
		if !owned || a.Verdict() != law.Pass && a.Verdict() != law.Serve {
			continue
		}
		if now := passOf(a); slices.Equal(slices.Sorted(slices.Values(now.targets)), slices.Sorted(slices.Values(t.targets))) {
			t.home, t.targets = now.home, now.targets
			return
		}
	}
}

// lawful tells whether every host whose connections the way may have may be passed
// on to each of its regions now. Ways by a broken glass, and to regions that stand in,
// end with what permitted them.
func (t takenWay) lawful(approved func(host string) (law.Approved, bool)) bool {
	if strings.HasPrefix(t.name, EndingChains) {
		return false
	}
	for host := range t.through {
		if a, owned := approved(host); !owned || !mayStay(a, t.targets) {
			return false
		}
	}
	return true
}

// mayStay tells whether the owner allows connections for the service to be passed on
// to all of these regions, whoever is alive.
func mayStay(a law.Approved, targets []polder.RegionName) bool {
	allowed := a.Permission().Allowed()
	if a.Permission().Elsewhere() != polder.PassThrough && !slices.Contains(allowed, a.Here()) {
		return false
	}
	for _, region := range targets {
		s := a.Service()
		if !slices.Contains(allowed, region) || s.Run == nil && len(s.Endpoints[region]) == 0 {
			return false
		}
	}
	return true
}

// offends tells whether some way that is only kept may have connections for the
// host, and may not any more; a is the law's word on its service, if it has one.
func (w Ways) offends(host string, a law.Approved, owned bool) bool {
	for _, t := range w.taken {
		if t.kept && t.through[host] && !(owned && mayStay(a, t.targets)) {
			return true
		}
	}
	return false
}

// including remembers one more way that callers are led to by their names. One that is
// kept stays so, until the next table: its chain has the connections that it had, which
// may have to go.
func (w Ways) including(p pass) Ways {
	taken := maps.Clone(w.taken)
	if taken == nil {
		taken = map[string]takenWay{}
	}
	t := taken[p.name]
	if t.pass = p; t.through == nil {
		t.through = map[string]bool{}
	}
	taken[p.name] = t
	return Ways{taken}
}

// with notes that connections for hosts, listed by the way, are led there by their
// names.
func (w Ways) with(led map[string][]string) Ways {
	if len(led) == 0 {
		return w
	}
	taken := maps.Clone(w.taken)
	for name, hosts := range led {
		t, known := taken[name]
		if !known {
			continue // not a way out: it ends here
		}
		t.through = maps.Clone(t.through)
		for _, host := range hosts {
			t.through[host] = true
		}
		taken[name] = t
	}
	return Ways{taken}
}

// Kept counts the ways that nobody is led to any more.
func (w Ways) Kept() int {
	n := 0
	for _, t := range w.taken {
		if t.kept {
			n++
		}
	}
	return n
}

// Expired tells whether some way was kept for long enough at an instant.
func (w Ways) Expired(now time.Time) bool {
	for _, t := range w.taken {
		if t.kept && now.Sub(t.left) >= KeptWay {
			return true
		}
	}
	return false
}
