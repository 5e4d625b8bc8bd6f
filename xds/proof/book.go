package proof

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// Site is what the proof knows of the node beside the configuration.
type Site struct {
	Region            polder.RegionName
	HTTPS, HTTP, Peer netip.AddrPort // where the node may listen, and for what
	// TrustDomain is that of the peers' identities, which have the form
	// spiffe://TrustDomain/region/REGION/...
	TrustDomain string
	// PeerOf lists the addresses (host:port) of the peers of each region, the
	// node's own included.
	PeerOf map[polder.RegionName][]string
	// Alive says which regions live; a missing one does not, this one always does.
	Alive polder.RegionHealth
	// Now is when the book is written, for what the owner bound to a time.
	Now time.Time
	// Others are what living peers take the policy of a service to be, where they
	// take it for something else.
	Others map[polder.ServiceName][]law.Permission
	// Activator is the path of its Unix socket; ActivatorHeader the request
	// header by which Envoy tells it the service.
	Activator, ActivatorHeader string
	// ActivatorAt is where remote Envoys of the region reach the activator, inside
	// mTLS with a peer of the region. The zero value means nowhere.
	ActivatorAt netip.AddrPort
	// Clients says that the resources are for programs that call without an Envoy:
	// gRPC clients. They listen nowhere, reach the activator at ActivatorAt, and
	// tell it the service by the host that they call. Identity and Trust then name
	// what their own bootstrap has.
	Clients bool
	// Remote says where further Envoys of the region may listen, on their machines.
	Remote []Entrypoints
	// Identity and Trust name the secrets of mTLS between gateways.
	Identity, Trust string
	// Resident begins the names of the secrets that Envoy holds before anybody
	// calls; the service's name follows.
	Resident string
	// Ending begins the names of filter chains that go, with their connections,
	// when a broken glass is whole again: the second, counted from 1970, and a
	// slash follow.
	Ending string
	// Local are the bootstrap's clusters that end in this node's own Polder.
	Local []string
	// ByName begins the names of clusters that connections are led to by the name in
	// the ClientHello, which is the rest. "" means that there are none.
	ByName string
	// Former are hosts that the node's table still names and nobody has now, with the
	// service that they belonged to, as it was, so that their connections may still be
	// treated as that service's, or be led to be opened, which takes a key that nobody is
	// given.
	Former map[string]polder.Service
	// LogFiles are the files that may hold access logs.
	LogFiles []string
	// Ejections is the file that may hold the addresses that Envoy gives up.
	Ejections string
}

// Entrypoints are the public addresses of one Envoy.
type Entrypoints struct{ HTTPS, HTTP netip.AddrPort }

// servesHTTPS tells whether the node may listen there for callers.
func (s Site) servesHTTPS(bind string) bool {
	return bind == canonical(s.HTTPS) || slices.ContainsFunc(s.Remote, func(e Entrypoints) bool { return bind == canonical(e.HTTPS) })
}

// servesHTTP tells whether the node may listen there to redirect callers.
func (s Site) servesHTTP(bind string) bool {
	return bind == canonical(s.HTTP) || slices.ContainsFunc(s.Remote, func(e Entrypoints) bool { return bind == canonical(e.HTTP) })
}

// Book is the address book of one node: whose each host and address is, and
// what the law allows this node to do with it. It is immutable.
type Book struct {
	site     Site
	regions  []polder.Region
	services layered[*entry]
	owners   layered[polder.ServiceName] // by host as written; "" when contested
	reversed layeredList                 // all hosts, labels reversed
	holders  layered[[]holder]           // by address
	peers    map[string][]polder.RegionName
	ends     map[int64]int // seconds at which some broken glass is whole, and of how many regions of services
	former   map[string]*entry

	mark    *mark   // of this book
	from    *mark   // of the one that this one was made of by With
	changed changes // since
}

// mark tells one book from another without holding on to it.
type mark struct{ _ byte }

// changes are what differs from the book that another was made of.
type changes struct{ services, hosts, addresses map[string]bool }

// entry is one service.
type entry struct {
	name      polder.ServiceName
	hosts     []string
	opened    bool                // this node may open its connections now
	passed    bool                // this node may pass its callers on
	allowed   []polder.RegionName // for messages
	receivers []polder.RegionName // regions that may be passed to now; this one, if it serves, to come back to
	resident  bool                // this node may hold its key before anybody calls
	records   map[polder.Record]bool
	ends      map[polder.RegionName]int64 // of regions behind broken glass, the second when it is whole
	local     []string                    // addresses of the configuration in this region
}

// holder is a service that has an address in a region.
type holder struct {
	service polder.ServiceName
	region  polder.RegionName
}

// NewBook writes the address book of a node. The model must be valid.
func NewBook(model *polder.Model, site Site) *Book {
	b := &Book{site: site, mark: new(mark), regions: model.Regions, peers: map[string][]polder.RegionName{}, ends: map[int64]int{}}
	b.remember(site.Former)
	services, owners, holders := map[string]*entry{}, map[string]polder.ServiceName{}, map[string][]holder{}
	var reversed []string
	for _, s := range model.Services {
		e := newEntry(s, model.Regions, site)
		services[string(s.Name)] = e
		b.end(e, 1)
		for _, h := range s.Hosts {
			if _, contested := owners[string(h)]; contested {
				owners[string(h)] = ""
				continue
			}
			owners[string(h)] = s.Name
			reversed = append(reversed, reverse(string(h)))
		}
		for at, h := range placesOf(s) {
			holders[at] = append(holders[at], h...)
		}
	}
	slices.Sort(reversed)
	b.reversed.base = reversed
	b.services.base, b.owners.base, b.holders.base = services, owners, holders
	for region, addresses := range site.PeerOf {
		for _, a := range addresses {
			at := canonicalText(a)
			b.peers[at] = append(b.peers[at], region)
		}
	}
	return b
}

// end counts the ends of broken glass that a service comes or goes with.
func (b *Book) end(e *entry, count int) {
	for _, second := range e.ends {
		if b.ends[second] += count; b.ends[second] == 0 {
			delete(b.ends, second)
		}
	}
}

func (b *Book) remember(former map[string]polder.Service) {
	b.former = make(map[string]*entry, len(former))
	for host, s := range former {
		b.former[host] = newEntry(s, b.regions, b.site)
	}
}

// placesOf lists the addresses of a service in the configuration.
func placesOf(s polder.Service) map[string][]holder {
	places := map[string][]holder{}
	for region, addresses := range s.Endpoints {
		for _, a := range addresses {
			places[canonical(a)] = append(places[canonical(a)], holder{s.Name, region})
		}
	}
	return places
}

// With writes the book of a node on which some services are new, changed or gone,
// and nothing else but the former hosts is different. Before and after list these
// services as they were and as they are. It costs time in proportion to them.
func (b *Book) With(before, after []polder.Service, former map[string]polder.Service) *Book {
	next := *b
	next.from, next.mark = b.mark, new(mark)
	next.changed = changes{map[string]bool{}, map[string]bool{}, map[string]bool{}}
	next.site.Former = former
	next.ends = maps.Clone(b.ends)
	next.remember(former)
	services, owners, holders := map[string]*(*entry){}, map[string]*polder.ServiceName{}, map[string]*[]holder{}
	var gone, come []string
	hold := func(at string) []holder {
		if list, ok := holders[at]; ok {
			return *list
		}
		list, _ := b.holders.get(at)
		return slices.Clone(list)
	}
	for _, s := range before {
		services[string(s.Name)] = nil
		if e, ok := b.services.get(string(s.Name)); ok {
			next.end(e, -1)
		}
		for _, h := range s.Hosts {
			owners[string(h)] = nil
			gone = append(gone, reverse(string(h)))
		}
		for at := range placesOf(s) {
			list := slices.DeleteFunc(hold(at), func(h holder) bool { return h.service == s.Name })
			holders[at] = &list
		}
	}
	for _, s := range after {
		e := newEntry(s, b.regions, next.site)
		services[string(s.Name)] = &e
		next.end(e, 1)
		for _, h := range s.Hosts {
			owner := s.Name
			owners[string(h)] = &owner
			come = append(come, reverse(string(h)))
		}
		for at, more := range placesOf(s) {
			list := append(hold(at), more...)
			holders[at] = &list
		}
	}
	for at, list := range holders {
		next.changed.addresses[at] = true
		if len(*list) == 0 {
			holders[at] = nil
		}
	}
	for name := range services {
		next.changed.services[name] = true
	}
	for host := range owners {
		next.changed.hosts[host] = true
	}
	next.services, next.owners, next.holders = b.services.with(services), b.owners.with(owners), b.holders.with(holders)
	next.reversed = b.reversed.with(gone, come)
	return &next
}

func newEntry(s polder.Service, regions []polder.Region, site Site) *entry {
	permission := law.Hold(s.Residency, regions, site.Others[s.Name])
	can := func(r polder.RegionName) bool { return s.Run != nil || len(s.Endpoints[r]) > 0 }
	living := func(r polder.RegionName) bool { return can(r) && (r == site.Region || site.Alive[r]) }
	e := &entry{name: s.Name, allowed: permission.Allowed(), records: map[polder.Record]bool{}, ends: map[polder.RegionName]int64{}}
	for _, h := range s.Hosts {
		e.hosts = append(e.hosts, string(h))
	}
	serving := permission.Allowed()
	if !slices.ContainsFunc(permission.Primary(), living) {
		serving = append(serving, permission.StandIns(site.Now)...)
	}
	for _, r := range serving {
		if until := permission.Until(r); !until.IsZero() {
			e.ends[r] = until.Unix()
		}
		if r == site.Region {
			e.opened = can(r)
		}
		if can(r) {
			e.receivers = append(e.receivers, r)
		}
	}
	slices.Sort(e.receivers)
	e.passed = permission.Elsewhere() == polder.PassThrough || slices.Contains(e.allowed, site.Region)
	e.resident = e.opened && permission.Resident(site.Region)
	for _, kind := range polder.Records() {
		e.records[kind] = e.opened && permission.MayKeep(kind, site.Region)
	}
	for _, a := range s.Endpoints[site.Region] {
		e.local = append(e.local, canonical(a))
	}
	slices.Sort(e.local)
	return e
}

func (e *entry) equal(f *entry) bool {
	return e.name == f.name && e.opened == f.opened && e.passed == f.passed &&
		slices.Equal(e.hosts, f.hosts) && slices.Equal(e.allowed, f.allowed) &&
		slices.Equal(e.receivers, f.receivers) && slices.Equal(e.local, f.local) &&
		e.resident == f.resident && maps.Equal(e.records, f.records) && maps.Equal(e.ends, f.ends)
}

// identity is the beginning of the SPIFFE IDs of a region's peers; of all
// regions' for "". The closing slash keeps "fr" from meaning "fr2" as well.
func (s Site) identity(region polder.RegionName) string {
	if region == "" {
		return "spiffe://" + s.TrustDomain + "/region/"
	}
	return "spiffe://" + s.TrustDomain + "/region/" + string(region) + "/"
}

// mayNot says that a service may not be opened here.
func (b *Book) mayNot(e *entry) string {
	return fmt.Sprintf("service %s may not be opened in region %s now; it is allowed in %v", e.name, b.site.Region, e.allowed)
}

// residentOf is the service whose resident key a secret is; false for any other
// secret.
func (s Site) residentOf(secret string) (polder.ServiceName, bool) {
	name, ok := strings.CutPrefix(secret, s.Resident)
	return polder.ServiceName(name), ok && s.Resident != ""
}

// endOf is the second at which a filter chain of that name goes with its
// connections; 0 when it stays.
func (s Site) endOf(chain string) int64 {
	rest, ok := strings.CutPrefix(chain, s.Ending)
	if !ok || s.Ending == "" {
		return 0
	}
	digits, _, ended := strings.Cut(rest, "/")
	second, err := strconv.ParseInt(digits, 10, 64)
	if !ended || err != nil || strconv.FormatInt(second, 10) != digits {
		return 0
	}
	return second
}
