package gossip

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

// These tests run real memberlists on UDP and TCP of the loopback interface.

// three peers of three regions that have met.
func three(t *testing.T) (fr, nl, pl *peer) {
	t.Helper()
	fr = run(t, options(t, "fr-1", 1))
	nl = run(t, options(t, "nl-1", 1, fr.at()))
	pl = run(t, options(t, "pl-1", 1, fr.at()))
	for _, p := range []*peer{fr, nl, pl} {
		p.say(polder.PeerRow{Address: "127.0.0.1:9443", Healthy: true, Digest: "a"})
	}
	for _, p := range []*peer{fr, nl, pl} {
		p.await("all three healthy", healthy("fr-1", "nl-1", "pl-1"))
	}
	return fr, nl, pl
}

func TestThreePeersMeetAndTell(t *testing.T) {
	t.Parallel()
	fr, nl, pl := three(t)
	for _, p := range []*peer{fr, nl, pl} {
		<-p.Joined()
		<-p.Ready()
	}
	nl.say(polder.PeerRow{
		Address: "127.0.0.1:9443", Healthy: true, Digest: "b",
		Warm: []polder.ServiceName{"orders", "catalog", "pinned-nl", "catalog"},
	})
	for _, p := range []*peer{fr, nl, pl} {
		s := p.await("nl's new row", digest("nl-1", "b"))
		got, _ := row(s, "nl-1")
		if want := []polder.ServiceName{"catalog", "orders"}; !slices.Equal(got.Row.Warm, want) {
			t.Errorf("%s sees %v warm at nl-1, want %v: sorted, once each, and without what is pinned", p.options.Peer, got.Row.Warm, want)
		}
	}
	s := pl.await("round trips to both regions", func(s *Snapshot) bool { return len(s.View.RTT) == 2 })
	if _, own := s.View.RTT["pl"]; own {
		t.Error("a round trip to itself")
	}
	nl.say(polder.PeerRow{Address: "127.0.0.1:9443", Healthy: false})
	for _, p := range []*peer{fr, pl} {
		p.await("nl unhealthy", func(s *Snapshot) bool { return !s.View.Health["nl"] && s.View.Health["fr"] })
	}
}

func TestGoodbyeIsNoDeath(t *testing.T) {
	t.Parallel()
	fr, nl, pl := three(t)
	nl.end()
	for _, p := range []*peer{fr, pl} {
		s := p.await("nl gone", unhealthy("nl-1"))
		if got, _ := row(s, "nl-1"); got.Standing == regions.Dead {
			t.Errorf("%s took the goodbye for a death", p.options.Peer)
		}
		p.await("nl left", func(s *Snapshot) bool { got, _ := row(s, "nl-1"); return got.Standing == regions.Left })
	}
	// It returns, at another address.
	again := run(t, options(t, "nl-1", 2, fr.at()))
	again.say(polder.PeerRow{Healthy: true})
	for _, p := range []*peer{fr, pl, again} {
		p.await("nl again", healthy("fr-1", "nl-1", "pl-1"))
	}
}

// Two processes with one name: the membership keeps the one it knows, everybody
// is warned, and neither takes the others down with it.
func TestOneNameTwice(t *testing.T) {
	t.Parallel()
	fr, nl, pl := three(t)
	double := run(t, options(t, "nl-1", 1, fr.at()))
	double.say(polder.PeerRow{Healthy: true, Digest: "double"})
	fr.until("the conflict", func() bool { return fr.Counters().Conflicts > 0 })
	double.until("the conflict", func() bool { return double.Counters().Conflicts > 0 })
	nl.until("that somebody speaks in its name", func() bool { return nl.Counters().Raised > 0 })
	double.end()
	nl.say(polder.PeerRow{Healthy: true, Digest: "the-real-one"})
	for _, p := range []*peer{fr, nl, pl} {
		p.await("the one that stayed", func(s *Snapshot) bool {
			return digest("nl-1", "the-real-one")(s) && healthy("fr-1", "nl-1", "pl-1")(s)
		})
	}
}

// killable is a peer whose sockets can be closed under it: what others see of a
// kill -9.
func killable(t *testing.T, o Options) (p *peer, kill func()) {
	t.Helper()
	transport, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{"127.0.0.1"}, Logger: discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	var killed atomic.Bool
	o.network = &network{transport: transport, dial: func(ctx context.Context, address string) (net.Conn, error) {
		if killed.Load() {
			return nil, net.ErrClosed
		}
		return dial(ctx, address)
	}}
	p = run(t, o)
	return p, func() {
		killed.Store(true)
		transport.Shutdown()
	}
}

func TestKilledPeerIsUnhealthyUntilItsNextLife(t *testing.T) {
	t.Parallel()
	fr := run(t, options(t, "fr-1", 1))
	nl, kill := killable(t, options(t, "nl-1", 1, fr.at()))
	pl := run(t, options(t, "pl-1", 1, fr.at()))
	for _, p := range []*peer{fr, nl, pl} {
		p.say(polder.PeerRow{Healthy: true})
	}
	for _, p := range []*peer{fr, nl, pl} {
		p.await("all three healthy", healthy("fr-1", "nl-1", "pl-1"))
	}
	kill()
	for _, p := range []*peer{fr, pl} {
		s := p.await("nl dead", unhealthy("nl-1"))
		got, _ := row(s, "nl-1")
		if got.Standing != regions.Dead || !got.Row.Healthy {
			t.Errorf("%s sees %+v; want it dead with its last row", p.options.Peer, got)
		}
	}
	// The next life, at another address, which the others are not told.
	again := run(t, options(t, "nl-1", 2, pl.at()))
	again.say(polder.PeerRow{Healthy: true, Digest: "second"})
	for _, p := range []*peer{fr, pl, again} {
		s := p.await("nl's second life", func(s *Snapshot) bool { return healthy("fr-1", "nl-1", "pl-1")(s) && digest("nl-1", "second")(s) })
		if got, _ := row(s, "nl-1"); got.Row.Epoch != 2 {
			t.Errorf("%s sees epoch %d", p.options.Peer, got.Row.Epoch)
		}
	}
}

func TestKeysChangeWithoutAPause(t *testing.T) {
	t.Parallel()
	fr, nl, pl := three(t)
	all := []*peer{fr, nl, pl}
	dropped := map[*peer]uint64{}
	step := 0
	tell := func(keys string) { // everybody hears everybody
		step++
		want := "step-" + strconv.Itoa(step)
		for _, p := range all {
			p.say(polder.PeerRow{Healthy: true, Digest: want})
		}
		for _, p := range all {
			s := p.await("a row told with "+keys, func(s *Snapshot) bool {
				return digest("fr-1", want)(s) && digest("nl-1", want)(s) && digest("pl-1", want)(s)
			})
			if !healthy("fr-1", "nl-1", "pl-1")(s) {
				t.Errorf("%s lost somebody with %s:\n%s", p.options.Peer, keys, describe(s))
			}
			if n := p.Counters().Undecryptable; n != dropped[p] {
				t.Errorf("%s could not decrypt %d packets with %s", p.options.Peer, n-dropped[p], keys)
			}
		}
	}
	for _, keys := range [][][]byte{{key(1), key(2)}, {key(2), key(1)}, {key(2)}} {
		for _, p := range all {
			if err := p.Rotate(keys); err != nil {
				t.Fatal(err)
			}
			// Half-way through, some have the new keys and some the old.
			tell(fmt.Sprintf("%d keys, the first beginning with %d", len(keys), keys[0][0]))
		}
	}
	for _, p := range all {
		if held := p.keys.ring.GetKeys(); len(held) != 1 || held[0][0] != 2 {
			t.Errorf("%s still holds %d keys", p.options.Peer, len(held))
		}
	}
}

func TestWrongKeyLearnsNothing(t *testing.T) {
	t.Parallel()
	fr := run(t, options(t, "fr-1", 1))
	fr.say(polder.PeerRow{Healthy: true, Digest: "secret"})
	fr.await("itself", healthy("fr-1"))
	wrong := options(t, "nl-1", 1, fr.at())
	wrong.Keys = [][]byte{key(9)}
	nl := run(t, wrong)
	nl.say(polder.PeerRow{Healthy: true})
	<-nl.Ready() // its patience has an end
	fr.until("what it cannot decrypt", func() bool { return fr.Counters().Undecryptable > 0 })
	for _, p := range []*peer{fr, nl} {
		if s := p.Snapshot(); s.Joined || len(s.Peers) != 1 {
			t.Errorf("%s learned of others:\n%s", p.options.Peer, describe(s))
		}
	}
	// With the right key it is one of them, without being started anew.
	if err := nl.Rotate([][]byte{key(1)}); err != nil {
		t.Fatal(err)
	}
	nl.await("fr, with the right key", digest("fr-1", "secret"))
	fr.await("nl", healthy("nl-1"))
}

// rogue is a member with the right key that says what it likes: memberlist
// alone, without any of our rules.
type rogue struct {
	t    *testing.T
	list *memberlist.Memberlist
}

type rogueDelegate struct{ meta []byte }

func (d rogueDelegate) NodeMeta(int) []byte             { return d.meta }
func (d rogueDelegate) NotifyMsg([]byte)                {}
func (d rogueDelegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d rogueDelegate) LocalState(bool) []byte          { return []byte("no table") }
func (d rogueDelegate) MergeRemoteState([]byte, bool)   {}

func discard() *log.Logger { return log.New(io.Discard, "", 0) }

func intrude(t *testing.T, name string, meta []byte, join string) *rogue {
	t.Helper()
	c := memberlist.DefaultLocalConfig()
	c.Name, c.BindAddr, c.BindPort, c.AdvertisePort = name, "127.0.0.1", 0, 0
	c.SecretKey, c.Label, c.Logger, c.Delegate = key(1), label, discard(), rogueDelegate{meta}
	c.EnableCompression = false
	list, err := memberlist.Create(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { list.Shutdown() })
	if _, err := list.Join([]string{join}); err != nil {
		t.Fatal(err)
	}
	return &rogue{t, list}
}

func (r *rogue) send(to *peer, message []byte) {
	r.t.Helper()
	host, port, _ := net.SplitHostPort(to.at())
	n, _ := strconv.Atoi(port)
	if err := r.list.SendReliable(&memberlist.Node{Name: to.options.Peer, Addr: net.ParseIP(host), Port: uint16(n)}, message); err != nil {
		r.t.Fatal(err)
	}
}

// Whoever has the membership's key, and even the identity of another peer, does
// not speak for a peer, nor for another region than its own. Everything that it
// says is proved to have been read by what comes after it on the same way.
func TestForgedRows(t *testing.T) {
	t.Parallel()
	fr, nl, pl := three(t)
	fr.say(polder.PeerRow{Healthy: true, Digest: "true"})
	for _, p := range []*peer{fr, nl, pl} {
		p.await("fr's true row", digest("fr-1", "true"))
	}
	liar := intrude(t, "nl-9", life{"nl", 1}.encode(), fr.at())
	forged := polder.PeerRow{Peer: "fr-1", Region: "fr", Epoch: 7, Sequence: 40, Digest: "forged"}
	for name, tt := range map[string]struct {
		signer testSigner
		row    polder.PeerRow
	}{
		"no identity":      {testSigner{"fr-1", "fr", "guessed"}, forged},
		"another peer's":   {testSigner{"nl-9", "nl", "secret"}, forged},
		"another region's": {testSigner{"nl-9", "nl", "secret"}, polder.PeerRow{Peer: "nl-9", Region: "fr", Epoch: 1, Sequence: 9}},
		"a stranger":       {testSigner{"nl-9", "nl", "guessed"}, polder.PeerRow{Peer: "nl-9", Region: "nl", Epoch: 1, Sequence: 9}},
	} {
		for _, p := range []*peer{fr, nl} {
			before := p.Counters()
			liar.send(p, rowMessage(sealedBy(tt.signer, tt.row)))
			p.until(name+" is refused", func() bool { return p.Counters().Unproven > before.Unproven })
			if after := p.Counters(); after.Raised != before.Raised {
				t.Errorf("%s: %s rose above the forgery, as if it were its own", name, p.options.Peer)
			}
		}
	}
	liar.send(nl, rowMessage(sealedRow(polder.PeerRow{Peer: "nl-9", Region: "nl", Epoch: 1, Sequence: 1, Digest: "after"})))
	s := nl.await("the liar's own row, which it may send", digest("nl-9", "after"))
	if got, _ := row(s, "fr-1"); got.Row.Digest != "true" || got.Row.Epoch != 1 {
		t.Errorf("a forged row was believed:\n%s", describe(s))
	}
}

func TestNonsenseIsDroppedAndCounted(t *testing.T) {
	t.Parallel()
	fr := run(t, options(t, "fr-1", 1))
	fr.say(polder.PeerRow{Healthy: true})
	vandal := intrude(t, "nl-9", life{"nl", 1}.encode(), fr.at())
	fr.await("the vandal, and its own row", func(s *Snapshot) bool { return s.Joined && healthy("fr-1")(s) })
	valid := sealedRow(polder.PeerRow{Peer: "nl-9", Region: "nl", Epoch: 1, Sequence: 1})
	before := fr.Counters()
	for _, b := range [][]byte{
		{format}, {format, 99}, {format, kindRow, 1}, append(rowMessage(valid), 0),
		{format, kindState, 0xff, 0xff, 0x03}, append(stateMessage([][]byte{valid}), 1),
	} {
		vandal.send(fr, b)
	}
	fr.until("six faults", func() bool { return fr.Counters().Malformed >= before.Malformed+6 })
	vandal.send(fr, []byte{format + 1, kindRow, 1, 2, 3})
	newer, err := unseal(append([]byte(nil), valid...))
	if err != nil {
		t.Fatal(err)
	}
	newer.row[0]++
	vandal.send(fr, rowMessage(newer.sealed))
	fr.until("two messages from the future", func() bool { return fr.Counters().UnknownFormat >= before.UnknownFormat+2 })
	vandal.send(fr, rowMessage(sealedRow(polder.PeerRow{Peer: "us-1", Region: "us", Epoch: 1, Sequence: 1})))
	fr.until("a row of a region that nobody configured", func() bool { return fr.Counters().Strangers > before.Strangers })
	if s := fr.Snapshot(); !healthy("fr-1")(s) || len(s.Peers) > 2 {
		t.Errorf("it left traces:\n%s", describe(s))
	}
}

// A peer of a region that the configuration does not know is not admitted; when
// the configuration does, it is, by itself.
func TestStrangersAreNotAdmitted(t *testing.T) {
	t.Parallel()
	two := regions.Disclosure{Regions: []polder.RegionName{"fr", "nl"}, Permitted: threeRegions.Permitted}
	o := options(t, "fr-1", 1)
	o.Disclosure = two
	fr := run(t, o)
	said := polder.PeerRow{Healthy: true, Warm: []polder.ServiceName{"catalog", "only-west"}}
	west := func(s polder.ServiceName, r polder.RegionName) bool { return s != "only-west" || r != "pl" }
	two.Permitted = west
	if err := fr.Publish(said, two); err != nil {
		t.Fatal(err)
	}
	o = options(t, "nl-1", 1, fr.at())
	o.Disclosure = two
	nl := run(t, o)
	if err := nl.Publish(polder.PeerRow{Healthy: true}, two); err != nil {
		t.Fatal(err)
	}
	nl.await("all that two regions may know", func(s *Snapshot) bool { got, _ := row(s, "fr-1"); return len(got.Row.Warm) == 2 })
	pl := run(t, options(t, "pl-1", 1, fr.at()))
	pl.say(polder.PeerRow{Healthy: true})
	fr.until("that pl is refused", func() bool { return fr.Counters().Refused > 0 })
	if _, ok := row(fr.Snapshot(), "pl-1"); ok {
		t.Error("pl-1 is in the table of a peer that does not know its region")
	}

	// The configuration with three regions arrives. What pl may not know is no
	// longer said, and pl is one of them.
	all := regions.Disclosure{Regions: threeRegions.Regions, Permitted: west}
	for _, p := range []*peer{fr, nl} {
		if err := p.Publish(said, all); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []*peer{fr, nl, pl} {
		p.await("all three", healthy("fr-1", "nl-1", "pl-1"))
		s := p.await("fr's row for three regions", func(s *Snapshot) bool { got, _ := row(s, "fr-1"); return len(got.Row.Warm) == 1 })
		if got, _ := row(s, "fr-1"); got.Row.Warm[0] != "catalog" {
			t.Errorf("%s hears of %v", p.options.Peer, got.Row.Warm)
		}
	}
}

// A row that is too large for packets arrives as well, and so does what follows.
func TestLargeRows(t *testing.T) {
	t.Parallel()
	fr, nl, pl := three(t)
	var warm []polder.ServiceName
	for i := range 900 {
		warm = append(warm, polder.ServiceName(fmt.Sprintf("%03d-%s", i, strings.Repeat("x", 30))))
	}
	fr.say(polder.PeerRow{Healthy: true, Warm: warm, Digest: "large"})
	for _, p := range []*peer{nl, pl} {
		s := p.await("the large row", digest("fr-1", "large"))
		if got, _ := row(s, "fr-1"); !slices.Equal(got.Row.Warm, warm) {
			t.Errorf("%s has %d of %d services", p.options.Peer, len(got.Row.Warm), len(warm))
		}
	}
	// More than any row can name: what fits is said, and the rest counted.
	for i := range 900 {
		warm = append(warm, polder.ServiceName(fmt.Sprintf("y%03d-%s", i, strings.Repeat("x", 30))))
	}
	fr.say(polder.PeerRow{Healthy: true, Warm: warm, Digest: "too-large"})
	for _, p := range []*peer{nl, pl} {
		s := p.await("the cut row", digest("fr-1", "too-large"))
		got, _ := row(s, "fr-1")
		if n := len(got.Row.Warm); n > regions.MaxWarm || n < regions.MaxWarm*9/10 {
			t.Errorf("%s has %d services, want about as many as a row can name, %d", p.options.Peer, n, regions.MaxWarm)
		}
		if left := fr.Counters().LeftOut; int(left)+len(got.Row.Warm) != len(warm) {
			t.Errorf("%d said and %d left out of %d", len(got.Row.Warm), left, len(warm))
		}
	}
}

func TestLostEpochIsRisenAbove(t *testing.T) {
	t.Parallel()
	fr := run(t, options(t, "fr-1", 1))
	fr.say(polder.PeerRow{Healthy: true})
	nl, kill := killable(t, options(t, "nl-1", 5, fr.at()))
	nl.say(polder.PeerRow{Healthy: true, Digest: "fifth"})
	fr.await("nl's fifth life", digest("nl-1", "fifth"))
	kill()
	fr.await("nl dead", unhealthy("nl-1"))
	again := run(t, options(t, "nl-1", 1, fr.at())) // the caller lost what it kept
	again.say(polder.PeerRow{Healthy: true, Digest: "first"})
	s := fr.await("nl's new row", func(s *Snapshot) bool { return healthy("nl-1")(s) && digest("nl-1", "first")(s) })
	if got, _ := row(s, "nl-1"); got.Row.Epoch != 5 {
		t.Errorf("risen to epoch %d, want 5", got.Row.Epoch)
	}
	again.await("its own epoch, for the caller to keep", func(s *Snapshot) bool { got, _ := row(s, "nl-1"); return got.Row.Epoch == 5 })
}

func TestOwnEvidence(t *testing.T) {
	t.Parallel()
	_, nl, pl := three(t)
	nl.Suspect("fr-1", time.Now().Add(time.Hour))
	nl.await("fr suspected", unhealthy("fr-1"))
	if s := pl.Snapshot(); !healthy("fr-1")(s) {
		t.Error("what nl suspects is not pl's business")
	}
	nl.Trust("fr-1")
	nl.await("fr trusted", healthy("fr-1"))
}
