package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/polder/polder"
)

// Kind says what a record tells.
type Kind string

// The kinds of records. Those of the second group are the ledger's own.
const (
	Started       Kind = "region-started"
	Stopped       Kind = "region-stopped"
	Configuration Kind = "configuration" // another one is in force
	Accepted      Kind = "snapshot-accepted"
	Refused       Kind = "snapshot-refused"
	KeyDelivered  Kind = "key-delivered" // the key itself is never part of it
	NodeRefused   Kind = "node-refused"  // an Envoy on another machine did not prove who it says it is
	BreakGlass    Kind = "break-glass"
	Drifted       Kind = "drift"
	Repaired      Kind = "repaired" // an audit after a drift found nothing

	opened    Kind = "segment"
	sealed    Kind = "sealed"
	pruned    Kind = "pruned"
	Truncated Kind = "truncated" // an unfinished line was cut off at a start
	Damaged   Kind = "damaged"   // the ledger before this one was tampered with, and set aside
	Lost      Kind = "lost"      // records could not be written
)

// Record is one line.
type Record struct {
	Sequence uint64            `json:"sequence"` // from 1, without gaps
	Time     time.Time         `json:"time"`     // UTC
	Region   polder.RegionName `json:"region"`
	Kind     Kind              `json:"kind"`
	Data     json.RawMessage   `json:"data,omitempty"` // depends on Kind
	Hash     string            `json:"hash,omitempty"` // hex; the last member
}

// Head names the last record of a ledger. Two ledgers with the same Head have
// the same records.
type Head struct {
	Sequence uint64 `json:"sequence"`
	Hash     string `json:"hash"`
}

// The ledger's own records.
type (
	openedData struct {
		Segment  int    `json:"segment"`
		Previous string `json:"previous"` // hash of the record before; "" for the first
	}
	sealedData struct {
		Segment int    `json:"segment"`
		Records uint64 `json:"records"` // in the segment, without this one
	}
	prunedData struct {
		Segment int    `json:"segment"`
		Last    uint64 `json:"last"` // sequence of its last record
		Hash    string `json:"hash"` // of it
	}
)

// hashMember is what stands between an object and its hash.
const hashMember = `,"hash":"`

const (
	hashLength = 2 * sha256.Size
	tailLength = len(hashMember) + hashLength + len(`"}`)
	// maxLine bounds a line; what is longer was not written by a Ledger.
	maxLine = 1 << 20
)

// errLine is anything that is wrong with the form of a line.
var errLine = errors.New("is not a line of a ledger")

// seal writes a record as a line that rests on the one before.
func seal(r Record, previous string) (line []byte, hash string, err error) {
	r.Hash = ""
	body, err := json.Marshal(r)
	if err != nil {
		return nil, "", err
	}
	hash = chain(previous, body)
	line = append(body[:len(body)-1], hashMember+hash+"\"}\n"...)
	if len(line) > maxLine {
		return nil, "", fmt.Errorf("record of %d bytes: at most %d fit into a line", len(line), maxLine)
	}
	return line, hash, nil
}

func chain(previous string, body []byte) string {
	h := sha256.New()
	h.Write([]byte(previous))
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// parse takes a line apart, without its line feed, and tells the hash that it
// should have after the one before.
func parse(line []byte, previous string) (r Record, want string, err error) {
	at := len(line) - tailLength
	if at < 1 || !bytes.HasPrefix(line[at:], []byte(hashMember)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return r, "", errLine
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return r, "", fmt.Errorf("%w: %w", errLine, err)
	}
	if r.Hash != string(line[at+len(hashMember):len(line)-2]) {
		return r, "", errLine
	}
	body := append(bytes.Clone(line[:at]), '}')
	return r, chain(previous, body), nil
}
