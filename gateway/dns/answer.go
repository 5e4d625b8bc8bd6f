package dns

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	wire "github.com/miekg/dns"

	"github.com/polder/polder"
)

const (
	// mostPacket is the most bytes of an answer over UDP: what every path carries in
	// one piece (DNS Flag Day 2020).
	mostPacket = 1232
	// leastPacket is the most for who does not say more (RFC 1035).
	leastPacket = wire.MinMsgSize
	// serial is that of every zone. Answers depend on who asks and when, there are
	// no transfers, and all servers have the same: nobody compares.
	serial = 1
	// rest, in seconds, are SOA's timers for secondaries, of which there are none.
	refresh, retry, expire = 86400, 7200, 3600000
)

// heard is what a query was about.
type heard struct {
	service polder.ServiceName // "" unless it asked for the address of one
	region  polder.RegionName  // whose addresses it got
}

// answer answers one query that came from an address. It never fails: bad queries
// get what the protocol has for them.
func (d *directory) answer(q *wire.Msg, from netip.Addr, stream bool) (*wire.Msg, heard) {
	m := new(wire.Msg)
	m.SetReply(q)
	m.RecursionAvailable, m.Compress = false, true
	options := edns(q)
	size := leastPacket
	if options.asked {
		m.Extra = append(m.Extra, options.reply)
		size = min(max(int(options.size), leastPacket), mostPacket)
	}
	if stream {
		size = wire.MaxMsgSize
	}
	h := heard{}
	switch {
	case q.Opcode != wire.OpcodeQuery:
		m.Rcode = wire.RcodeNotImplemented
	case len(q.Question) != 1 || options.bad:
		m.Rcode = wire.RcodeFormatError
	case options.version:
		m.Rcode = wire.RcodeBadVers
	default:
		h = d.resolve(m, q.Question[0], options, from)
	}
	m.Truncate(size)
	return m, h
}

// resolve fills in the answer to a question.
func (d *directory) resolve(m *wire.Msg, q wire.Question, o options, from netip.Addr) heard {
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	z := d.zoneOf(name)
	if z == nil || q.Qclass != wire.ClassINET || q.Qtype == wire.TypeAXFR || q.Qtype == wire.TypeIXFR ||
		q.Qtype == wire.TypeMAILA || q.Qtype == wire.TypeMAILB {
		m.Rcode = wire.RcodeRefused
		return heard{}
	}
	m.Authoritative = true
	if !d.exists(name) {
		m.Rcode = wire.RcodeNameError
		m.Ns = append(m.Ns, d.soa(z))
		return heard{}
	}
	header := wire.RR_Header{Name: q.Name, Class: wire.ClassINET, Ttl: d.ttl}
	h := heard{}
	switch q.Qtype {
	case wire.TypeANY: // RFC 8482
		header.Rrtype = wire.TypeHINFO
		m.Answer = append(m.Answer, &wire.HINFO{Hdr: header, Cpu: "RFC8482"})
	case wire.TypeSOA:
		if name == z.apex {
			m.Answer = append(m.Answer, d.soa(z))
		}
	case wire.TypeNS:
		if name == z.apex {
			m.Answer, m.Extra = append(m.Answer, d.ns(z)...), append(m.Extra, d.glue(z)...)
		}
	case wire.TypeA, wire.TypeAAAA, wire.TypeHTTPS:
		h = d.address(m, name, q.Qtype, header, o, from)
	}
	if len(m.Answer) == 0 {
		m.Ns = append(m.Ns, d.soa(z))
	}
	return h
}

// address answers where a host, or a name server, is.
func (d *directory) address(m *wire.Msg, name string, kind uint16, header wire.RR_Header, o options, from netip.Addr) heard {
	e := d.find(name)
	if r, ok := d.servers[name]; ok && d.hosts[name] == nil {
		if kind != wire.TypeHTTPS {
			m.Answer = append(m.Answer, addresses(header, kind, r.Public)...)
		}
		return heard{}
	}
	if e == nil || len(e.regions) == 0 {
		return heard{}
	}
	at, scope := d.place(o.client(from))
	if len(e.regions) > 1 {
		o.narrow(scope)
	}
	r := d.world.nearest(e.regions, at)
	m.Answer = append(m.Answer, records(header, kind, r, slices.Contains(e.http3, r.Name))...)
	return heard{e.service, r.Name}
}

// records are a region's records of one type; http3 tells that it takes QUIC.
func records(header wire.RR_Header, kind uint16, r polder.Region, http3 bool) []wire.RR {
	if kind != wire.TypeHTTPS {
		return addresses(header, kind, r.Public)
	}
	header.Rrtype = wire.TypeHTTPS
	binding := wire.SVCB{Hdr: header, Priority: 1, Target: "."}
	protocols := []string{"h2"} // and HTTP/1.1, which goes without saying
	if http3 {
		protocols = []string{"h3", "h2"}
	}
	binding.Value = append(binding.Value, &wire.SVCBAlpn{Alpn: protocols})
	hint4, hint6 := new(wire.SVCBIPv4Hint), new(wire.SVCBIPv6Hint)
	for _, a := range r.Public {
		if a.Is4() {
			hint4.Hint = append(hint4.Hint, net.IP(a.AsSlice()))
		} else {
			hint6.Hint = append(hint6.Hint, net.IP(a.AsSlice()))
		}
	}
	if len(hint4.Hint) > 0 {
		binding.Value = append(binding.Value, hint4)
	}
	if len(hint6.Hint) > 0 {
		binding.Value = append(binding.Value, hint6)
	}
	return []wire.RR{&wire.HTTPS{SVCB: binding}}
}

// addresses are records of type A or AAAA.
func addresses(header wire.RR_Header, kind uint16, list []netip.Addr) []wire.RR {
	var rrs []wire.RR
	header.Rrtype = kind
	for _, a := range list {
		switch {
		case kind == wire.TypeA && a.Is4():
			rrs = append(rrs, &wire.A{Hdr: header, A: net.IP(a.AsSlice())})
		case kind == wire.TypeAAAA && a.Is6():
			rrs = append(rrs, &wire.AAAA{Hdr: header, AAAA: net.IP(a.AsSlice())})
		}
	}
	return rrs
}

func (d *directory) soa(z *zone) wire.RR {
	server := z.apex
	if len(z.servers) > 0 {
		server = z.servers[0]
	}
	return &wire.SOA{
		Hdr: wire.RR_Header{Name: wire.Fqdn(z.apex), Rrtype: wire.TypeSOA, Class: wire.ClassINET, Ttl: d.ttl},
		Ns:  wire.Fqdn(server), Mbox: wire.Fqdn("hostmaster." + z.apex), Serial: serial,
		Refresh: refresh, Retry: retry, Expire: expire, Minttl: d.ttl,
	}
}

func (d *directory) ns(z *zone) []wire.RR {
	var rrs []wire.RR
	for _, name := range z.servers {
		rrs = append(rrs, &wire.NS{Hdr: wire.RR_Header{Name: wire.Fqdn(z.apex), Rrtype: wire.TypeNS, Class: wire.ClassINET, Ttl: d.ttl}, Ns: wire.Fqdn(name)})
	}
	return rrs
}

// glue are the addresses of the name servers that lie in the zone.
func (d *directory) glue(z *zone) []wire.RR {
	var rrs []wire.RR
	for _, name := range z.servers {
		r, ok := d.servers[name]
		if !ok || d.hosts[name] != nil {
			continue
		}
		header := wire.RR_Header{Name: wire.Fqdn(name), Class: wire.ClassINET, Ttl: d.ttl}
		rrs = append(append(rrs, addresses(header, wire.TypeA, r.Public)...), addresses(header, wire.TypeAAAA, r.Public)...)
	}
	return rrs
}
