package dns

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
)

// directory is a World, prepared for queries. Names in it are in lower case and
// without the last dot. It does not change.
type directory struct {
	world    World
	here     polder.Location
	ttl      uint32
	atlas    *atlas
	zones    map[string]*zone
	hosts    map[string]*entry        // by host
	wild     map[string]*entry        // by the name below which the wildcard stands
	servers  map[string]polder.Region // by name of a name server that lies in a zone
	branches map[string]bool          // names that only have others below them
	turns    time.Time                // when the law says something else by itself; zero for never
}

// zone is what is delegated to the regions.
type zone struct {
	apex    string
	servers []string // names of its name servers
}

// entry is a service behind a name.
type entry struct {
	service polder.ServiceName
	regions []polder.RegionName // see Entries; empty when no region has an address
	http3   []polder.RegionName // those whose gateways take QUIC for it
}

func newDirectory(w World) *directory {
	d := &directory{
		world: w, atlas: newAtlas(w.Model.Naming.Places), zones: map[string]*zone{},
		hosts: map[string]*entry{}, wild: map[string]*entry{}, servers: map[string]polder.Region{}, branches: map[string]bool{},
	}
	ttl := w.Model.Naming.TTL
	if ttl == 0 {
		ttl = polder.DefaultTTL
	}
	d.ttl = uint32(ttl.Seconds())
	if here, ok := w.Model.Region(w.Here); ok {
		d.here = here.Location
	}
	d.delegate()
	for _, s := range w.Model.Services {
		e := &entry{service: s.Name, regions: w.Entries(s), http3: w.http3(s)}
		if next, ever := law.Hold(s.Residency, w.Model.Regions, w.Others[s.Name]).Turns(w.Now); ever && (d.turns.IsZero() || next.Before(d.turns)) {
			d.turns = next
		}
		for _, h := range s.Hosts {
			name := string(h)
			if below, ok := strings.CutPrefix(name, "*."); ok {
				d.wild[below] = e
				d.branch(below)
				continue
			}
			d.hosts[name] = e
			d.branch(parent(name))
		}
	}
	return d
}

// branch notes that there are names below this one, and below all up to its zone.
func (d *directory) branch(name string) {
	for name != "" && !d.branches[name] {
		d.branches[name] = true
		name = parent(name)
	}
}

// delegate finds the zones and their name servers.
func (d *directory) delegate() {
	for apex, services := range zonesOf(d.world.Model) {
		z := &zone{apex: apex}
		for _, n := range d.world.Model.Naming.Nameservers {
			z.servers = append(z.servers, string(n))
		}
		if len(z.servers) == 0 {
			d.ownServers(z, services)
		}
		d.zones[apex] = z
	}
}

// ownServers names the regions that answer, as servers inside the zone. Those
// that all of a zone's services refuse are left out: not even the queries go
// there.
func (d *directory) ownServers(z *zone, services []polder.Service) {
	for _, r := range d.world.Model.Regions {
		name := "ns-" + string(r.Name) + "." + z.apex
		if r.Listen.DNS == "" || len(r.Public) == 0 || !valid(name) {
			continue
		}
		if len(services) > 0 && !slices.ContainsFunc(services, func(s polder.Service) bool { return welcome(s, r.Name, d.world.Model.Regions) }) {
			continue
		}
		z.servers = append(z.servers, name)
		d.servers[name] = r
	}
}

// welcome tells whether callers may ever enter by a region.
func welcome(s polder.Service, r polder.RegionName, all []polder.Region) bool {
	return s.Residency.Elsewhere == polder.PassThrough || law.Permit(s.Residency, all).Ever(r)
}

// zonesOf are the zones, each with the services that it was made for: none for a
// zone of the configuration, which is everybody's.
func zonesOf(m *polder.Model) map[string][]polder.Service {
	zones := map[string][]polder.Service{}
	for _, z := range m.Naming.Zones {
		zones[string(z)] = nil
	}
	if len(zones) > 0 {
		return zones
	}
	for _, s := range m.Services {
		for _, h := range s.Hosts {
			name := strings.TrimPrefix(string(h), "*.")
			zones[name] = append(zones[name], s)
		}
	}
	for name, services := range zones { // those below another one are in it
		for up := parent(name); up != ""; up = parent(up) {
			if _, ok := zones[up]; ok {
				zones[up] = append(zones[up], services...)
				delete(zones, name)
				break
			}
		}
	}
	return zones
}

// valid tells whether DNS can carry a name.
func valid(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > 63 {
			return false
		}
	}
	return len(name) <= 253
}

// parent is the name without its first label, "" for a name of one label.
func parent(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return rest
}

// zoneOf is the zone that a name lies in, or nil.
func (d *directory) zoneOf(name string) *zone {
	for ; name != ""; name = parent(name) {
		if z, ok := d.zones[name]; ok {
			return z
		}
	}
	return nil
}

// find is the service behind a name, or nil: its own host before a wildcard, and
// the nearest wildcard before one further up, as at the entrypoint.
func (d *directory) find(name string) *entry {
	if e, ok := d.hosts[name]; ok {
		return e
	}
	for up := parent(name); up != ""; up = parent(up) {
		if e, ok := d.wild[up]; ok {
			return e
		}
	}
	return nil
}

// exists tells whether there is such a name, or one below it.
func (d *directory) exists(name string) bool {
	_, server := d.servers[name]
	_, apex := d.zones[name]
	return server || apex || d.branches[name] || d.find(name) != nil
}

// place tells where the caller of a query is. A caller who is in no known place
// counts as being here.
func (d *directory) place(addr netip.Addr, bits int) (at polder.Location, scope int) {
	at, known, scope := d.atlas.find(addr, bits)
	if !known {
		at = d.here
	}
	return at, scope
}
