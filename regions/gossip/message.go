package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

// What peers send each other. Every message begins with a format and a kind;
// one in another format is dropped and counted, and never an error of the
// sender's. A release that brings a new format reads the old one as well, and
// only the release after it writes the new one.
//
//	row    format kind row
//	state  format kind count {length row}…
//	life   format kind epoch region     (memberlist's meta data of a member)
//
// and questions and their answers (question.go).
//
// Rows are written by regions.Encode and sealed by their peers (seal.go); counts, lengths and epochs are varints.
const format = 1

const (
	kindRow byte = iota + 1
	kindState
	kindLife
	kindQuestion
	kindAnswer
)

const (
	// maxPacketRow is the largest row message that travels in packets. memberlist
	// packs up to 1400 bytes, from which the label, encryption (29), the compound
	// header, and a ping or an ack that it rides on take their part.
	maxPacketRow = 1200
	// maxState bounds a state message: every row of a full table, with its length.
	maxState = 2 + binary.MaxVarintLen32 + regions.MaxPeers*(maxSeal+regions.MaxRowBytes+binary.MaxVarintLen32)
)

var errFormat = errors.New("message is in an unknown format")

// kindOf is the kind of a message in our format; 0 of any other.
func kindOf(b []byte) byte {
	if len(b) < 2 || b[0] != format {
		return 0
	}
	return b[1]
}

func rowMessage(row []byte) []byte {
	return append([]byte{format, kindRow}, row...)
}

func stateMessage(rows [][]byte) []byte {
	size := 2 + binary.MaxVarintLen32
	for _, r := range rows {
		size += binary.MaxVarintLen32 + len(r)
	}
	b := append(make([]byte, 0, size), format, kindState)
	b = binary.AppendUvarint(b, uint64(len(rows)))
	for _, r := range rows {
		b = binary.AppendUvarint(b, uint64(len(r)))
		b = append(b, r...)
	}
	return b
}

// readMessage calls take for each row of a row or state message. It stops at
// the first fault; the rows before it were good and have been taken.
func readMessage(b []byte, take func(told, polder.PeerRow)) error {
	if len(b) < 2 {
		return fmt.Errorf("message of %d bytes is too short", len(b))
	}
	if b[0] != format {
		return fmt.Errorf("%w: %d, known is %d", errFormat, b[0], format)
	}
	switch body := b[2:]; b[1] {
	case kindRow:
		t, row, err := readSealed(body)
		if err != nil {
			return err
		}
		take(t, row)
		return nil
	case kindState:
		return readState(body, take)
	}
	return fmt.Errorf("message of unknown kind %d", b[1])
}

func readState(b []byte, take func(told, polder.PeerRow)) error {
	count, n := binary.Uvarint(b)
	if n <= 0 || count > regions.MaxPeers {
		return fmt.Errorf("state does not say how many rows it has, or more than %d", regions.MaxPeers)
	}
	b = b[n:]
	var unknown error // rows in a newer format do not hide the others
	for range count {
		length, n := binary.Uvarint(b)
		if n <= 0 || length > uint64(len(b)-n) {
			return errors.New("state is cut short")
		}
		t, row, err := readSealed(b[n : n+int(length)])
		b = b[n+int(length):]
		switch {
		case errors.Is(err, regions.ErrFormat):
			unknown = err
		case err != nil:
			return err
		default:
			take(t, row)
		}
	}
	if len(b) > 0 {
		return fmt.Errorf("state has %d bytes too many", len(b))
	}
	return unknown
}

// life is what a member says of itself to memberlist: in which region and since
// which start it lives. Rows of earlier lives do not speak for this one.
type life struct {
	region polder.RegionName
	epoch  uint64
}

func (l life) encode() []byte {
	return append(binary.AppendUvarint([]byte{format, kindLife}, l.epoch), l.region...)
}

func readLife(peer string, b []byte) (life, error) {
	if len(b) < 3 || b[0] != format || b[1] != kindLife {
		return life{}, fmt.Errorf("peer %.80q does not say in which life and region it is", peer)
	}
	epoch, n := binary.Uvarint(b[2:])
	if n <= 0 {
		return life{}, fmt.Errorf("peer %.80q: its epoch is not a number", peer)
	}
	l := life{region: polder.RegionName(b[2+n:]), epoch: epoch}
	return l, regions.Check(polder.PeerRow{Peer: peer, Region: l.region, Epoch: l.epoch, Sequence: 1})
}
