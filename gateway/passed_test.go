package gateway

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/xds"
)

// TestWhatAChangeOfAServiceThatIsPassedOnSends changes a service of another region, whose
// callers this gateway only passes on, among a thousand others. What leaves the way of
// its callers as it is sends nothing; a host more or less is one small cluster; another
// way is that way, and the table.
func TestWhatAChangeOfAServiceThatIsPassedOnSends(t *testing.T) {
	r, now := still(t), time.Now()
	r.ctx = t.Context()
	sent := r.publisher.(*quiet)
	r.around = regionsAlive("fr", "nl", "pl")
	regions := append(slices.Clone(testRegions), polder.Region{Name: "pl"})
	subject := routed("subject", 80, "nl")
	model := func(there bool) *polder.Model {
		m := &polder.Model{Regions: regions}
		for i := range 1000 {
			m.Services = append(m.Services, routed(fmt.Sprintf("s%03d", i), 80, []polder.Place{"fr", "nl", "pl"}[i%3]))
		}
		if there {
			s := subject
			s.Hosts, s.Endpoints = slices.Clone(s.Hosts), maps.Clone(s.Endpoints)
			m.Services = append(m.Services, s)
		}
		return m
	}
	r.adopt(model(false), now)
	cluster := func(name string) xds.Key { return xds.Key{Type: xds.TypeCluster, Name: name} }
	listener := func(name string) xds.Key { return xds.Key{Type: xds.TypeListener, Name: name} }
	diverted := xds.Key{Type: xds.TypeExtension, Name: "diverted"}
	for _, step := range []struct {
		what   string
		change func()
		want   []xds.Key
	}{
		{"it comes", func() {}, []xds.Key{cluster("to/subject.example.com")}},
		{"another endpoint", func() { subject.Endpoints["nl"] = at(81) }, nil},
		{"one endpoint more", func() { subject.Endpoints["nl"] = at(81, 82) }, nil},
		{"another protocol and timeout", func() { subject.Protocol, subject.Timeout = polder.HTTP2, time.Hour }, nil},
		{"one host more", func() { subject.Hosts = append(subject.Hosts, "more.example.com") }, []xds.Key{cluster("to/more.example.com")}},
		{"another endpoint of two hosts", func() { subject.Endpoints["nl"] = at(83) }, nil},
		{"one host less", func() { subject.Hosts = subject.Hosts[:1] }, []xds.Key{cluster("to/more.example.com")}},
		{"the table takes it in", func() { r.publishHosts(change{}, true, difference{}, now) },
			[]xds.Key{listener("entrypoint-https"), cluster("to/subject.example.com")}},
		{"another endpoint of a host in the table", func() { subject.Endpoints["nl"] = at(84) }, nil},
		{"one region more, and a way that nobody took before", func() { subject.Residency.Allow, subject.Endpoints["pl"] = []polder.Place{"nl", "pl"}, at(84) },
			[]xds.Key{listener("pass/nl,pl"), cluster("wrap/pass/nl,pl"), cluster("pass/nl,pl"), cluster("to/subject.example.com"), diverted}},
		{"another endpoint in either region", func() { subject.Endpoints["nl"], subject.Endpoints["pl"] = at(85), at(85) }, nil},
		{"its regions named in another order", func() { subject.Residency.Allow = []polder.Place{"pl", "nl"} }, nil},
		{"the other region nearer than the first", func() { r.around.rank = []polder.RegionName{"fr", "pl", "nl"}; r.judgeAll(now) }, // the way that was is kept, and prefers pl as well
			[]xds.Key{listener("entrypoint-https"), listener("pass/pl,nl"), cluster("wrap/pass/pl,nl"), cluster("pass/pl,nl"), cluster("pass/nl,pl"), cluster("to/subject.example.com"), diverted}},
	} {
		sent.keys = nil
		step.change()
		r.adopt(model(true), now)
		if !sameKeys(sent.keys, step.want) {
			t.Errorf("%s: %v is sent, want %v", step.what, sent.keys, step.want)
		}
		if refused := r.gate.Refused(); len(refused) > 0 {
			t.Errorf("%s: the proof refuses it: %v", step.what, refused)
		}
	}
}

func at(ports ...uint16) []netip.AddrPort {
	var list []netip.AddrPort
	for _, port := range ports {
		list = append(list, netip.AddrPortFrom(netip.MustParseAddr("10.1.0.1"), port))
	}
	return list
}

// routed is a service with an endpoint of that port in each of its regions.
func routed(name string, port uint16, regions ...polder.Place) polder.Service {
	s := started(name, time.Minute)
	s.Run, s.Scale, s.Residency.Allow, s.Endpoints = nil, polder.Scale{}, regions, map[polder.RegionName][]netip.AddrPort{}
	for _, region := range regions {
		s.Endpoints[polder.RegionName(region)] = at(port)
	}
	return s
}

// regionsAlive are surroundings in which these regions live, with one peer each.
func regionsAlive(names ...polder.RegionName) surroundings {
	s := surroundings{health: polder.RegionHealth{}, known: map[polder.RegionName][]string{}}
	for i, name := range names {
		s.health[name], s.known[name] = true, []string{fmt.Sprintf("10.0.0.%d:7443", i+1)}
	}
	s.peerOf = s.known
	return s
}

// sameKeys compares them in any order.
func sameKeys(a, b []xds.Key) bool {
	count := map[xds.Key]int{}
	for _, k := range a {
		count[k]++
	}
	for _, k := range b {
		count[k]--
	}
	return !slices.ContainsFunc(slices.Collect(maps.Values(count)), func(n int) bool { return n != 0 })
}
