package xds_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
)

// wayWorld is a gateway that passes on, whose services' homes move.
type wayWorld struct {
	hosts xds.Hosts
	node  xds.NodeConfig
	now   map[string]polder.Service
	home  map[string]string
}

func newWayWorld(names ...string) *wayWorld {
	w := &wayWorld{now: map[string]polder.Service{}, home: map[string]string{}, node: xds.NodeConfig{
		Region: "fr", TrustDomain: "polder.test", Now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC),
		HTTPS: netip.MustParseAddrPort("192.0.2.1:443"), HTTP: netip.MustParseAddrPort("192.0.2.1:80"), Peer: netip.MustParseAddrPort("192.0.2.1:7443"),
		PeerOf: map[polder.RegionName][]string{"nl": {"192.0.2.20:7443"}, "pl": {"192.0.2.30:7443"}},
		PeerAt: map[string]string{"nl-1": "192.0.2.20:7443", "pl-1": "192.0.2.30:7443"},
	}}
	for _, name := range names {
		w.now[name] = polder.Service{Name: polder.ServiceName(name), Hosts: []polder.Host{polder.Host(name + ".example")},
			Run: &polder.Run{Command: []string{"s"}}, Residency: polder.Residency{
				Allow: []polder.Place{"nl", "pl"}, Elsewhere: polder.PassThrough, Failover: polder.Failover{Class: polder.FailoverClosed}}}
		w.home[name] = "nl-1"
	}
	return w
}

func (w *wayWorld) judge(name string) law.Approved {
	home := w.home[name]
	return law.Judge(w.now[name], law.Circumstances{Here: "fr", Regions: []polder.Region{{Name: "fr"}, {Name: "nl"}, {Name: "pl"}},
		Alive: polder.RegionHealth{"fr": true, "nl": true, "pl": true}, Home: law.Home{Peer: home, Region: polder.RegionName(strings.TrimSuffix(home, "-1"))}})
}

func (w *wayWorld) put() {
	for name := range w.now {
		w.hosts.Put(w.judge(name))
	}
}

// made lists the ways out that the node has, and gives its resources.
func (w *wayWorld) made() (ways []string, all map[xds.Key]xds.Resource) {
	all = map[xds.Key]xds.Resource{}
	for _, r := range w.hosts.Node(w.node) {
		all[r.Key] = r
		if r.Type == xds.TypeListener && strings.HasPrefix(r.Name, "pass/") {
			ways = append(ways, r.Name)
		}
	}
	return ways, all
}

const (
	toNL = "pass/nl-1/nl,pl"
	toPL = "pass/pl-1/pl,nl"
)

// TestWaysAreKept moves homes: the way that nobody takes any more stays, with what
// connections go through as it was, and prefers whom the new one prefers; until it was
// kept for long enough, or the law forbids one of those that it was for.
func TestWaysAreKept(t *testing.T) {
	allow := func(places ...polder.Place) func(w *wayWorld) {
		return func(w *wayWorld) {
			s := w.now["one"]
			s.Residency.Allow = places
			w.now["one"] = s
		}
	}
	for _, c := range []struct {
		name   string
		change func(w *wayWorld)
		want   []string
	}{
		{"nothing", func(*wayWorld) {}, []string{toNL, toPL}},
		{"the time is not over", func(w *wayWorld) { w.node.Now = w.node.Now.Add(xds.KeptWay - 1) }, []string{toNL, toPL}},
		{"the time is over", func(w *wayWorld) { w.node.Now = w.node.Now.Add(xds.KeptWay) }, []string{toPL}},
		{"the home comes back, with its time", func(w *wayWorld) {
			w.home["one"], w.home["two"] = "nl-1", "nl-1"
			w.node.Now = w.node.Now.Add(xds.KeptWay)
		}, []string{toNL, toPL}},
		{"the owner of one forbids a region", allow("pl"), []string{"pass/pl-1/pl", toPL}},
		{"the owner of one forbids the other region", allow("nl"), []string{"pass/nl", toPL}},
		{"the owner of one refuses", func(w *wayWorld) {
			s := w.now["one"]
			s.Residency.Elsewhere = polder.Refuse
			w.now["one"] = s
		}, []string{toPL}},
		{"one is gone", func(w *wayWorld) { delete(w.now, "one"); w.hosts.Remove("one") }, []string{toPL}},
		{"one was renamed", func(w *wayWorld) {
			s := w.now["one"]
			s.Hosts = []polder.Host{"other.example"}
			w.now["one"] = s
		}, []string{toPL}},
		{"one more comes", func(w *wayWorld) { w.now["three"] = newWayWorld("three").now["three"]; w.home["three"] = "pl-1" }, []string{toNL, toPL}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWayWorld("one", "two")
			w.put()
			ways, before := w.made()
			if !slices.Equal(ways, []string{toNL}) {
				t.Fatalf("made %v", ways)
			}
			w.home["one"], w.home["two"] = "pl-1", "pl-1"
			w.put()
			ways, after := w.made()
			if !slices.Equal(ways, []string{toNL, toPL}) || w.hosts.Ways.Kept() != 1 {
				t.Fatalf("once the home has moved there are %v, %d of them kept", ways, w.hosts.Ways.Kept())
			}
			for _, k := range []xds.Key{{Type: xds.TypeListener, Name: toNL}, {Type: xds.TypeCluster, Name: "wrap/" + toNL}} {
				if before[k].Version != after[k].Version {
					t.Errorf("%v changed, and what goes through it is cut", k)
				}
			}
			c.change(w)
			w.put()
			if got, _ := w.made(); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestAForbiddenWayGoesByItself holds that Hosts asks for the node's resources to be
// made when the law forbids what is only kept, though callers go where they went.
func TestAForbiddenWayGoesByItself(t *testing.T) {
	w := newWayWorld("one", "two")
	w.put()
	w.made()
	w.home["one"], w.home["two"] = "pl-1", "pl-1"
	w.put()
	w.made()
	if w.put(); w.hosts.Changed() {
		t.Error("nothing is different, and the node changed")
	}
	w.hosts.Remove("one")
	if !w.hosts.Changed() {
		t.Error("a host of the kept way is gone, and the node did not change")
	}
}

// TestKeptWaysAreBounded moves a home more often than ways may be kept.
func TestKeptWaysAreBounded(t *testing.T) {
	w := newWayWorld("one")
	for i := range 70 {
		w.home["one"] = "nl-1"
		s := w.now["one"]
		w.hosts.Put(law.Judge(s, law.Circumstances{Here: "fr", Regions: []polder.Region{{Name: "fr"}, {Name: "nl"}, {Name: "pl"}},
			Alive: polder.RegionHealth{"nl": true, "pl": true}, Home: law.Home{Peer: "nl-" + string(rune('A'+i)), Region: "nl"}}))
		w.node.Now = w.node.Now.Add(time.Second)
		ways, _ := w.made()
		if len(ways) > 65 || !slices.Contains(ways, "pass/nl-"+string(rune('A'+i))+"/nl,pl") {
			t.Fatalf("after %d moves there are %d ways, or not the present one", i+1, len(ways))
		}
	}
	if n := w.hosts.Ways.Kept(); n != 64 {
		t.Errorf("%d ways are kept, want 64", n)
	}
	if w.hosts.Ways.Expired(w.node.Now) || !w.hosts.Ways.Expired(w.node.Now.Add(xds.KeptWay)) {
		t.Error("ways are over too early, or never")
	}
}

// TestWaysAreRecalled is a gateway that begins anew in the place of another: with what
// that told of its ways, it makes them byte for byte as they were, for as long as the
// other would have, and under the same law.
func TestWaysAreRecalled(t *testing.T) {
	before := newWayWorld("one", "two")
	before.put()
	before.made()
	left := before.node.Now
	before.home["one"], before.home["two"] = "pl-1", "pl-1"
	before.put()
	_, were := before.made()

	for _, c := range []struct {
		name  string
		after time.Duration // since the way was left
		allow []polder.Place
		want  []string
	}{
		{"at once", 0, []polder.Place{"nl", "pl"}, []string{toNL, toPL}},
		{"just in time", xds.KeptWay - time.Second, []polder.Place{"nl", "pl"}, []string{toNL, toPL}},
		{"too late", xds.KeptWay, []polder.Place{"nl", "pl"}, []string{toPL}},
		{"its owner forbids it", 0, []polder.Place{"pl"}, []string{"pass/pl-1/pl", toPL}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWayWorld("one", "two")
			one := w.now["one"]
			one.Residency.Allow = c.allow
			w.now["one"] = one
			w.home["one"], w.home["two"] = "pl-1", "pl-1"
			half := c.after / 2
			ways, err := xds.Recall(before.hosts.Ways.Tell(left.Add(half)), left.Add(half))
			if err != nil {
				t.Fatal(err)
			}
			w.hosts.Ways, w.node.Now = ways, left.Add(c.after)
			w.put()
			got, all := w.made()
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("the ways are %v, want %v", got, c.want)
			}
			key := xds.Key{Type: xds.TypeListener, Name: toNL}
			if r, kept := all[key]; kept && r.Version != were[key].Version {
				t.Errorf("the way is not as it was")
			}
		})
	}

	// Who comes by name is told of besides, and joined.
	w := newWayWorld("one")
	w.put()
	w.made()
	told := w.hosts.Ways.Tell(left)
	late := w.now["one"]
	late.Name, late.Hosts = "late", []polder.Host{"late.example"}
	w.now["late"], w.home["late"] = late, "nl-1"
	w.put()
	w.hosts.ByName(time.Time{})
	ways, err := xds.Recall(append(told, w.hosts.Joined()...), left)
	if err != nil {
		t.Fatal(err)
	}
	if got := ways.Tell(left); len(got) != 1 || !slices.Equal(got[0].Through, []string{"late.example", "one.example"}) {
		t.Errorf("joined: %+v", got)
	}
	for _, bad := range []xds.Way{{}, {Name: toNL}, {Name: toNL, Targets: []polder.RegionName{"nl"}, Left: -1}} {
		if ways, err := xds.Recall([]xds.Way{told[0], bad}, left); err == nil || len(ways.Tell(left)) > 0 {
			t.Errorf("%+v is recalled", bad)
		}
	}
}
