package gossip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

// Signer proves that a row comes from the peer that it speaks for. Its methods
// are called by one goroutine, the loop's.
type Signer interface {
	// Sign returns the own credential, such as the peer's certificate, and a
	// signature over the message that it can be checked with.
	Sign(message []byte) (credential, signature []byte, err error)
	// Verify tells which peer of which region signed the message. The error says
	// why that is not known: the credential is not ours, or over, or another's.
	Verify(credential, signature, message []byte) (peer string, region polder.RegionName, err error)
}

const (
	maxCredential = 2 << 10 // bytes; a certificate of a peer has some 500
	maxSignature  = 512     // bytes
	maxSeal       = maxCredential + maxSignature + 2*binary.MaxVarintLen16
	// sealLife is how long an own row keeps its seal when nothing changes:
	// certificates are renewed long before they end.
	sealLife = 6 * time.Hour
)

// A sealed row is what travels: the length of the credential, the credential, the
// length of the signature, the signature, and the row, over whose bytes the
// signature goes. Relays hand it on as it is.
func seal(credential, signature, row []byte) []byte {
	b := make([]byte, 0, maxSeal+len(row))
	b = binary.AppendUvarint(b, uint64(len(credential)))
	b = append(b, credential...)
	b = binary.AppendUvarint(b, uint64(len(signature)))
	b = append(b, signature...)
	return append(b, row...)
}

// told is a sealed row that came in.
type told struct {
	sealed                     []byte
	credential, signature, row []byte // parts of sealed; row is what was signed, a row or a statement
}

func unseal(b []byte) (told, error) {
	t := told{sealed: b}
	var err error
	rest := b
	if t.credential, rest, err = cut(rest, maxCredential); err == nil {
		t.signature, rest, err = cut(rest, maxSignature)
	}
	t.row = rest
	return t, err
}

// clone gives the row memory of its own, so that it does not keep all that it
// came with.
func (t told) clone() told {
	own, err := unseal(bytes.Clone(t.sealed))
	if err != nil {
		panic("gossip: a seal that was read cannot be read again: " + err.Error())
	}
	return own
}

// cut takes a string with its length off the front.
func cut(b []byte, most uint64) (part, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > most || size > uint64(len(b)-n) {
		return nil, nil, errors.New("a part is cut short, or larger than any")
	}
	return b[n : n+int(size)], b[n+int(size):], nil
}

// proven tells whether what was told was signed by the peer that it speaks for.
func (l *loop) proven(t told, peer string, region polder.RegionName) error {
	by, in, err := l.options.Signer.Verify(t.credential, t.signature, t.row)
	if err == nil && (by != peer || in != region) {
		err = fmt.Errorf("it is signed by peer %.80q of region %.80q", by, in)
	}
	if err != nil {
		return fmt.Errorf("what is told of peer %s of region %s is not that peer's word: %w", peer, region, err)
	}
	return nil
}

// sealed is what is told of a peer: for others what came in, for the own peer
// its row as it is now. nil when there is nothing to tell.
func (l *loop) sealed(peer string, now time.Time) []byte {
	row := l.table.Encoded(peer)
	if row == nil {
		return nil
	}
	if peer == l.options.Peer {
		l.sealOwn(row, now)
	}
	if t := l.told[peer]; bytes.Equal(t.row, row) {
		return t.sealed
	}
	return nil
}

// sealOwn signs the own row, unless that was done lately.
func (l *loop) sealOwn(row []byte, now time.Time) {
	if bytes.Equal(l.told[l.options.Peer].row, row) && now.Sub(l.sealedAt) < sealLife {
		return
	}
	credential, signature, err := l.sign(row)
	if err != nil {
		l.options.Log.Error("the own row cannot be signed; the others do not learn how this peer is", "reason", err)
		return
	}
	t, err := unseal(seal(credential, signature, row))
	if err != nil {
		panic("gossip: a seal of ours cannot be read: " + err.Error())
	}
	l.told[l.options.Peer], l.sealedAt = t, now
}

// sign signs for others.
func (l *loop) sign(message []byte) (credential, signature []byte, err error) {
	credential, signature, err = l.options.Signer.Sign(message)
	if err == nil && (len(credential) > maxCredential || len(signature) > maxSignature) {
		err = fmt.Errorf("credential of %d bytes and signature of %d: at most %d and %d are told", len(credential), len(signature), maxCredential, maxSignature)
	}
	return credential, signature, err
}

// forget drops what is told of peers that the table no longer knows.
func (l *loop) forget() {
	for peer := range l.told {
		if l.table.Encoded(peer) == nil {
			delete(l.told, peer)
		}
	}
}

// tellable are the sealed rows for an exchange of tables.
func (l *loop) tellable(now time.Time) [][]byte {
	l.forget()
	var rows [][]byte
	for _, peer := range l.table.Tellable() {
		if b := l.sealed(peer, now); b != nil {
			rows = append(rows, b)
		}
	}
	return rows
}

// readSealed reads a sealed row.
func readSealed(b []byte) (told, polder.PeerRow, error) {
	t, err := unseal(b)
	if err != nil {
		return told{}, polder.PeerRow{}, err
	}
	row, err := regions.Decode(t.row)
	return t, row, err
}
