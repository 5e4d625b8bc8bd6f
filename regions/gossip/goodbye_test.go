package gossip

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/internal/faketime"
	"github.com/polder/polder/regions"
)

// lines collects what a peer logs.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

func (l *lines) have(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// Peers that leave together complain of nobody: whoever is last has no one left who
// could take its silence for a fault, however little of its goodbye went out.
func TestWhoLeavesTogetherNeedsNoGoodbye(t *testing.T) {
	checkLeaks(t)
	faketime.Test(t, func(t *testing.T) {
		for apart := range 40 { // how far apart their ends are, in steps of 10 ms
			f := newFleet(t, 3)
			logs := map[string]*lines{}
			for i, name := range []string{"fr-1", "nl-1", "pl-1"} {
				o := options(t, name, 1, place(1).String())
				logs[name] = &lines{}
				o.Log = slog.New(slog.NewTextHandler(logs[name], nil))
				e := f.air.join(place(i + 1))
				o.network = e.network()
				f.names, f.peers[name], f.ends[name] = append(f.names, name), run(t, o), e
				f.peers[name].say(polder.PeerRow{Healthy: true})
			}
			f.all(f.names, "all three", 5*time.Second, healthy(f.names...))
			for _, name := range f.names {
				f.peers[name].say(polder.PeerRow{Healthy: true, Draining: true})
			}
			f.all(f.names, "that all drain", 5*time.Second, func(s *Snapshot) bool {
				return !slices.ContainsFunc(s.Peers, func(p regions.Peer) bool { return !p.Row.Draining })
			})
			var all sync.WaitGroup
			for i, name := range f.names {
				all.Go(func() {
					<-time.After(time.Duration(i*apart) * 10 * time.Millisecond) // fake time
					f.peers[name].end()
				})
			}
			all.Wait()
			for _, name := range f.names {
				if logs[name].have("left without a goodbye") {
					t.Errorf("%d0 ms apart, %s complains:\n%s", apart, name, logs[name].text.String())
				}
			}
		}
	})
}
