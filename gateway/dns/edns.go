package dns

import (
	"net"
	"net/netip"

	wire "github.com/miekg/dns"
)

// options are what a query says beside its question (RFC 6891), and what the
// reply says to it.
type options struct {
	asked   bool // the query has any
	bad     bool // they are not well formed
	version bool // they are of a version that is not known
	size    uint16
	reply   *wire.OPT
	prefix  netip.Prefix       // of the caller (RFC 7871); not valid when nothing is told
	subnet  *wire.EDNS0_SUBNET // of the reply, or nil
}

func edns(q *wire.Msg) options {
	var o options
	for _, rr := range q.Extra {
		opt, ok := rr.(*wire.OPT)
		if !ok {
			continue
		}
		if o.asked || opt.Hdr.Name != "." {
			o.bad = true // there is one, at the root
		}
		o.asked, o.size = true, opt.UDPSize()
		o.version = opt.Version() != 0
		o.reply = &wire.OPT{Hdr: wire.RR_Header{Name: ".", Rrtype: wire.TypeOPT}}
		o.reply.SetUDPSize(mostPacket)
		for _, option := range opt.Option {
			if s, ok := option.(*wire.EDNS0_SUBNET); ok {
				o.takeSubnet(s)
			}
		}
	}
	return o
}

// takeSubnet takes in where the caller is. The reply names the same network.
func (o *options) takeSubnet(s *wire.EDNS0_SUBNET) {
	o.subnet = &wire.EDNS0_SUBNET{Code: wire.EDNS0SUBNET, Family: s.Family, SourceNetmask: s.SourceNetmask, Address: s.Address}
	o.reply.Option = []wire.EDNS0{o.subnet}
	if s.Family == 0 && s.SourceNetmask == 0 && s.SourceScope == 0 {
		o.reply.Option, o.subnet = nil, nil // which nobody can cache by
		return
	}
	ip := s.Address.To4()
	if s.Family == 2 {
		ip = s.Address.To16()
	}
	addr, ok := netip.AddrFromSlice(ip)
	prefix := netip.PrefixFrom(addr, int(s.SourceNetmask))
	if !ok || s.Family != 1 && s.Family != 2 || s.SourceScope != 0 || !prefix.IsValid() || prefix.Masked() != prefix {
		o.bad = true
		o.reply.Option, o.subnet = nil, nil
		return
	}
	if prefix.Bits() > 0 { // none is a caller who does not want to be told from others
		o.prefix = prefix
	}
}

// client is the address by which the caller's place is found, and how many bits
// of it are known: the caller's own, or that of the resolver.
func (o options) client(from netip.Addr) (netip.Addr, int) {
	if o.prefix.IsValid() {
		return o.prefix.Addr(), o.prefix.Bits()
	}
	from = from.Unmap()
	return from, from.BitLen()
}

// narrow says for how large a network around the caller the answer is.
func (o options) narrow(scope int) {
	if o.prefix.IsValid() {
		o.subnet.SourceScope = uint8(scope)
	}
}

// sourceOf is the address of who is at the other end of a connection.
func sourceOf(a net.Addr) netip.Addr {
	if at, err := netip.ParseAddrPort(a.String()); err == nil {
		return at.Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
