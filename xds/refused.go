package xds

import (
	"slices"

	"github.com/polder/polder/regions/law"
)

// fewRefused is up to how many refused hosts are led to their refusal by their names,
// each by a cluster of its own, and are not in the entrypoint's table: that such a host
// comes, goes, or is permitted again then leaves the table alone. More are in the table,
// where a host takes some 25 bytes and no cluster.
const fewRefused = 256

// refusedHosts are the hosts whose callers are refused. Each list is sorted.
type refusedHosts struct {
	forbidden   []string // their owners refuse callers here
	unavailable []string // no region that may serve them is alive
	redirected  []string // below a wildcard host of these, themselves neither
}

// list is where a host with such a verdict belongs; nil for one that is not refused.
func (r *refusedHosts) list(v law.Verdict) *[]string {
	switch v {
	case law.Forbidden:
		return &r.forbidden
	case law.Unavailable:
		return &r.unavailable
	}
	return nil
}

// few tells whether the exact ones among them are led by their names.
func (r *refusedHosts) few() bool { return len(r.forbidden)+len(r.unavailable) <= fewRefused }

// add puts a host into its list; take takes it out.
func (r *refusedHosts) add(host string, v law.Verdict) {
	list := r.list(v)
	if at, found := slices.BinarySearch(*list, host); !found {
		*list = slices.Insert(*list, at, host)
	}
}

func (r *refusedHosts) take(host string, v law.Verdict) {
	list := r.list(v)
	if at, found := slices.BinarySearch(*list, host); found {
		*list = slices.Delete(*list, at, at+1)
	}
}

// refusal is the internal listener for connections that are refused for this reason;
// "" when the verdict is another.
func refusal(v law.Verdict) string {
	switch v {
	case law.Forbidden:
		return listenerForbidden
	case law.Unavailable:
		return listenerUnavailable
	}
	return ""
}

// leadRefused decides which refused hosts are led by their names. A name below a
// wildcard is not: the table would lead it where the wildcard's connections go.
func (t *hostTable) leadRefused(wildcards map[string]bool) {
	t.led = map[string]string{}
	if !t.few() {
		return
	}
	for _, v := range []law.Verdict{law.Forbidden, law.Unavailable} {
		for _, host := range *t.list(v) {
			if !isWildcard(host) && !below(host, wildcards) {
				t.led[host] = refusal(v)
			}
		}
	}
}

// listed gives the hosts that the entrypoint's table names.
func (t hostTable) listed(hosts []string) []string {
	return slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return t.led[h] != "" })
}
