package xds_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
)

// TestHostsTellWhetherTheNodeChanges holds Hosts against the plain way, which is
// to make all resources of the node: whatever was changed, what Hosts gave one after the
// other is the same, or it says that some hosts are pending. Package proof tests that
// callers reach the same meanwhile.
func TestHostsTellWhetherTheNodeChanges(t *testing.T) {
	regions := []polder.Region{{Name: "fr"}, {Name: "nl"}, {Name: "pl"}}
	node := xds.NodeConfig{Region: "fr", TrustDomain: "polder.test", HTTPS: netip.MustParseAddrPort("192.0.2.1:443"),
		HTTP: netip.MustParseAddrPort("192.0.2.1:80"), Peer: netip.MustParseAddrPort("192.0.2.1:7443")}
	pool := []polder.Host{"a.example", "b.example", "x.a.example", "*.a.example", "*.example"}
	some, still := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		var hosts xds.Hosts
		services := map[polder.ServiceName]law.Approved{}
		have := map[xds.Key]xds.Resource{}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				name := rapid.SampledFrom([]polder.ServiceName{"one", "two", "three"}).Draw(t, "service")
				delete(services, name)
				hosts.Remove(name)
				if rapid.Bool().Draw(t, "removed") {
					continue
				}
				var free []polder.Host
				for _, host := range pool {
					taken := false
					for _, other := range services {
						taken = taken || slices.Contains(other.Service().Hosts, host)
					}
					if !taken {
						free = append(free, host)
					}
				}
				if len(free) == 0 {
					continue
				}
				s := polder.Service{
					Name:    name,
					Hosts:   rapid.SliceOfNDistinct(rapid.SampledFrom(free), 1, len(free), rapid.ID[polder.Host]).Draw(t, "hosts"),
					Run:     &polder.Run{Command: []string{"s"}},
					Timeout: time.Duration(rapid.IntRange(1, 2).Draw(t, "timeout")) * time.Second,
					Residency: polder.Residency{
						Allow:     []polder.Place{polder.Place(rapid.SampledFrom([]string{"fr", "nl", "pl"}).Draw(t, "allow"))},
						Failover:  polder.Failover{Class: polder.FailoverClosed},
						Elsewhere: rapid.SampledFrom([]polder.Elsewhere{polder.PassThrough, polder.Refuse}).Draw(t, "elsewhere"),
					},
				}
				services[name] = law.Judge(s, law.Circumstances{Here: "fr", Regions: regions, Alive: polder.RegionHealth{"fr": true, "nl": true}})
				hosts.Put(services[name])
			}
			var judged []law.Approved
			for _, a := range services {
				judged = append(judged, a)
			}
			table := hosts.Changed() || rapid.Bool().Draw(t, "tidy")
			if table {
				maps.DeleteFunc(have, func(k xds.Key, _ xds.Resource) bool { return !xds.IsByName(k.Name) })
				for _, r := range hosts.Node(node) {
					have[r.Key] = r
				}
			}
			for range 2 { // and what lingered goes
				set, remove := hosts.ByName(node.Now)
				for _, r := range set {
					have[r.Key] = r
				}
				for _, k := range remove {
					delete(have, k)
				}
				node.Now = node.Now.Add(time.Minute)
			}
			if table && (hosts.Pending() > 0 || hosts.Changed()) {
				t.Fatalf("the table is new, and %d are pending, or it is demanded again: %v", hosts.Pending(), hosts.Changed())
			}
			if hosts.Pending() > 0 {
				some++
				continue
			}
			if got, want := versions(slices.Collect(maps.Values(have))), versions(xds.Node(judged, node)); got != want {
				t.Fatalf("Hosts makes other resources than Node:\n%s\nwant\n%s", got, want)
			}
			if !table {
				still++
			}
		}
	})
	if some == 0 || still == 0 {
		t.Errorf("%d times hosts were pending, %d times neither that nor the table of all: this shows nothing", some, still)
	}
}

// TestHostsStayAsTheyAre names the changes of one service that must cost
// nothing at the node, however many services there are.
func TestHostsStayAsTheyAre(t *testing.T) {
	judge := func(name polder.ServiceName, timeout time.Duration, hosts ...polder.Host) law.Approved {
		return law.Judge(polder.Service{Name: name, Hosts: hosts, Timeout: timeout, Run: &polder.Run{Command: []string{"s"}},
			Residency: polder.Residency{Allow: []polder.Place{"fr"}}}, law.Circumstances{Here: "fr", Regions: []polder.Region{{Name: "fr"}}})
	}
	var hosts xds.Hosts
	hosts.Put(judge("one", time.Second, "a.example", "moving.example"))
	hosts.Put(judge("two", time.Second, "b.example"))
	hosts.Node(xds.NodeConfig{})
	hosts.Put(judge("one", time.Minute, "a.example", "moving.example"))
	if hosts.Changed() {
		t.Error("another timeout of a service changed the node")
	}
	hosts.Put(judge("one", time.Minute, "a.example"))
	hosts.Put(judge("two", time.Second, "b.example", "moving.example"))
	if hosts.Changed() {
		t.Error("a host that moved between two served services changed the node")
	}
	hosts.Remove("two")
	hosts.Put(judge("three", time.Second, "c.example"))
	if hosts.Changed() || hosts.Pending() != 3 {
		t.Errorf("a service that went and one that came need the table of all: %v, or are not pending: %d, want 3", hosts.Changed(), hosts.Pending())
	}
	if set, remove := hosts.ByName(time.Time{}); len(set) != 1 || set[0].Name != "to/c.example" || len(remove) != 0 {
		t.Errorf("led by their names: %v and not %v, want c.example", set, remove)
	}
	hosts.Remove("three")
	if set, remove := hosts.ByName(time.Time{}); len(set) != 0 || len(remove) != 1 || hosts.Pending() != 2 {
		t.Errorf("after it went: %v and not %v, %d pending", set, remove, hosts.Pending())
	}
	hosts.Put(judge("four", time.Second, "*.example"))
	if !hosts.Changed() {
		t.Error("a wildcard came without the table of all, which it may capture names of")
	}
}

// TestRefusedHostsLeaveTheTableAlone lets hosts be refused and permitted: none of it needs the
// table of all, while it tells of no refused host anything else than a closed door.
func TestRefusedHostsLeaveTheTableAlone(t *testing.T) {
	judge := func(name polder.ServiceName, allow polder.Place, keys polder.Keys) law.Approved {
		return law.Judge(polder.Service{Name: name, Hosts: []polder.Host{polder.Host(name + ".example")}, Run: &polder.Run{Command: []string{"s"}},
			Residency: polder.Residency{Allow: []polder.Place{allow}, Elsewhere: polder.Refuse, Keys: keys, Failover: polder.Failover{Class: polder.FailoverClosed}}},
			law.Circumstances{Here: "fr", Regions: []polder.Region{{Name: "fr"}, {Name: "nl"}}, Alive: polder.RegionHealth{"nl": true}})
	}
	var hosts xds.Hosts
	var at time.Time
	step := func(what string, wantChanged bool, want ...string) {
		t.Helper()
		sends(t, &hosts, at, what, wantChanged, want...)
	}
	hosts.Put(judge("one", "fr", polder.KeysOnDemand))
	hosts.Put(judge("keyed", "fr", polder.KeysResident))
	step("served", true)
	hosts.Put(judge("two", "nl", polder.KeysOnDemand))
	step("one that comes refused", false, "entrypoint-http", "to/two.example")
	hosts.Put(judge("two", "fr", polder.KeysOnDemand))
	step("and is permitted", false, "entrypoint-http", "to/two.example")
	hosts.Put(judge("two", "nl", polder.KeysOnDemand))
	step("and is refused", false, "entrypoint-http", "to/two.example")
	hosts.Put(judge("one", "nl", polder.KeysOnDemand))
	step("one that the table has is refused", false, "diverted", "entrypoint-http", "to/one.example")
	hosts.Put(judge("one", "fr", polder.KeysOnDemand))
	step("and permitted", false, "diverted", "entrypoint-http", "to/one.example")
	at = at.Add(time.Minute)
	step("when nobody can be on the way any more who was diverted", false, "without to/one.example")
	hosts.Put(judge("one", "nl", polder.KeysOnDemand))
	step("and refused", false, "diverted", "entrypoint-http", "to/one.example")
	hosts.Remove("one")
	step("and goes", false, "diverted", "entrypoint-http", "without to/one.example")
	if _, is := hosts.Former()["one.example"]; !is {
		t.Error("nobody is told that the table still has the host that went")
	}
	hosts.Put(judge("one", "nl", polder.KeysOnDemand))
	hosts.Node(xds.NodeConfig{})
	step("a minute later", false, "to/one.example")
	hosts.Remove("two")
	step("a refused one goes", false, "entrypoint-http", "without to/two.example")
	hosts.Put(judge("keyed", "nl", polder.KeysOnDemand))
	step("one whose key is in its chain is refused", true, "to/keyed.example")
}

// TestHostsAreDiverted lets hosts that the table has be treated otherwise: as long as they
// are few, and the law permits those connections that it led out before, the table waits.
func TestHostsAreDiverted(t *testing.T) {
	regions := []polder.Region{{Name: "fr"}, {Name: "nl"}, {Name: "pl"}}
	judge := func(name string, home string, allow ...polder.Place) law.Approved {
		of, _, _ := strings.Cut(home, "-")
		at := law.Circumstances{Here: "fr", Regions: regions, Alive: polder.RegionHealth{"nl": true, "pl": true}}
		if home != "" {
			at.Home = law.Home{Peer: home, Region: polder.RegionName(of)}
		}
		return law.Judge(polder.Service{Name: polder.ServiceName(name), Hosts: []polder.Host{polder.Host(name + ".example")}, Run: &polder.Run{Command: []string{"s"}},
			Residency: polder.Residency{Allow: allow, Elsewhere: polder.PassThrough, Failover: polder.Failover{Class: polder.FailoverClosed}}}, at)
	}
	var hosts xds.Hosts
	var at time.Time
	step := func(what string, wantChanged bool, want ...string) {
		t.Helper()
		sends(t, &hosts, at, what, wantChanged, want...)
	}
	hosts.Put(judge("one", "nl-1", "fr", "nl", "pl"))
	hosts.Put(judge("two", "", "fr"))
	step("at first", true)
	hosts.Put(judge("one", "nl-2", "fr", "nl", "pl"))
	step("a home moves where nobody went", false, "diverted", "pass/nl-2/nl,fr", "pass/nl-2/nl,fr", "to/one.example", "wrap/pass/nl-2/nl,fr")
	hosts.Put(judge("two", "nl-2", "fr", "nl"))
	step("another's moves there as well", false, "diverted", "to/two.example")
	hosts.Put(judge("one", "pl-1", "fr", "nl", "pl"))
	step("the first moves on", false, "pass/pl-1/pl,fr", "pass/pl-1/pl,fr", "to/one.example", "wrap/pass/pl-1/pl,fr")
	hosts.Put(judge("one", "nl-1", "fr", "nl", "pl"))
	step("and back to where the table leads", false, "diverted", "to/one.example")
	if hosts.Lingering(at) || !hosts.Lingering(at.Add(time.Minute)) {
		t.Error("the cluster of a host that is not diverted any more goes at once, or never")
	}
	at = at.Add(time.Minute)
	step("when nobody can be on the way any more who was diverted", false, "without to/one.example")
	if hosts.Pending() != 2 {
		t.Errorf("%d are pending, want the other host, and the way that nobody takes any more", hosts.Pending())
	}
	hosts.Put(judge("one", "", "pl"))
	step("it may not be where the table led its connections", true)
	at = at.Add(time.Minute)
	step("when the other's cluster lingered for long enough", false, "without to/two.example")
	hosts.Put(judge("one", "", "fr", "pl"))
	step("it is served, and was passed on", false, "diverted", "to/one.example")
	if hosts.Pending() != 1 {
		t.Errorf("%d hosts are pending, want the one that is diverted", hosts.Pending())
	}
	hosts.Node(xds.NodeConfig{Now: at})
	step("the table takes it in", false)
	at = at.Add(time.Minute)
	step("a minute later", false, "without to/one.example")

	const many = 128 // may be diverted
	for i := range many + 1 {
		hosts.Put(judge(fmt.Sprint("many", i), "", "fr"))
	}
	hosts.Node(xds.NodeConfig{})
	hosts.ByName(time.Time{})
	for i := range many {
		hosts.Put(judge(fmt.Sprint("many", i), "nl-1", "fr", "nl"))
	}
	if hosts.Changed() || hosts.Pending() != many {
		t.Errorf("%d hosts are treated otherwise: the table is needed at once: %v, %d pending", many, hosts.Changed(), hosts.Pending())
	}
	if hosts.Put(judge(fmt.Sprint("many", many), "nl-1", "fr", "nl")); !hosts.Changed() {
		t.Errorf("more than %d hosts are diverted, each of which costs every new connection", many)
	}
	hosts.Node(xds.NodeConfig{})
	hosts.Put(judge("odd_name", "", "fr"))
	hosts.Node(xds.NodeConfig{})
	if hosts.Put(judge("odd_name", "nl-1", "fr", "nl")); !hosts.Changed() {
		t.Error("a name is diverted that the filter cannot say")
	}
}

// sends holds what hosts gives at an instant for what was put into it.
func sends(t *testing.T, hosts *xds.Hosts, at time.Time, what string, wantChanged bool, want ...string) {
	t.Helper()
	if hosts.Changed() != wantChanged {
		t.Errorf("%s: the table of all is needed: %v, want %v", what, hosts.Changed(), wantChanged)
	}
	if hosts.Changed() {
		hosts.Node(xds.NodeConfig{Now: at})
	}
	set, remove := hosts.ByName(at)
	var got []string
	for _, r := range set {
		got = append(got, r.Name)
	}
	for _, k := range remove {
		got = append(got, "without "+k.Name)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%s: sends %q, want %q", what, got, want)
	}
}

func versions(set []xds.Resource) string {
	var lines []string
	for _, r := range set {
		lines = append(lines, fmt.Sprintln(r.Type, r.Name, r.Version))
	}
	slices.Sort(lines)
	return fmt.Sprint(lines)
}
