package polder

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Defaults of a service. The reference says the same (a test holds them together).
const (
	DefaultTimeout     = 60 * time.Second
	DefaultMin         = 0
	DefaultMax         = 10
	DefaultConcurrency = 80
)

// DefaultPeers is how many peers a region has, if it does not say.
const DefaultPeers = 1

// declare checks a service and adds it to the declared ones.
func (c *checker) declare(name string, shape serviceShape, regions []Region) {
	path := key("services", name)
	c.checkName(path, "service", name)
	s := Service{
		Name:     ServiceName(name),
		Tenant:   c.tenantName(path+".tenant", shape.Tenant),
		Protocol: oneOf(c, path+".protocol", shape.Protocol, HTTP1, HTTP2),
		Timeout:  c.duration(path+".timeout", string(shape.Timeout), DefaultTimeout, time.Millisecond, 24*time.Hour),
		At:       c.places[path].key,
	}
	d := declaration{name: s.Name, at: s.At}
	d.claims, d.sure = c.hosts(path+".hosts", shape.Hosts)
	for _, claim := range d.claims {
		s.Hosts = append(s.Hosts, claim.host)
	}
	s.Residency = c.residency(path+".residency", shape.Residency, regions)
	c.source(path, shape)
	if shape.Run != nil {
		s.Run = c.run(path+".run", *shape.Run)
	}
	s.Endpoints = c.endpoints(path+".endpoints", shape.Endpoints, s.Residency, regions)
	s.Scale = c.scale(path+".scale", shape.Scale)
	s.Cold = c.cold(path+".cold", shape.Cold)
	if !c.broken.services[s.Name] {
		d.service = &s
	}
	c.declared = append(c.declared, d)
}

func (c *checker) tenantName(path, name string) TenantName {
	if !c.present(path) {
		return ""
	}
	if _, ok := c.shape.Tenants[name]; !ok && c.sureOfTenants {
		names := slices.Sorted(maps.Keys(c.shape.Tenants))
		fix := "write " + alternatives(name, names)
		if len(names) == 0 {
			fix = fmt.Sprintf("declare it: tenants: { %s: {} }", name)
		}
		c.wrong(path, "there is no tenant "+quote(name), fix)
	}
	return TenantName(name)
}

// duration reads a duration in bounds; otherwise when absent.
func (c *checker) duration(path, text string, otherwise, least, most time.Duration) time.Duration {
	if !c.present(path) {
		return otherwise
	}
	d, err := ParseDuration(text)
	switch {
	case err != nil && strings.Trim(text, "0123456789") == "" && text != "":
		c.wrong(path, fmt.Sprintf("%s has no unit of time", text), fmt.Sprintf("write %ss for seconds", text))
	case err != nil:
		c.wrong(path, err.Error(), "write a number and its unit (ms, s, m, h, d), such as 30s, 1h30m or 7d")
	case d < least || d > most:
		c.wrong(path, fmt.Sprintf("%s is out of bounds", quote(text)), fmt.Sprintf("write a duration from %s to %s", shortDuration(least), shortDuration(most)))
	}
	return d
}

func shortDuration(d time.Duration) string {
	if d%(24*time.Hour) == 0 && d > 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return d.String()
}

// hosts checks what the service claims. sure is false when some of it could
// not be read.
func (c *checker) hosts(path string, names []string) (claims []claim, sure bool) {
	if c.present(path) && len(names) == 0 {
		c.wrong(path, "there is no host, so nobody could call the service", "write hosts: [billing.example.com]")
	}
	c.unique(path, names)
	for i, name := range names {
		p := index(path, i)
		if !c.present(p) {
			continue
		}
		if message, fix := checkHost(name); message != "" {
			c.wrong(p, message, fix)
			continue
		}
		claims = append(claims, claim{Host(name), c.places[p].value, p})
	}
	return claims, c.present(path)
}

func (c *checker) residency(path string, shape residencyShape, regions []Region) Residency {
	r := Residency{
		Failover:  Failover{Class: FailoverClosed},
		Elsewhere: oneOf(c, path+".elsewhere", shape.Elsewhere, PassThrough, Refuse),
	}
	if p := path + ".allow"; c.present(p) && len(shape.Allow) == 0 {
		c.wrong(p, "no place is allowed, so the service could run nowhere", "write the regions or jurisdictions that may serve it, such as allow: [fr] or allow: [EU]")
	}
	c.unique(path+".allow", shape.Allow)
	for i, name := range shape.Allow {
		if p := index(path+".allow", i); c.present(p) && c.sureOfRegions {
			c.checkPlace(p, name)
		}
		r.Allow = append(r.Allow, Place(name))
	}
	r.Failover = c.failover(path+".failover", shape.Failover, r.Allow, regions)
	r.Keys = oneOf(c, path+".keys", shape.Keys, KeysOnDemand, KeysResident)
	r.Telemetry = c.telemetry(path+".telemetry", shape.Telemetry)
	return r
}

func (c *checker) checkPlace(path, name string) {
	if _, ok := c.shape.Regions[name]; ok || slices.Contains(c.jurisdictions, name) {
		return
	}
	message := "there is no region " + quote(name)
	if jurisdictionSyntax.MatchString(name) {
		message = "no region carries the jurisdiction " + quote(name)
	}
	c.wrong(path, message, "write "+alternatives(name, slices.Concat(c.regionNames(), c.jurisdictions)))
}

// allows tells whether the places include the region, by name or by one of its
// jurisdictions.
func allows(allow []Place, name RegionName, regions []Region) bool {
	i := slices.IndexFunc(regions, func(r Region) bool { return r.Name == name })
	return i >= 0 && slices.ContainsFunc(allow, func(p Place) bool {
		return string(p) == string(name) || regions[i].Carries(Jurisdiction(p))
	})
}

// source checks that the service has one origin of answers.
func (c *checker) source(path string, shape serviceShape) {
	_, run := c.places[path+".run"]
	_, endpoints := c.places[path+".endpoints"]
	_, scale := c.places[path+".scale"]
	_, cold := c.places[path+".cold"]
	switch {
	case run && endpoints:
		c.wrongKey(path+".endpoints", "the service has run and endpoints; it is either started by Polder or only routed", "remove one of the two")
	case !run && !endpoints && !c.present(path):
		// What should be there may be what could not be read.
	case !run && !endpoints:
		c.wrongKey(path, "the service has neither run nor endpoints, so nothing would answer", "write "+exampleOf[serviceShape]("run"))
	case scale && !run:
		c.wrongKey(path+".scale", "scale says nothing about endpoints, which Polder does not start", "remove it")
	case cold && !run:
		c.wrongKey(path+".cold", "cold says nothing about endpoints, which never sleep", "remove it")
	}
}

func (c *checker) endpoints(path string, shape map[string][]string, residency Residency, regions []Region) map[RegionName][]netip.AddrPort {
	if !c.present(path) {
		return nil
	}
	if len(shape) == 0 {
		c.wrong(path, "there is no endpoint, so nothing would answer", "write "+exampleOf[serviceShape]("endpoints"))
	}
	endpoints := make(map[RegionName][]netip.AddrPort, len(shape))
	for _, name := range slices.Sorted(maps.Keys(shape)) {
		p := key(path, name)
		region := RegionName(name)
		_, known := c.shape.Regions[name]
		switch {
		case !known && c.sureOfRegions:
			c.wrongKey(p, "there is no region "+quote(name), "write "+alternatives(name, c.regionNames()))
		case known && c.sureOfRegions && !allows(residency.Allow, region, regions) && !slices.Contains(residency.Failover.Regions, region):
			c.wrongKey(p, fmt.Sprintf("there are endpoints in %s, where the service's residency does not allow it", quote(name)), fmt.Sprintf("remove them, or add %s to residency.allow", name))
		}
		if len(shape[name]) == 0 && c.present(p) {
			c.wrong(p, "the list of endpoints is empty", "write "+exampleOf[serviceShape]("endpoints")+", or remove the region")
		}
		c.unique(p, shape[name])
		for i, text := range shape[name] {
			q := index(p, i)
			if !c.present(q) {
				continue
			}
			addr, message, fix := parseEndpoint(text)
			if message != "" {
				c.wrong(q, message, fix)
			}
			endpoints[region] = append(endpoints[region], addr)
		}
	}
	return endpoints
}
