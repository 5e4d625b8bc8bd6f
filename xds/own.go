package xds

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// Most connections share their filter chains with those of other services.
// Four kinds have chains of their own. Two because of what happens when a chain goes:
// Envoy drains the connections that it has, closes them, and touches no others.
//
//   - Those of a service whose key is resident: the chain holds the key.
//   - Those that a broken glass permits: they end with it.
//
// And those of the services whose requests may be noted in the region's access
// log, together: so that no line is written of any other. Those whose requests may
// not be traced are together as well, because most may be.

const (
	// ResidentSecrets begins the names of the secrets of resident keys; the
	// service's name follows. No host has a slash, so none is called so.
	ResidentSecrets = "resident/"
	// EndingChains begins the names of filter chains whose connections end by
	// themselves; the second, counted from 1970, and a slash follow.
	EndingChains = "until/"

	loggedChains = "logged/"
)

// ending is the name of a filter chain whose connections end at an instant; the
// name itself when they do not.
func ending(until time.Time, name string) string {
	if until.IsZero() {
		return name
	}
	return EndingChains + strconv.FormatInt(until.Unix(), 10) + "/" + name
}

// servingChain is the name of the filter chain that opens connections for a host.
// Where nothing is traced, nothing has to be kept from it.
func servingChain(a law.Approved, host string, traces bool) string {
	base := chainServe
	if isWildcard(host) {
		base = chainWildcard
	}
	if traces && !a.MayKeep(polder.RecordTraces) {
		base = untracedChains + base
	}
	if a.MayKeep(polder.RecordAccessLog) {
		base = loggedChains + base
	}
	if a.Resident() {
		return ResidentSecrets + string(a.Service().Name) + "/" + base
	}
	return ending(a.Until(), base)
}

// ownChain is a filter chain that only some connections have.
type ownChain struct {
	name     string
	wild     bool               // the routes are those of wildcard hosts
	resident polder.ServiceName // whose key it holds; "" when that is fetched on demand
	logged   bool               // its requests are noted in the access log
	traced   bool               // its requests may be traced
	early    bool               // a ClientHello is told to Polder
	hosts    []string
}

// observed is who is told of a chain's requests.
type observed struct {
	log    string // file; "" for none
	traced bool
}

func (t hostTable) observed(c ownChain) observed {
	of := observed{traced: c.traced && t.traces}
	if c.logged {
		of.log = t.accessLog
	}
	return of
}

// own finds or makes the chain of a name, unless it is one that all share.
func (t *hostTable) own(a law.Approved, host string) *ownChain {
	name := servingChain(a, host, t.traces)
	if name == chainServe || name == chainWildcard {
		return nil
	}
	if i := slices.IndexFunc(t.owned, func(c ownChain) bool { return c.name == name }); i >= 0 {
		return &t.owned[i]
	}
	c := ownChain{name: name, wild: isWildcard(host), logged: a.MayKeep(polder.RecordAccessLog), traced: a.MayKeep(polder.RecordTraces)}
	if a.Resident() {
		c.resident = a.Service().Name
		c.early = tellsHello(a.Service())
	}
	t.owned = append(t.owned, c)
	return &t.owned[len(t.owned)-1]
}

func (t *hostTable) sortOwned() {
	for _, c := range t.owned {
		slices.Sort(c.hosts)
	}
	slices.SortFunc(t.owned, func(a, b ownChain) int { return cmp.Compare(a.name, b.name) })
}
