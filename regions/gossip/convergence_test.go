package gossip

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/internal/faketime"
)

// convergence is what a membership of some size takes, in the time and the bytes
// of the simulation: real memberlists, 1 % loss, European distances.
type convergence struct {
	peers   int
	meet    time.Duration // all start at once → all see all healthy
	spread  time.Duration // a row changes → the last peer has it; the mean of some changes
	slowest time.Duration // of those changes, the slowest
	death   time.Duration // a peer dies → the last peer sees it
	bytes   float64       // sent by one peer in a second, at rest; both ways of streams it opened
	packets float64       // sent by one peer in a second, at rest
	stir    float64       // bytes that one change costs one peer, beyond rest
}

// simulate measures, and tells how far it is; it must run in a synctest bubble.
func simulate(t *testing.T, peers int, profile Profile, seed uint64, tell func(format string, values ...any)) convergence {
	f := newFleet(t, seed)
	f.profile = profile
	f.air.loss = 0.01
	numbers := map[netip.AddrPort]string{}
	var names []string
	for i := range peers {
		name := fmt.Sprintf("%s-%d", []string{"fr", "nl", "pl"}[i%3], i/3+1)
		numbers[place(i+1)] = name
		names = append(names, name)
	}
	f.air.delay = europe(numbers)
	for i, name := range names {
		f.start(name, i+1, 1)
	}
	c := convergence{peers: peers}
	tell("%d peers start", peers)
	c.meet = slices.Max(f.all(names, "all peers", 3*time.Minute, healthy(names...)))
	tell("%d peers have met; three minutes at rest", peers)

	sent := func() (bytes, packets uint64) {
		for _, p := range f.peers {
			count := p.Counters()
			bytes, packets = bytes+count.Bytes, packets+count.Packets
		}
		return bytes, packets
	}
	var warm []polder.ServiceName
	for i := range 20 {
		warm = append(warm, polder.ServiceName(fmt.Sprintf("orders-eu-%02d", i)))
	}
	<-time.After(time.Minute) // fake time; until the last alive messages have been spread
	const rest = 2 * time.Minute
	bytes, packets := sent()
	<-time.After(rest)
	bytesAfter, packetsAfter := sent()
	c.bytes = float64(bytesAfter-bytes) / rest.Seconds() / float64(peers)
	c.packets = float64(packetsAfter-packets) / rest.Seconds() / float64(peers)

	const changes, pause = 8, 15 * time.Second
	bytes, _ = sent()
	for i := range changes {
		tell("%d peers: change %d of %d", peers, i+1, changes)
		speaker := names[i*7%peers]
		want := fmt.Sprint("change-", i)
		began := time.Now()
		f.peers[speaker].say(polder.PeerRow{Healthy: true, Digest: want, Warm: warm})
		took := slices.Max(f.all(names, "a change of "+speaker, time.Minute, digest(speaker, want)))
		c.spread += took / changes
		c.slowest = max(c.slowest, took)
		<-time.After(pause - time.Since(began)%pause) // fake time
	}
	bytesAfter, _ = sent()
	c.stir = (float64(bytesAfter-bytes)/float64(peers) - c.bytes*changes*pause.Seconds()) / changes

	tell("%d peers: one dies", peers)
	last := names[peers-1]
	f.kill(last)
	c.death = slices.Max(f.all(names[:peers-1], "the death of "+last, time.Minute, unhealthy(last)))
	return c
}

// TestConvergence holds the promises of docs/regions.md on how fast news
// travels. Times are the simulation's, so they do not depend on the machine.
func TestConvergence(t *testing.T) {
	checkLeaks(t)
	for _, tt := range []struct {
		profile             Profile
		peers               int
		meet, spread, death time.Duration
	}{
		{LAN, 3, 3 * time.Second, time.Second, 5 * time.Second},
		{LAN, 6, 3 * time.Second, time.Second, 5 * time.Second},
		{LAN, 15, 3 * time.Second, time.Second, 6 * time.Second},
		{WAN, 6, 5 * time.Second, 2 * time.Second, 12 * time.Second},
	} {
		t.Run(fmt.Sprint(tt.profile, " ", tt.peers), func(t *testing.T) {
			faketime.Test(t, func(t *testing.T) {
				c := simulate(t, tt.peers, tt.profile, 1, t.Logf)
				if c.meet > tt.meet || c.slowest > tt.spread || c.death > tt.death {
					t.Errorf("%+v; want meet %v, spread %v, death %v at most", c, tt.meet, tt.spread, tt.death)
				}
			})
		})
	}
}

// BenchmarkConvergence reports what a membership of 3 to 200 peers takes. The
// unit ns/op is the machine's; all others are the simulation's.
//
//	go test ./regions/gossip -run '^$' -bench Convergence -benchtime 1x
func BenchmarkConvergence(b *testing.B) {
	for _, peers := range []int{3, 6, 12, 25, 50, 100, 200} {
		b.Run(fmt.Sprint("peers=", peers), func(b *testing.B) {
			var sum convergence
			n := 0
			for b.Loop() {
				n++
				c := bubble(b, peers, uint64(n))
				sum.meet += c.meet
				sum.spread += c.spread
				sum.slowest = max(sum.slowest, c.slowest)
				sum.death += c.death
				sum.bytes += c.bytes
				sum.packets += c.packets
				sum.stir += c.stir
			}
			each := func(v float64, unit string) { b.ReportMetric(v/float64(n), unit) }
			each(sum.meet.Seconds(), "meet-s")
			each(sum.spread.Seconds(), "spread-s")
			b.ReportMetric(sum.slowest.Seconds(), "slowest-s")
			each(sum.death.Seconds(), "death-s")
			each(sum.bytes, "B/s/peer")
			each(sum.packets, "packets/s/peer")
			each(sum.stir, "B/change/peer")
		})
	}
}

// aloud tells a benchmark's progress at once, on lines of their own between those of
// the figures, which begin with the benchmark's name.
func aloud(format string, values ...any) { fmt.Fprintf(os.Stderr, "# "+format+"\n", values...) }

// bubble simulates in fake time. Package synctest wants a test, which a benchmark
// is not; so the benchmark runs one.
func bubble(b *testing.B, peers int, seed uint64) convergence {
	var c convergence
	ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{
		Name: "Simulation",
		F: func(t *testing.T) {
			faketime.Test(t, func(t *testing.T) { c = simulate(t, peers, LAN, seed, aloud) })
		},
	}})
	if !ok {
		b.Fatal("the simulation failed; see above")
	}
	return c
}
