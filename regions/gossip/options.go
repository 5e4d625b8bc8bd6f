package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

// KeyBytes is the length of a key: AES-256.
const KeyBytes = 32

// MaxKeys bounds the keys held at a time: the one in use, and those that are
// being brought in and taken out.
const MaxKeys = 8

// Options are what a Gossip is made from. Peer, Region, Epoch, Bind, Keys, Signer,
// Disclosure and Log are required.
type Options struct {
	Peer   string // unique in the membership, a DNS label: "fr-1"
	Region polder.RegionName

	// Epoch must be greater than at every earlier start of this peer; the caller
	// keeps it. When the membership remembers a higher one (the caller's was
	// lost), the own row in Snapshot shows the epoch that has been risen to: keep
	// that one.
	Epoch uint64

	Bind      string   // host:port to listen on, UDP and TCP; port 0 picks one (see Address)
	Advertise string   // host:port under which others reach this peer; "" means Bind's
	Join      []string // host:port of other peers; the own address may be among them

	// Keys are AES-256 keys of KeyBytes each. The first encrypts; all decrypt.
	Keys [][]byte

	// Signer has the identity of this peer in its region, and tells those of
	// others. Whoever holds the keys but no identity of a region's peer is heard,
	// and its rows are not believed.
	Signer Signer

	Profile    Profile // "" means LAN
	Disclosure regions.Disclosure
	Log        *slog.Logger

	// network replaces UDP and TCP in tests.
	network *network
}

// network is the part of the world that tests replace: packets and streams
// that come in, packets that go out, and dialling.
type network struct {
	transport memberlist.Transport
	dial      func(ctx context.Context, address string) (net.Conn, error)
}

// Profile is a set of timings for one kind of network.
type Profile string

// The profiles. All peers of a membership should use the same one.
const (
	// LAN suits one machine, one site, or regions within some 100 ms of each
	// other: a death is noticed in two to four seconds.
	LAN Profile = "lan"
	// WAN suits slow or lossy networks between regions: a death is noticed in
	// five to ten seconds, and round trips up to half a second count as alive.
	WAN Profile = "wan"
)

// timing is what a profile stands for. memberlist's terms are explained at its
// Config.
type timing struct {
	probeInterval  time.Duration // one peer is probed in each; also until a probe counts as failed
	probeTimeout   time.Duration // then others are asked to probe it too
	indirectChecks int           // so many others
	suspicion      int           // × log10(peers) × probeInterval: time to contradict
	suspicionMax   int           // × that, while nobody confirms
	gossipInterval time.Duration
	exchange       time.Duration // whole tables, with one random peer
	stream         time.Duration // deadline of one TCP conversation
	gone           time.Duration // a dead peer is still told news, so that it can contradict
	settle         time.Duration // Ready at the latest
	goodbye        time.Duration // for others to hear that we leave
}

func (p Profile) timing() (timing, bool) {
	lan := timing{
		probeInterval: 500 * time.Millisecond, probeTimeout: 250 * time.Millisecond,
		indirectChecks: 3, suspicion: 3, suspicionMax: 3,
		gossipInterval: 100 * time.Millisecond, exchange: 15 * time.Second,
		stream: 3 * time.Second, gone: 15 * time.Second,
		settle: 3 * time.Second, goodbye: time.Second,
	}
	switch p {
	case "", LAN:
		return lan, true
	case WAN:
		wan := lan
		wan.probeInterval, wan.probeTimeout = time.Second, 500*time.Millisecond
		wan.suspicion, wan.suspicionMax = 4, 4
		wan.gossipInterval, wan.exchange = 200*time.Millisecond, 30*time.Second
		wan.stream, wan.gone = 10*time.Second, 30*time.Second
		wan.settle, wan.goodbye = 10*time.Second, 2*time.Second
		return wan, true
	}
	return timing{}, false
}

// check reports every fault at once.
func (o Options) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	probe := polder.PeerRow{Peer: o.Peer, Region: o.Region, Epoch: o.Epoch, Sequence: 1}
	if err := regions.Check(probe); err != nil {
		fault("%w", err)
	}
	if _, ok := o.Profile.timing(); !ok {
		fault("profile %q is unknown; use %q or %q", o.Profile, LAN, WAN)
	}
	if o.Log == nil {
		fault("a logger is missing")
	}
	if o.Signer == nil {
		fault("an identity to sign rows with is missing")
	}
	if !o.Disclosure.Knows(o.Region) {
		fault("own region %q is not among the regions of the configuration: %v", o.Region, o.Disclosure.Regions)
	}
	if err := checkKeys(o.Keys); err != nil {
		fault("%w", err)
	}
	if o.network == nil {
		if _, _, err := hostPort(o.Bind); err != nil {
			fault("bind: %w", err)
		}
	}
	if o.Advertise != "" {
		if host, port, err := hostPort(o.Advertise); err != nil {
			fault("advertise: %w", err)
		} else if host == "" || port == 0 {
			fault("advertise: %q needs a host and a port, for others to reach this peer", o.Advertise)
		}
	}
	for _, seed := range o.Join {
		if host, port, err := hostPort(seed); err != nil {
			fault("join: %w", err)
		} else if host == "" || port == 0 {
			fault("join: %q needs a host and a port", seed)
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("gossip of peer %q: %w", o.Peer, errors.Join(faults...))
	}
	return nil
}

func checkKeys(keys [][]byte) error {
	if len(keys) == 0 {
		return errors.New("no key: the membership is never unencrypted; make one with 32 random bytes and give the same to every peer")
	}
	if len(keys) > MaxKeys {
		return fmt.Errorf("%d keys, at most %d are held at a time: remove the oldest", len(keys), MaxKeys)
	}
	for i, k := range keys {
		if len(k) != KeyBytes {
			return fmt.Errorf("key %d has %d bytes, AES-256 needs %d", i+1, len(k), KeyBytes)
		}
	}
	return nil
}

func hostPort(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port", address)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q: port %q is not a number from 0 to 65535", address, text)
	}
	return host, int(n), nil
}
