package gateway

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

// anywhere is a service that both test regions may serve.
func anywhere(keepAlive time.Duration) polder.Service {
	s := started("billing", keepAlive)
	s.Residency.Allow = []polder.Place{"fr", "nl"}
	return s
}

// besideAmsterdam are the surroundings of fr-1, as nl-1 and it tell.
func besideAmsterdam(w *world, nl polder.PeerRow) surroundings {
	own := polder.PeerRow{Peer: "fr-1", Region: "fr", Healthy: true}
	if w.started() > 0 && !slices.Contains(w.journal(), "asleep billing") {
		own.Warm = []polder.ServiceName{"billing"}
	}
	nl.Peer, nl.Region, nl.Healthy = "nl-1", "nl", true
	return surroundings{
		health: polder.RegionHealth{"fr": true, "nl": true}, regionOf: map[string]polder.RegionName{"fr-1": "fr", "nl-1": "nl"},
		peerOf: map[polder.RegionName][]string{"nl": {"192.0.2.1:7443"}}, peerAt: map[string]string{"nl-1": "192.0.2.1:7443"},
		agreeing: []regions.Peer{{Row: own, Usable: true, Able: true, Steady: true}, {Row: nl, Usable: true, Able: true, Steady: true}},
	}
}

// TestBusyElsewhereKeepsOneWarm: while a service is busy at another peer, a gateway
// that may serve it keeps one instance though nobody calls here, and lets it go once
// the service is quiet. It does not retire and revive it, again and again.
func TestBusyElsewhereKeepsOneWarm(t *testing.T) {
	inWorld(t, []polder.Service{anywhere(4 * time.Second)}, func(w *world) {
		w.r.peer = "fr-1"
		billing := []polder.ServiceName{"billing"}
		for range 60 { // the other tells that it is busy, for five minutes
			w.r.SetSurroundings(w.ctx, besideAmsterdam(w, polder.PeerRow{Warm: billing, Busy: billing}))
			after(5 * time.Second)
		}
		published := 0
		for _, entry := range w.journal() {
			if strings.HasPrefix(entry, "publish endpoints") {
				published++
			}
		}
		if w.started() != 1 || w.alive.Load() != 1 || published > 3 {
			t.Errorf("%d starts, %d alive, endpoints published %d times; want one instance, published once it is ready", w.started(), w.alive.Load(), published)
		}
		w.r.SetSurroundings(w.ctx, besideAmsterdam(w, polder.PeerRow{Warm: billing}))
		after(2 * linger)
		if w.alive.Load() != 0 {
			t.Errorf("%d instances stay though the service is quiet and at home elsewhere", w.alive.Load())
		}
	})
}

// TestOwnPaceKeepsNothingWarm: that a service was called often a moment ago is no
// reason to keep it here longer than its keep-alive, where nobody else has it busy.
func TestOwnPaceKeepsNothingWarm(t *testing.T) {
	inWorld(t, []polder.Service{anywhere(4 * time.Second)}, func(w *world) {
		w.r.peer = "fr-1"
		var busy []polder.ServiceName
		w.r.busyChanged = func(names []polder.ServiceName) { busy = names }
		for range 50 {
			if _, err := w.wake("billing"); err != nil {
				t.Fatal(err)
			}
			after(100 * time.Millisecond)
		}
		around := besideAmsterdam(w, polder.PeerRow{})
		w.r.do(w.ctx, func(time.Time) { around.agreeing[0].Row.Busy = busy })
		if len(around.agreeing[0].Row.Busy) != 1 {
			t.Fatal("the service is not busy: this shows nothing")
		}
		w.r.SetSurroundings(w.ctx, around)
		after(linger)
		if w.alive.Load() != 0 {
			t.Errorf("%d instances stay %s after the last call, keep-alive is 4 s", w.alive.Load(), linger)
		}
	})
}
