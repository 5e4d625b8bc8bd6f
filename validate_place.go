package polder

import (
	"fmt"
	"math"
	"reflect"
	"time"
)

// exampleOf is how a key of a file shape may be written.
func exampleOf[T any](name string) string {
	f, _ := findField(fieldsOf(reflect.TypeFor[T]()), name)
	return f.name + ": " + f.example
}

func (c *checker) region(name string, shape regionShape) Region {
	path := key("regions", name)
	c.checkName(path, "region", name)
	r := Region{Name: RegionName(name), Title: shape.Title, Join: shape.Join}
	if r.Title == "" {
		r.Title = name
	}
	c.unique(path+".jurisdiction", shape.Jurisdiction)
	for i, j := range shape.Jurisdiction {
		if p := index(path+".jurisdiction", i); !jurisdictionSyntax.MatchString(j) && c.present(p) {
			c.wrong(p, quote(j)+" is not a jurisdiction", "write two or more capital letters, digits or -, such as EU")
		}
		r.Jurisdictions = append(r.Jurisdictions, Jurisdiction(j))
	}
	r.Location = c.location(path+".location", shape.Location)
	l := shape.Listen
	r.Listen = Listen{HTTPS: l.HTTPS, HTTP: l.HTTP, Peer: l.Peer, Gossip: l.Gossip, DNS: l.DNS, XDS: l.XDS, Clients: l.Clients}
	if path := path + ".listen.http3"; c.present(path) {
		r.Listen.HTTP3 = oneOf(c, path, l.HTTP3, HTTP3Off, HTTP3On)
	}
	for _, l := range []struct{ name, address string }{
		{"https", r.Listen.HTTPS}, {"http", r.Listen.HTTP}, {"peer", r.Listen.Peer}, {"gossip", r.Listen.Gossip},
		{"dns", r.Listen.DNS},
	} {
		p := path + ".listen." + l.name
		if message, fix := checkListen(l.address); c.present(p) && message != "" {
			c.wrong(p, message, fix)
		}
	}
	r.Public = c.public(path+".public", shape.Public)
	r.Peers = c.count(path+".peers", shape.Peers, DefaultPeers, 1, MaxRegionPeers)
	r.Hold = Hold{
		Cold:      c.holdLimits(path+".hold.cold", shape.Hold.Cold),
		Saturated: c.holdLimits(path+".hold.saturated", shape.Hold.Saturated),
	}
	c.nodesOf(path, shape, &r)
	c.clientsOf(path, shape, &r)
	c.unique(path+".join", shape.Join)
	for i, address := range shape.Join {
		p := index(path+".join", i)
		if message, fix := checkPeerAddress(address); message != "" && c.present(p) {
			c.wrong(p, message, fix)
		}
	}
	return r
}

func (c *checker) holdLimits(path string, shape holdLimitsShape) HoldLimits {
	return HoldLimits{
		Requests:   c.count(path+".requests", shape.Requests, 0, 1, 1_000_000),
		PerService: c.count(path+".per-service", shape.PerService, 0, 1, 1_000_000),
		Memory:     c.memory(path+".memory", shape.Memory),
		Wait:       c.duration(path+".wait", string(shape.Wait), 0, 100*time.Millisecond, time.Hour),
	}
}

func (c *checker) location(path string, at []float64) Location {
	if !c.present(path) {
		return Location{}
	}
	if len(at) != 2 {
		c.wrong(path, fmt.Sprintf("has %d numbers; expected latitude and longitude", len(at)), "write "+exampleOf[regionShape]("location"))
		return Location{}
	}
	for i, limit := range []struct {
		name string
		most float64
	}{{"latitude", 90}, {"longitude", 180}} {
		if !(math.Abs(at[i]) <= limit.most) {
			c.wrong(index(path, i), fmt.Sprintf("the %s is %v; it lies between -%v and %v", limit.name, at[i], limit.most, limit.most), "write "+exampleOf[regionShape]("location"))
		}
	}
	return Location{Latitude: at[0], Longitude: at[1]}
}

func (c *checker) tenantOf(name string, shape tenantShape) Tenant {
	path := key("tenants", name)
	c.checkName(path, "tenant", name)
	t := Tenant{Name: TenantName(name)}
	if p := path + ".quota"; c.present(p) && shape.Quota == (quotaShape{}) {
		c.wrong(p, "the quota bounds nothing", "write "+exampleOf[tenantShape]("quota")+", or remove it")
	}
	if n := shape.Quota.Instances; n != nil {
		if p := path + ".quota.instances"; *n < 1 && c.present(p) {
			c.wrong(p, fmt.Sprintf("%d instances are too few to run anything", *n), "write 1 or more, or remove it for no limit")
		}
		t.Quota.Instances = *n
	}
	t.Quota.Memory = c.memory(path+".quota.memory", shape.Quota.Memory)
	t.Budget = c.budget(path+".budget", shape.Budget)
	return t
}

// memory reads an amount that is more than nothing; 0 when absent.
func (c *checker) memory(path string, text memoryText) Bytes {
	if !c.present(path) {
		return 0
	}
	b, err := ParseBytes(string(text))
	switch {
	case err != nil:
		c.wrong(path, err.Error(), "write a whole number and its unit, such as 64MiB")
	case b < MiB:
		c.wrong(path, quote(string(text))+" is too little to run anything", "write at least 1MiB, or remove it for no limit")
	}
	return b
}

// budget reads a sum of money per month; nil when absent.
func (c *checker) budget(path string, text budgetText) *Money {
	if !c.present(path) {
		return nil
	}
	m, err := ParseBudget(string(text))
	switch {
	case err != nil:
		c.wrong(path, err.Error(), "write it as in 30 EUR/month")
	case m.Micros == 0:
		c.wrong(path, quote(string(text))+" would never start anything", "write more than 0, or remove it for no limit")
	case c.prices == nil && c.sureOfPrices:
		c.wrong(path, "there is a budget and no price list to count it by", "write "+exampleOf[configShape]("prices"))
	case c.prices != nil && c.sureOfPrices && c.prices.Currency != m.Currency:
		c.wrong(path, fmt.Sprintf("the budget is in %s and the prices are in %s", m.Currency, c.prices.Currency), "write the budget in "+c.prices.Currency)
	default:
		return &m
	}
	return nil
}

// priceList spreads the default prices over the regions.
func (c *checker) priceList(shape pricesShape) *Prices {
	const path = "prices"
	if p := path + ".currency"; c.present(p) && !currencySyntax.MatchString(shape.Currency) {
		c.wrong(p, quote(shape.Currency)+" is not a currency", "write three capital letters, such as EUR")
	}
	prices := &Prices{Currency: shape.Currency, Regions: make(map[RegionName]Price)}
	standard := c.price(path+".default", shape.Default)
	for name := range shape.Regions {
		if _, ok := c.shape.Regions[name]; !ok && c.sureOfRegions {
			c.wrongKey(key(path+".regions", name), "there is no region "+quote(name), "write "+alternatives(name, c.regionNames()))
		}
	}
	for _, name := range c.regionNames() {
		own := c.price(key(path+".regions", name), shape.Regions[name])
		price := Price{}
		for _, part := range []struct {
			name           string
			own, otherwise *Rate
			into           *Rate
		}{
			{"gib-second", own.gibSecond, standard.gibSecond, &price.GiBSecond},
			{"vcpu-second", own.vcpuSecond, standard.vcpuSecond, &price.VCPUSecond},
			{"request", own.request, standard.request, &price.Request},
		} {
			switch {
			case part.own != nil:
				*part.into = *part.own
			case part.otherwise != nil:
				*part.into = *part.otherwise
			case !c.faulty[path]:
				c.wrongKey(path, fmt.Sprintf("the region %s has no price for a %s", name, part.name), fmt.Sprintf("write it under default: or under regions: { %s: … }; 0 for nothing", name))
			}
		}
		prices.Regions[RegionName(name)] = price
	}
	return prices
}

// rates are the prices that are written in one place; nil where there is none.
type rates struct{ gibSecond, vcpuSecond, request *Rate }

func (c *checker) price(path string, shape priceShape) rates {
	return rates{
		gibSecond:  c.rate(path+".gib-second", shape.GiBSecond),
		vcpuSecond: c.rate(path+".vcpu-second", shape.VCPUSecond),
		request:    c.rate(path+".request", shape.Request),
	}
}

func (c *checker) rate(path string, text priceText) *Rate {
	if !c.present(path) {
		return nil
	}
	r, err := ParseRate(string(text))
	if err != nil {
		c.wrong(path, err.Error(), "write a number such as 0.0000025")
		return nil
	}
	return &r
}
