package gossip

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"math"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/polder/polder/internal/faketime"
)

// An accusation is what one member of a membership says of another one's life.
// memberlist neither signs it nor asks whether its author may say so: whoever holds
// the key can accuse everybody, of any region. These tests let an insider do so,
// towards real memberlists.

// memberlist's numbers of what can be said of a life.
const (
	suspectMessage byte = 3
	aliveMessage   byte = 4
	deadMessage    byte = 5
)

// forged is a packet as memberlist writes it: the fields by name in msgpack,
// encrypted with the membership's key, with the label before it.
func forged(t *testing.T, kind byte, fields map[string]any) []byte {
	t.Helper()
	m := []byte{kind, 0x80 | byte(len(fields))}
	text := func(s []byte) { m = append(append(m, 0xa0|byte(len(s))), s...) } // up to 31 bytes
	for name, value := range fields {
		text([]byte(name))
		switch v := value.(type) {
		case uint32:
			m = binary.BigEndian.AppendUint32(append(m, 0xce), v)
		case string:
			text([]byte(v))
		case []byte:
			text(v)
		}
	}
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
	return gcm.Seal(packet, nonce, m, []byte(label))
}

// accusation says that a peer is dead or suspected; from is who is said to say so.
func accusation(t *testing.T, kind byte, accused, from string, incarnation uint32) []byte {
	t.Helper()
	return forged(t, kind, map[string]any{"Incarnation": incarnation, "Node": accused, "From": from})
}

// reborn says that a peer lives, in some life and at some place.
func reborn(t *testing.T, peer string, l life, number int, incarnation uint32) []byte {
	t.Helper()
	at := place(number)
	return forged(t, aliveMessage, map[string]any{
		"Incarnation": incarnation, "Node": peer, "Addr": at.Addr().AsSlice(), "Port": uint32(at.Port()),
		"Meta": l.encode(), "Vsn": []byte{1, 5, 2, 0, 0, 0},
	})
}

// tell gives a packet to a peer as if the place with a number had sent it.
func (f *fleet) tell(to string, from int, packet []byte) {
	f.ends[to].packets <- &memberlist.Packet{Buf: packet, From: net.UDPAddrFromAddrPort(place(from)), Timestamp: time.Now()}
}

// insider is five peers that have met, of which pl-1 lies to those of nl about fr.
func insider(t *testing.T, seed uint64) (f *fleet, lie func(packet []byte)) {
	t.Helper()
	f = newFleet(t, seed)
	for i, name := range []string{"fr-1", "fr-2", "nl-1", "nl-2", "pl-1"} {
		f.start(name, i+1, 1)
	}
	f.all(f.names, "all", 5*time.Second, healthy(f.names...))
	return f, func(packet []byte) {
		for _, to := range []string{"nl-1", "nl-2"} {
			f.tell(to, 5, packet)
		}
	}
}

// TestAccusations: a peer of pl that holds the membership's key says of peers of
// fr what is not so, once or for a quarter of a minute without a pause. What the accused
// sign outweighs it: nobody takes any of them for gone, not for a moment, neither
// then nor while the membership forgets. So no permission of any law changes by it.
func TestAccusations(t *testing.T) {
	const most = math.MaxUint32 // nothing contradicts it: one more is 0
	elsewhere := life{"pl", 1}
	next := life{"fr", 2}
	for _, c := range []struct {
		name  string
		every time.Duration // 0 for once
		heard bool          // the observers surely had to ask
		says  func(t *testing.T, victim string, incarnation uint32) [][]byte
	}{
		{"one word of death", 0, true, func(t *testing.T, victim string, n uint32) [][]byte {
			return [][]byte{accusation(t, deadMessage, victim, "pl-1", n)}
		}},
		{"a goodbye in another's name", 0, true, func(t *testing.T, victim string, n uint32) [][]byte {
			return [][]byte{accusation(t, deadMessage, victim, victim, n)}
		}},
		{"one suspicion", 0, false, func(t *testing.T, victim string, n uint32) [][]byte {
			return [][]byte{accusation(t, suspectMessage, victim, "pl-1", n)}
		}},
		{"a suspicion in the name of a third", 0, false, func(t *testing.T, victim string, n uint32) [][]byte {
			return [][]byte{accusation(t, suspectMessage, victim, "nl-1", n)}
		}},
		{"suspicions without a pause", 100 * time.Millisecond, false, func(t *testing.T, victim string, n uint32) [][]byte {
			return [][]byte{accusation(t, suspectMessage, victim, "pl-1", n)}
		}},
		{"deaths without a pause", 100 * time.Millisecond, true, func(t *testing.T, victim string, n uint32) [][]byte {
			return [][]byte{accusation(t, deadMessage, victim, "pl-1", n)}
		}},
		{"a death above all", 0, true, func(t *testing.T, victim string, _ uint32) [][]byte {
			return [][]byte{accusation(t, deadMessage, victim, "pl-1", most)}
		}},
		{"a suspicion above all", 0, true, func(t *testing.T, victim string, _ uint32) [][]byte {
			return [][]byte{accusation(t, suspectMessage, victim, "pl-1", most)}
		}},
		{"deaths above all without a pause", 100 * time.Millisecond, true, func(t *testing.T, victim string, _ uint32) [][]byte {
			return [][]byte{accusation(t, deadMessage, victim, "pl-1", most)}
		}},
		{"another life", 0, true, func(t *testing.T, victim string, n uint32) [][]byte {
			return [][]byte{reborn(t, victim, next, placeOf(victim), n)}
		}},
		{"another life above all", 0, true, func(t *testing.T, victim string, _ uint32) [][]byte {
			return [][]byte{reborn(t, victim, next, placeOf(victim), most)}
		}},
		{"another region above all", 0, true, func(t *testing.T, victim string, _ uint32) [][]byte {
			return [][]byte{reborn(t, victim, elsewhere, placeOf(victim), most)}
		}},
		{"a death, and a life at the liar's own place", 0, true, func(t *testing.T, victim string, n uint32) [][]byte {
			return [][]byte{accusation(t, deadMessage, victim, "pl-1", n), reborn(t, victim, life{"fr", 1}, 5, n+1)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			faketime.Test(t, func(t *testing.T) {
				f, lie := insider(t, 31)
				<-time.After(time.Second) // fake time; DeadNodeReclaimTime, and all are calm
				began := time.Now()
				incarnation := uint32(1000)
				for time.Since(began) < 15*time.Second {
					for _, victim := range []string{"fr-1", "fr-2"} {
						for _, packet := range c.says(t, victim, incarnation) {
							lie(packet)
							<-time.After(5 * time.Millisecond) // fake time
						}
					}
					if incarnation += 1000; c.every == 0 {
						break
					}
					<-time.After(c.every) // fake time
				}
				<-time.After(time.Minute) // fake time; memberlist forgets the dead after a quarter of it
				for _, observer := range f.names {
					for _, p := range f.peers[observer].Snapshot().Peers {
						if !p.Usable || !p.Since.Before(began) {
							t.Errorf("%s took %s for gone:\n%+v", observer, p.Row.Peer, p)
						}
					}
				}
				for _, observer := range []string{"nl-1", "nl-2"} {
					if c.heard && f.peers[observer].Counters().Contradicted == 0 {
						t.Errorf("%s did not hear it: this shows nothing", observer)
					}
				}
			})
		})
	}
}

// placeOf is the number of the place of an insider's victim.
func placeOf(victim string) int { return map[string]int{"fr-1": 1, "fr-2": 2}[victim] }

// TestDeathAmidAccusations: a peer that dies while it is accused without a pause is
// known to be dead as soon as any other, and nothing that it ever sent raises it: no
// answer, no row, no word of life, however often it is sent again.
func TestDeathAmidAccusations(t *testing.T) {
	for seed := range uint64(4) {
		faketime.Test(t, func(t *testing.T) {
			f, lie := insider(t, seed)
			var recorded [][]byte
			f.air.listen(func(from netip.AddrPort, packet []byte) {
				if from == place(1) && len(recorded) < 4096 {
					recorded = append(recorded, packet)
				}
			})
			incarnation := uint32(1000)
			accuse := func(during time.Duration) {
				for began := time.Now(); time.Since(began) < during; <-time.After(100 * time.Millisecond) { // fake time
					lie(accusation(t, deadMessage, "fr-1", "pl-1", incarnation))
					incarnation += 1000
				}
			}
			honest := []string{"nl-1", "nl-2"}
			accuse(10 * time.Second)
			f.all(honest, "fr-1, accused", 0, healthy(f.names...))
			f.kill("fr-1")
			died := time.Now()
			seen := []<-chan time.Time{when(f.peers["nl-1"], time.Minute, unhealthy("fr-1")), when(f.peers["nl-2"], time.Minute, unhealthy("fr-1"))}
			accuse(10 * time.Second)
			for i, s := range seen {
				if took := (<-s).Sub(died); took < 0 || took > 3*time.Second {
					t.Errorf("seed %d: %s saw the death after %v", seed, honest[i], took)
				}
			}
			began := time.Now()
			f.air.listen(nil)
			if len(recorded) == 0 {
				t.Fatal("nothing was recorded: this shows nothing")
			}
			for i := 0; time.Since(began) < 40*time.Second; i++ { // memberlist forgets the dead meanwhile
				lie(recorded[i%len(recorded)])
				<-time.After(10 * time.Millisecond) // fake time
			}
			for _, observer := range f.names[1:] {
				if p, _ := row(f.peers[observer].Snapshot(), "fr-1"); p.Usable || p.Since.After(began) {
					t.Errorf("seed %d: what the dead once sent raises it at %s: %+v", seed, observer, p)
				}
			}
		})
	}
}

// TestALieOutlivesNoStart: a peer that starts hears a lie that nothing contradicts
// from everybody, and perhaps before the truth. It asks all the same.
func TestALieOutlivesNoStart(t *testing.T) {
	for seed := range uint64(4) {
		faketime.Test(t, func(t *testing.T) {
			f, lie := insider(t, seed)
			for _, victim := range []string{"fr-1", "fr-2"} {
				lie(reborn(t, victim, life{"fr", 99}, placeOf(victim), math.MaxUint32))
			}
			<-time.After(time.Second) // fake time
			f.peers["nl-1"].end()
			f.start("nl-1", 3, 2)
			// memberlist names the accused late: to newcomers their own word has no number.
			t.Logf("all are known after %v", f.all([]string{"nl-1"}, "all again", 5*time.Minute, healthy(f.names...)))
			began := time.Now()
			<-time.After(time.Minute) // fake time; by now it has heard the lie from somebody
			for _, p := range f.peers["nl-1"].Snapshot().Peers {
				if !p.Usable || p.Since.After(began) {
					t.Errorf("seed %d: %s does not stay: %+v", seed, p.Row.Peer, p)
				}
			}
			if f.peers["nl-1"].Counters().Contradicted == 0 {
				t.Error("it did not hear the lie: this shows nothing")
			}
		})
	}
}
