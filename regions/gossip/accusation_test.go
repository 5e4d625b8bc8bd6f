package gossip

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/polder/polder/internal/faketime"
)

// An accusation is what one member of a membership says of another one's life.
// memberlist neither signs it nor asks whether its author may say so: whoever holds
// the key can accuse everybody, of any region. These tests let an insider do so,
// towards real memberlists.

// memberlist's numbers of the two accusations.
const (
	suspectMessage byte = 3
	deadMessage    byte = 5
)

// accusation is a packet as memberlist writes it: the message in msgpack, encrypted
// with the membership's key, with the label before it and under the seal.
func accusation(t *testing.T, kind byte, accused, from string, incarnation uint32) []byte {
	t.Helper()
	var m bytes.Buffer
	text := func(s string) {
		m.WriteByte(0xa0 | byte(len(s)))
		m.WriteString(s)
	}
	m.Write([]byte{kind, 0x83})
	text("Incarnation")
	m.WriteByte(0xce)
	m.Write(binary.BigEndian.AppendUint32(nil, incarnation))
	text("Node")
	text(accused)
	text("From")
	text(from)
	block, err := aes.NewCipher(key(1))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, gcm.NonceSize())
	rand.Read(nonce)
	packet := append([]byte{244, byte(len(label))}, label...)
	packet = append(append(packet, 1), nonce...)
	return gcm.Seal(packet, nonce, m.Bytes(), []byte(label))
}

// tell gives a packet to a peer as if the place with a number had sent it.
func (f *fleet) tell(to string, from int, packet []byte) {
	f.ends[to].packets <- &memberlist.Packet{Buf: packet, From: net.UDPAddrFromAddrPort(place(from)), Timestamp: time.Now()}
}

// outage follows how long one peer is not usable in another one's eyes, at a stretch
// and how often.
type outage struct {
	since   time.Time
	longest time.Duration
	times   int
}

func (o *outage) look(usable bool, now time.Time) {
	switch {
	case usable && !o.since.IsZero():
		o.longest, o.since = max(o.longest, now.Sub(o.since)), time.Time{}
	case !usable && o.since.IsZero():
		o.since, o.times = now, o.times+1
	}
}

// unbounded is of outages whose length is left to chance: who is accused again and
// again comes and goes as memberlist's random numbers fall, so a bound would only be
// a quantile of what was seen. They are logged.
const unbounded = time.Hour

// TestAccusations: a peer of pl that holds the membership's key declares peers of
// other regions dead, or suspected, once or for half a minute without a pause. The
// accused contradict a single word within two rounds of gossip, and once the insider
// is silent all are as before.
func TestAccusations(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   byte
		from   string        // who is said to say so
		every  time.Duration // 0 for once
		most   time.Duration // that the accused may be away at a stretch
		harms  bool          // it surely goes away
		victim []string
	}{
		{"one word of death", deadMessage, "pl-1", 0, time.Second, true, []string{"fr-1"}},
		{"a goodbye in another's name", deadMessage, "fr-1", 0, time.Second, true, []string{"fr-1"}},
		{"one suspicion", suspectMessage, "pl-1", 0, 0, false, []string{"fr-1"}},
		{"a suspicion in the name of a third", suspectMessage, "nl-1", 0, 0, false, []string{"fr-1"}},
		{"suspicions without a pause", suspectMessage, "pl-1", 100 * time.Millisecond, unbounded, false, []string{"fr-1", "fr-2"}},
		{"deaths of a whole region without a pause", deadMessage, "pl-1", 100 * time.Millisecond, unbounded, true, []string{"fr-1", "fr-2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			faketime.Test(t, func(t *testing.T) {
				f := newFleet(t, 31)
				for i, name := range []string{"fr-1", "fr-2", "nl-1", "nl-2", "pl-1"} {
					f.start(name, i+1, 1)
				}
				f.all(f.names, "all", 5*time.Second, healthy(f.names...))
				honest := []string{"nl-1", "nl-2"}
				outages := map[string]*outage{}
				incarnation := uint32(1000)
				next := time.Now()
				calm := next
				for end := time.Now().Add(30 * time.Second); time.Now().Before(end); <-time.After(10 * time.Millisecond) { // fake time
					if !time.Now().Before(next) {
						for _, accused := range c.victim {
							for _, to := range honest {
								f.tell(to, 5, accusation(t, c.kind, accused, c.from, incarnation))
							}
						}
						incarnation += 1000
						if next = next.Add(c.every); c.every == 0 {
							next = end
						}
					}
					for _, observer := range honest {
						s := f.peers[observer].Snapshot()
						for _, accused := range c.victim {
							which := fmt.Sprint(accused, " at ", observer)
							if outages[which] == nil {
								outages[which] = &outage{}
							}
							p, _ := row(s, accused)
							outages[which].look(p.Usable, time.Now())
						}
						region := fmt.Sprint("region fr at ", observer)
						if outages[region] == nil {
							outages[region] = &outage{}
						}
						outages[region].look(s.View.Health["fr"], time.Now())
					}
				}
				took := f.all(f.names, "all again", time.Minute, healthy(f.names...))
				harmed := 0 // counted by the observers: a look each 10 ms may miss what is shorter
				for _, observer := range honest {
					for _, accused := range c.victim {
						if p, _ := row(f.peers[observer].Snapshot(), accused); !p.Since.Before(calm) {
							harmed++
						}
					}
				}
				for which, o := range outages {
					o.look(true, time.Now())
					if o.longest > c.most {
						t.Errorf("%s was away for %v at a stretch, %d times in all; want %v at most", which, o.longest, o.times, c.most)
					}
				}
				if c.harms && harmed == 0 {
					t.Error("nobody went away: the accusations were not heard, and this shows nothing")
				}
				t.Logf("all are well %v after the last word; outages: %s", took, describeOutages(outages))
			})
		})
	}
}

// TestAccusationAboveAll: the highest incarnation cannot be contradicted, so this one
// word costs more, and may come back once or twice from peers that forget later. It is
// not for good: the accused insists, once the others have forgotten.
func TestAccusationAboveAll(t *testing.T) {
	for seed := range uint64(4) {
		faketime.Test(t, func(t *testing.T) {
			f := newFleet(t, seed)
			for i, name := range []string{"fr-1", "fr-2", "nl-1", "nl-2", "pl-1"} {
				f.start(name, i+1, 1)
			}
			f.all(f.names, "all", 5*time.Second, healthy(f.names...))
			for _, to := range []string{"nl-1", "nl-2"} {
				f.tell(to, 5, accusation(t, deadMessage, "fr-1", "pl-1", math.MaxUint32))
			}
			f.all([]string{"nl-1", "nl-2"}, "fr-1 gone", time.Second, unhealthy("fr-1"))
			t.Logf("all are well again after %v", f.all(f.names, "all again", 10*time.Minute, healthy(f.names...)))
		})
	}
}

func describeOutages(outages map[string]*outage) string {
	text := ""
	for which, o := range outages {
		text += fmt.Sprintf("%s %d times, longest %v; ", which, o.times, o.longest)
	}
	return text
}
