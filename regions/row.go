package regions

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/polder/polder"
)

// Bounds of one row and of a table. A membership's whole state is therefore at
// most MaxPeers*MaxRowBytes = 12 MiB, well within the 20 MiB that memberlist
// accepts in one exchange; a usual row takes some hundred bytes.
const (
	MaxPeers    = 256      // rows in a table
	MaxWarm     = 1024     // services in one row's Warm
	MaxRowBytes = 48 << 10 // of an encoded row
	MaxClaims   = 36 << 10 // bytes in one row's Claims
	maxVersion  = 1 << 62  // of Epoch and of Sequence, exclusive: room to rise above a stale row
	maxAddress  = 262      // a DNS name, a colon and a port
	maxDigest   = 128
	rowFormat   = 1 // first byte of an encoded row
)

const (
	flagHealthy = 1 << iota
	flagDraining
	flagsKnown = flagHealthy | flagDraining
)

// Check says what is wrong with a row, or nil. It bounds every field, so a row
// that passes is safe to keep, to log and to use as a map key.
func Check(row polder.PeerRow) error {
	switch {
	case !isLabel(row.Peer):
		return fmt.Errorf("peer name %.80q is not a DNS label (a-z, 0-9, \"-\", at most 63 bytes)", row.Peer)
	case !isLabel(string(row.Region)):
		return fmt.Errorf("peer %s: region name %.80q is not a DNS label", row.Peer, row.Region)
	case row.Epoch == 0 || row.Sequence == 0:
		return fmt.Errorf("peer %s: epoch %d, sequence %d: both count from 1", row.Peer, row.Epoch, row.Sequence)
	case row.Epoch >= maxVersion || row.Sequence >= maxVersion:
		return fmt.Errorf("peer %s: epoch %d, sequence %d: both stay below 2^62", row.Peer, row.Epoch, row.Sequence)
	case len(row.Digest) > maxDigest || !isGraphic(row.Digest):
		return fmt.Errorf("peer %s: digest is not printable ASCII of at most %d bytes", row.Peer, maxDigest)
	case len(row.Claims) > MaxClaims:
		return fmt.Errorf("peer %s: claims take %d bytes, at most %d are allowed", row.Peer, len(row.Claims), MaxClaims)
	case len(row.Policy) > maxDigest || !isGraphic(row.Policy):
		return fmt.Errorf("peer %s: digest of policies is not printable ASCII of at most %d bytes", row.Peer, maxDigest)
	case row.Load > 100:
		return fmt.Errorf("peer %s: load is %d percent, want 0 to 100", row.Peer, row.Load)
	case len(row.Warm) > MaxWarm:
		return fmt.Errorf("peer %s: %d warm services, at most %d fit in a row", row.Peer, len(row.Warm), MaxWarm)
	}
	if err := checkAddress(row.Address); err != nil {
		return fmt.Errorf("peer %s: %w", row.Peer, err)
	}
	for i, s := range row.Warm {
		if !isLabel(string(s)) {
			return fmt.Errorf("peer %s: warm service %.80q is not a DNS label", row.Peer, s)
		}
		if i > 0 && row.Warm[i-1] >= s {
			return fmt.Errorf("peer %s: warm services are not sorted, or repeat: %s before %s", row.Peer, row.Warm[i-1], s)
		}
	}
	for i, s := range row.Busy {
		if _, warm := slices.BinarySearch(row.Warm, s); !warm {
			return fmt.Errorf("peer %s: service %.80q is busy and not warm", row.Peer, s)
		}
		if i > 0 && row.Busy[i-1] >= s {
			return fmt.Errorf("peer %s: busy services are not sorted, or repeat: %s before %s", row.Peer, row.Busy[i-1], s)
		}
	}
	if n := encodedSize(row); n > MaxRowBytes {
		return fmt.Errorf("peer %s: row takes %d bytes, at most %d are allowed", row.Peer, n, MaxRowBytes)
	}
	return nil
}

func checkAddress(address string) error {
	if address == "" {
		return nil // a peer without a listener for passed-through connections
	}
	if len(address) > maxAddress || !isGraphic(address) {
		return fmt.Errorf("address is not printable ASCII of at most %d bytes", maxAddress)
	}
	colon := strings.LastIndexByte(address, ':')
	if colon < 0 {
		return fmt.Errorf("address %q is not host:port", address)
	}
	host, port := address[:colon], address[colon+1:]
	if strings.ContainsAny(host, ":[]") { // then it is an IPv6 address in brackets, or nothing
		if at, err := netip.ParseAddrPort(address); err != nil || at.Addr().Is4() {
			return fmt.Errorf("address %q is not host:port; an IPv6 host stands in brackets", address)
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); host == "" || err != nil || n == 0 {
		return fmt.Errorf("address %q needs a host and a port from 1 to 65535", address)
	}
	return nil
}

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

func isGraphic(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Fit shortens Warm until the row is within MaxWarm and MaxRowBytes, and tells
// how many services that left out. Warm is a hint (it saves a cold start), so a
// shorter list costs time and never a request. The services that sort first
// stay, so that equal inputs give equal rows.
func Fit(row polder.PeerRow) (fitted polder.PeerRow, left int) {
	keep := min(len(row.Warm), MaxWarm)
	size := encodedSize(without(row))
	for i := range keep {
		size += warmSize(row.Warm, i)
		if size+binary.MaxVarintLen16 > MaxRowBytes { // the count of services takes up to three bytes
			keep = i
			break
		}
	}
	left = len(row.Warm) - keep
	row.Warm = slices.Clone(row.Warm[:keep])
	row.Busy = within(row.Busy, row.Warm)
	return row, left
}

// within keeps the services that are among the sorted ones of list.
func within(services, list []polder.ServiceName) []polder.ServiceName {
	var kept []polder.ServiceName
	for _, s := range services {
		if _, found := slices.BinarySearch(list, s); found {
			kept = append(kept, s)
		}
	}
	return kept
}

func without(row polder.PeerRow) polder.PeerRow {
	row.Warm = nil
	return row
}

// Encode writes a row as bytes. Equal rows have equal bytes, and different rows
// different ones.
//
// The form is made for packets: about a third of what JSON takes, and sorted
// service names share their beginnings. In order: format (1), flags (1 healthy,
// 2 draining), load, epoch, sequence, peer, region, address, digest, digest of
// policies, count of warm services, and for each of them twice the length that it
// shares with the one before, plus 1 if it is busy, and the rest. Numbers are unsigned varints; strings are their length and
// their bytes.
func Encode(row polder.PeerRow) []byte {
	var flags byte
	if row.Healthy {
		flags |= flagHealthy
	}
	if row.Draining {
		flags |= flagDraining
	}
	b := make([]byte, 0, 64+len(row.Address)+len(row.Digest)+16*len(row.Warm))
	b = append(b, rowFormat, flags, row.Load)
	b = binary.AppendUvarint(b, row.Epoch)
	b = binary.AppendUvarint(b, row.Sequence)
	b = appendString(b, row.Peer)
	b = appendString(b, string(row.Region))
	b = appendString(b, row.Address)
	b = appendString(b, row.Digest)
	b = appendString(b, row.Policy)
	b = appendString(b, row.Claims)
	b = binary.AppendUvarint(b, uint64(len(row.Warm)))
	for i, s := range row.Warm {
		shared, busy := sharedPrefix(row.Warm, i), 0
		if _, is := slices.BinarySearch(row.Busy, s); is {
			busy = 1
		}
		b = binary.AppendUvarint(b, uint64(2*shared+busy))
		b = appendString(b, string(s[shared:]))
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func sharedPrefix(names []polder.ServiceName, i int) int {
	if i == 0 {
		return 0
	}
	a, b := names[i-1], names[i]
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func encodedSize(row polder.PeerRow) int {
	n := 3 + uvarintSize(row.Epoch) + uvarintSize(row.Sequence)
	for _, s := range []string{row.Peer, string(row.Region), row.Address, row.Digest, row.Policy, row.Claims} {
		n += uvarintSize(uint64(len(s))) + len(s)
	}
	n += uvarintSize(uint64(len(row.Warm)))
	for i := range row.Warm {
		n += warmSize(row.Warm, i)
	}
	return n
}

func warmSize(names []polder.ServiceName, i int) int {
	shared := sharedPrefix(names, i)
	rest := len(names[i]) - shared
	return uvarintSize(uint64(2*shared+1)) + uvarintSize(uint64(rest)) + rest
}

func uvarintSize(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// ErrFormat tells that bytes are a row in a format that this version of Polder
// does not know: most likely a newer peer's, and no reason for alarm.
var ErrFormat = errors.New("row is in an unknown format")

// Decode reads what Encode wrote. It accepts nothing else: every fault of form,
// every bound that Check knows and every byte too many is an error. It never
// allocates more than a small multiple of len(b).
func Decode(b []byte) (polder.PeerRow, error) {
	if len(b) > MaxRowBytes {
		return polder.PeerRow{}, fmt.Errorf("row takes %d bytes, at most %d are allowed", len(b), MaxRowBytes)
	}
	if len(b) > 0 && b[0] != rowFormat {
		return polder.PeerRow{}, fmt.Errorf("%w: %d, known is %d", ErrFormat, b[0], rowFormat)
	}
	d := decoder{rest: b}
	d.byte() // the format
	flags := d.byte()
	row := polder.PeerRow{
		Healthy:  flags&flagHealthy != 0,
		Draining: flags&flagDraining != 0,
		Load:     d.byte(),
		Epoch:    d.uvarint(),
		Sequence: d.uvarint(),
		Peer:     d.string(),
		Region:   polder.RegionName(d.string()),
		Address:  d.string(),
		Digest:   d.string(),
		Policy:   d.string(),
		Claims:   d.string(),
	}
	row.Warm, row.Busy = d.warm()
	switch {
	case d.bad:
		return polder.PeerRow{}, errors.New("row is cut short or its lengths do not fit")
	case len(d.rest) > 0:
		return polder.PeerRow{}, fmt.Errorf("row has %d bytes too many", len(d.rest))
	}
	if err := Check(row); err != nil {
		return polder.PeerRow{}, err
	}
	// One row, one form: otherwise two peers could hold the same version of a
	// row as different bytes. This also refuses unknown flags.
	if !bytes.Equal(Encode(row), b) {
		return polder.PeerRow{}, fmt.Errorf("row of peer %s is not in its one canonical form", row.Peer)
	}
	return row, nil
}

// decoder reads from the front of rest; after the first fault it returns zeros.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.bad = true
		return 0
	}
	c := d.rest[0]
	d.rest = d.rest[1:]
	return c
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.bad = true
		d.rest = nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.bad = true
		d.rest = nil
		return ""
	}
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) warm() (names, busy []polder.ServiceName) {
	n := d.uvarint()
	// Each service takes at least two bytes, which bounds what a lie about the
	// count can make us allocate.
	if n > MaxWarm || 2*n > uint64(len(d.rest)) {
		d.bad = true
	}
	if n == 0 || d.bad {
		return nil, nil
	}
	names = make([]polder.ServiceName, 0, n)
	before := ""
	for range n {
		mark := d.uvarint()
		shared := mark / 2
		rest := d.string()
		if d.bad || shared > uint64(len(before)) {
			d.bad = true
			return nil, nil
		}
		before = before[:shared] + rest
		if len(before) > 63 { // no label is longer, so sharing cannot inflate
			d.bad = true
			return nil, nil
		}
		names = append(names, polder.ServiceName(before))
		if mark%2 == 1 {
			busy = append(busy, polder.ServiceName(before))
		}
	}
	return names, busy
}

// compareRows orders two rows of one peer: the greater one holds. Equal versions
// with different contents mean that somebody lied or that an epoch was used
// twice; the bytes then decide, so that all peers decide alike.
func compareRows(a, b polder.PeerRow) int {
	if c := compareVersions(a, b); c != 0 {
		return c
	}
	return bytes.Compare(Encode(a), Encode(b))
}

func compareVersions(a, b polder.PeerRow) int {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Sequence, b.Sequence))
}
