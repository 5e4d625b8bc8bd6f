package gossip

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

// A question asks a peer for a sign of life, and the answer is one: it says who
// lives where and since when, signed by that peer, to the one who asked, with the
// number that was drawn for this question. So an answer cannot have been made
// before its question, nor for somebody else.
//
//	question  format kind nonce asker asked
//	answer    format kind seal statement
//	statement 0 nonce asker peer region epoch address
//
// A seal is as of a row (seal.go). A row never begins with 0, so a statement is none,
// and no row is a statement.
const statementMark = 0

const (
	// maxName bounds a peer's or a region's name in bytes, maxGossipAddress a host:port.
	maxName          = 63
	maxGossipAddress = 64
	// maxAnswers bounds the answers of a peer in one round of gossip: each costs a
	// signature. It is enough for a full membership that asks at once.
	maxAnswers = regions.MaxPeers
)

// nonce is a number that nobody can foresee.
type nonce [16]byte

func newNonce() (n nonce) {
	rand.Read(n[:]) // never fails
	return n
}

type question struct {
	nonce nonce
	asker string
	asked string
}

// statement is what a peer says of itself in an answer.
type statement struct {
	nonce nonce
	asker string
	peer  string
	life  life
	at    string // host:port of its gossip
}

func (q question) encode() []byte {
	b := append([]byte{format, kindQuestion}, q.nonce[:]...)
	b = appendPart(b, q.asker)
	return appendPart(b, q.asked)
}

func readQuestion(b []byte) (question, error) {
	var q question
	rest, err := cutNonce(b[2:], &q.nonce)
	for _, name := range []*string{&q.asker, &q.asked} {
		if err == nil {
			rest, err = cutPart(rest, maxName, name)
		}
	}
	if err == nil && !bytes.Equal(q.encode(), b) {
		err = fmt.Errorf("%d bytes too many, or a length in another form", len(rest))
	}
	if err != nil {
		return question{}, fmt.Errorf("question: %w", err)
	}
	return q, nil
}

func (s statement) encode() []byte {
	b := append([]byte{statementMark}, s.nonce[:]...)
	b = appendPart(b, s.asker)
	b = appendPart(b, s.peer)
	b = appendPart(b, string(s.life.region))
	b = binary.AppendUvarint(b, s.life.epoch)
	return appendPart(b, s.at)
}

func answerMessage(credential, signature, statement []byte) []byte {
	return append([]byte{format, kindAnswer}, seal(credential, signature, statement)...)
}

func readAnswer(b []byte) (told, statement, error) {
	t, err := unseal(b[2:])
	if err != nil {
		return told{}, statement{}, fmt.Errorf("answer: %w", err)
	}
	s, err := readStatement(t.row)
	if err != nil {
		return told{}, statement{}, fmt.Errorf("answer: %w", err)
	}
	return t, s, nil
}

func readStatement(b []byte) (statement, error) {
	if len(b) == 0 || b[0] != statementMark {
		return statement{}, errors.New("no statement")
	}
	var s statement
	var region string
	rest, err := cutNonce(b[1:], &s.nonce)
	for _, name := range []*string{&s.asker, &s.peer, &region} {
		if err == nil {
			rest, err = cutPart(rest, maxName, name)
		}
	}
	if err != nil {
		return statement{}, err
	}
	epoch, n := binary.Uvarint(rest)
	if n <= 0 {
		return statement{}, errors.New("the epoch is not a number")
	}
	if rest, err = cutPart(rest[n:], maxGossipAddress, &s.at); err != nil {
		return statement{}, err
	}
	s.life = life{region: polder.RegionName(region), epoch: epoch}
	if !bytes.Equal(s.encode(), b) {
		return statement{}, fmt.Errorf("%d bytes too many, or a length in another form", len(rest))
	}
	return s, regions.Check(polder.PeerRow{Peer: s.peer, Region: s.life.region, Epoch: s.life.epoch, Sequence: 1})
}

func appendPart(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func cutPart(b []byte, most uint64, into *string) ([]byte, error) {
	part, rest, err := cut(b, most)
	*into = string(part)
	return rest, err
}

func cutNonce(b []byte, into *nonce) ([]byte, error) {
	if len(b) < len(into) {
		return nil, errors.New("it has no number")
	}
	copy(into[:], b)
	return b[len(into):], nil
}
