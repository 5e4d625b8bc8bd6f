package gossip

import "sync/atomic"

// Counters count since the Gossip was made. All but LeftOut only grow.
type Counters struct {
	Malformed     uint64 // messages dropped because they make no sense
	UnknownFormat uint64 // messages dropped because a newer peer wrote them
	Undecryptable uint64 // packets and streams dropped: another key, or no key
	Overflow      uint64 // messages dropped because the loop could not keep up
	Refused       uint64 // members not admitted
	Conflicts     uint64 // one name claimed from two addresses
	Strangers     uint64 // rows dropped because their region is not in the configuration
	Unproven      uint64 // rows dropped because their peer did not sign them
	Contradicted  uint64 // words of the membership on a peer that the peer has contradicted, signed
	TableFull     uint64 // rows dropped because the table is full
	Raised        uint64 // rows of the own peer that claimed to be newer than its own
	Undelivered   uint64 // rows too large for packets that could not be handed to a peer
	LeftOut       uint64 // warm services left out of the present own row because it is full
	Packets       uint64 // sent
	Bytes         uint64 // sent in packets, and both ways over streams that this peer opened
}

type counters struct {
	malformed, unknownFormat, undecryptable, overflow          atomic.Uint64
	refused, conflicts, strangers, unproven, tableFull, raised atomic.Uint64
	contradicted, undelivered, leftOut, packets, bytes         atomic.Uint64
}

func (c *counters) read() Counters {
	return Counters{
		Malformed: c.malformed.Load(), UnknownFormat: c.unknownFormat.Load(), Undecryptable: c.undecryptable.Load(),
		Overflow: c.overflow.Load(), Refused: c.refused.Load(), Conflicts: c.conflicts.Load(),
		Strangers: c.strangers.Load(), Unproven: c.unproven.Load(), Contradicted: c.contradicted.Load(), TableFull: c.tableFull.Load(), Raised: c.raised.Load(),
		Undelivered: c.undelivered.Load(), LeftOut: c.leftOut.Load(),
		Packets: c.packets.Load(), Bytes: c.bytes.Load(),
	}
}
