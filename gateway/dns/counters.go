package dns

import (
	"sync/atomic"

	wire "github.com/miekg/dns"
)

// Counters are what happened since the server was made.
type Counters struct {
	Packets, Streams uint64            // queries over UDP, and over TCP
	Answers          map[string]uint64 // by response code: NOERROR, NXDOMAIN, REFUSED, …
	Truncated        uint64            // answers that asked the caller to come over TCP
	Limited          uint64            // packets that were dropped, of networks that sent too many
	Refused          uint64            // connections, likewise
	Garbage          uint64            // packets that are no query
	Wakes            uint64            // queries that were passed on as a sign of a request to come
	Unheard          uint64            // those beyond the rate at which queries may wake
}

// codes are counted by themselves; all others together.
var codes = [...]int{wire.RcodeSuccess, wire.RcodeNameError, wire.RcodeRefused, wire.RcodeFormatError, wire.RcodeNotImplemented, wire.RcodeBadVers}

type counters struct {
	packets, streams, truncated, limited, refused, garbage, wakes, unheard atomic.Uint64
	answers                                                                [len(codes)]atomic.Uint64
}

func (c *counters) answered(m *wire.Msg) {
	for i, code := range codes {
		if code == m.Rcode {
			c.answers[i].Add(1)
		}
	}
	if m.Truncated {
		c.truncated.Add(1)
	}
}

// Counters are how often what happened.
func (s *Server) Counters() Counters {
	c := &s.count
	read := Counters{
		Packets: c.packets.Load(), Streams: c.streams.Load(), Answers: map[string]uint64{}, Truncated: c.truncated.Load(),
		Limited: c.limited.Load(), Refused: c.refused.Load(), Garbage: c.garbage.Load(), Wakes: c.wakes.Load(), Unheard: c.unheard.Load(),
	}
	for i, code := range codes {
		read.Answers[wire.RcodeToString[code]] = c.answers[i].Load()
	}
	return read
}
