package polder

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// maxTTL bounds how long a lost region's callers may be sent to it.
const maxTTL = time.Hour

// public reads the addresses at which callers reach a region.
func (c *checker) public(path string, texts []string) []netip.Addr {
	var list []netip.Addr
	c.unique(path, texts)
	for i, text := range texts {
		p := index(path, i)
		if !c.present(p) {
			continue
		}
		a, err := netip.ParseAddr(text)
		const fix = "write an address such as 192.0.2.10 or 2001:db8::10"
		switch {
		case err != nil:
			c.wrong(p, quote(text)+" is not an IP address", fix+", without a port")
		case a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast():
			c.wrong(p, quote(text)+" is no address at which callers reach a region", fix)
		case slices.Contains(list, a.Unmap()):
			c.wrong(p, quote(text)+" is in the list already, in another form", "remove one of the two")
		default:
			list = append(list, a.Unmap())
		}
	}
	return list
}

// naming reads what DNS answers.
func (c *checker) naming(shape dnsShape, parts *Model) Naming {
	const path = "dns"
	n := Naming{Zones: c.names(path+".zones", shape.Zones), Nameservers: c.names(path+".nameservers", shape.Nameservers)}
	slices.Sort(n.Zones)
	n.TTL = c.ttl(path+".ttl", shape.TTL)
	seen := map[netip.Prefix]string{}
	for i, place := range shape.Places {
		n.Places = append(n.Places, c.callersPlace(index(path+".places", i), place, parts, seen)...)
	}
	return n
}

// names reads a list of DNS names without wildcards.
func (c *checker) names(path string, texts []string) []Host {
	var list []Host
	c.unique(path, texts)
	for i, text := range texts {
		p := index(path, i)
		if !c.present(p) {
			continue
		}
		message, fix := checkHost(text)
		if message == "" && strings.HasPrefix(text, "*") {
			message, fix = quote(text)+" has a *; this is one name", "write "+strings.TrimPrefix(text, "*.")
		}
		if message != "" {
			c.wrong(p, message, fix)
			continue
		}
		list = append(list, Host(text))
	}
	return list
}

func (c *checker) ttl(path string, text durationText) time.Duration {
	d := c.duration(path, string(text), 0, time.Second, maxTTL)
	if d%time.Second != 0 && c.present(path) {
		c.wrong(path, quote(string(text))+" is not a number of whole seconds, as DNS counts them", "write "+shortDuration(max(d.Truncate(time.Second), time.Second)))
		return 0
	}
	return d
}

// callersPlace reads one entry of dns.places. It notes in seen where each prefix is.
func (c *checker) callersPlace(path string, shape placeShape, parts *Model, seen map[netip.Prefix]string) []CallersPlace {
	at, ok := c.nearby(path, shape, parts)
	var list []CallersPlace
	for i, text := range shape.Prefixes {
		p := index(path+".prefixes", i)
		if !c.present(p) {
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		switch {
		case err != nil || prefix.Addr().Is4In6():
			c.wrong(p, quote(text)+" is not a prefix of IP addresses", "write one such as 192.0.2.0/24 or 2001:db8::/32")
			continue
		case prefix != prefix.Masked():
			c.wrong(p, quote(text)+" has bits beyond its length", "write "+prefix.Masked().String())
			continue
		}
		if first, twice := seen[prefix]; twice {
			c.wrong(p, fmt.Sprintf("%s is there twice; the first is at %s", quote(text), first), "remove one of the two")
			continue
		}
		seen[prefix] = c.places[p].value.String()
		if ok {
			list = append(list, CallersPlace{prefix, at})
		}
	}
	return list
}

// nearby reads where the callers of an entry are.
func (c *checker) nearby(path string, shape placeShape, parts *Model) (Location, bool) {
	byRegion, byLocation := c.present(path+".region"), c.present(path+".location")
	switch {
	case byRegion && byLocation:
		c.wrong(path, "there are both a region and a location", "remove one of the two")
	case byLocation:
		return c.location(path+".location", shape.Location), true
	case byRegion:
		if r, ok := parts.Region(RegionName(shape.Region)); ok {
			return r.Location, true
		}
		if c.sureOfRegions {
			c.wrong(path+".region", "there is no region "+quote(shape.Region), "write "+alternatives(shape.Region, c.regionNames()))
		}
	case !c.faulty[path] && len(shape.Prefixes) > 0:
		c.wrongKey(path, "it does not say where these callers are", "write "+exampleOf[placeShape]("region")+", or "+exampleOf[placeShape]("location"))
	}
	return Location{}, false
}
