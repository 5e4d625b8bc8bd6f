package convergence

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
)

const (
	// region is where everything runs.
	region = polder.RegionName("here")
	// elsewhere is another region, to which callers are passed on.
	elsewhere = polder.RegionName("elsewhere")
	// peer is one there.
	peer = "elsewhere-1"
	// domain is what all hosts are below of.
	domain = "bench.example"
	// movingHost belongs to the first or to the second service, in turn.
	movingHost = polder.Host("moving." + domain)
)

// fleet makes the services.
type fleet struct {
	gateway xds.Gateway
	origins [2]netip.AddrPort // every service is at the first, but for a change
}

// service is the one with this number. The first also owns the moving host.
func (f fleet) service(number int) polder.Service {
	s := f.named(fmt.Sprintf("s%06d", number))
	if number == 0 {
		s.Hosts = append(s.Hosts, movingHost)
	}
	return s
}

func (f fleet) named(name string) polder.Service {
	return polder.Service{
		Name: polder.ServiceName(name), Hosts: []polder.Host{polder.Host(name + "." + domain)},
		Residency: polder.Residency{Allow: []polder.Place{polder.Place(region)}, Failover: polder.Failover{Class: polder.FailoverClosed}},
		Endpoints: map[polder.RegionName][]netip.AddrPort{region: {f.origins[0]}},
		Protocol:  polder.HTTP1, Timeout: time.Minute,
	}
}

// closed is a service that may run elsewhere only: callers are passed on unopened, or
// refused.
func (f fleet) closed(name string, way polder.Elsewhere) polder.Service {
	s := f.named(name)
	s.Residency.Allow = []polder.Place{polder.Place(elsewhere)}
	s.Residency.Elsewhere = way
	s.Endpoints = map[polder.RegionName][]netip.AddrPort{elsewhere: {f.origins[0]}}
	return s
}

func (f fleet) services(n int) []polder.Service {
	list := make([]polder.Service, n)
	for i := range list {
		list[i] = f.service(i)
	}
	return list
}

// anywhere is a service that may run in both regions.
func (f fleet) anywhere(name string) polder.Service {
	s := f.named(name)
	s.Residency.Allow = append(s.Residency.Allow, polder.Place(elsewhere))
	s.Endpoints[elsewhere] = s.Endpoints[region]
	return s
}

// at is the service with its instance at the origin of that number.
func (f fleet) at(s polder.Service, origin int) polder.Service {
	s.Endpoints = map[polder.RegionName][]netip.AddrPort{region: {f.origins[origin%2]}}
	return s
}

// moved are the first two services with the moving host at the one of that number.
func (f fleet) moved(to int) []polder.Service {
	first, second := f.named("s000000"), f.named("s000001")
	if to%2 == 0 {
		first.Hosts = append(first.Hosts, movingHost)
	} else {
		second.Hosts = append(second.Hosts, movingHost)
	}
	return []polder.Service{first, second}
}

func judge(s polder.Service, home law.Home) law.Approved {
	c := law.Circumstances{Here: region, Home: home, Regions: []polder.Region{{Name: region}, {Name: elsewhere}},
		Alive: polder.RegionHealth{region: true, elsewhere: true}, Rank: []polder.RegionName{region, elsewhere}}
	for _, address := range s.Endpoints[region] {
		c.Endpoints = append(c.Endpoints, polder.Endpoint{Service: s.Name, Region: region, Address: address})
	}
	return law.Judge(s, c)
}
