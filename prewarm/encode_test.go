package prewarm

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"pgregory.net/rapid"
)

func TestStateRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s State
		now := noon
		for range rapid.IntRange(0, 200).Draw(t, "n") {
			s.Observe(Observation{
				Now: now, Arrivals: rapid.IntRange(0, 3).Draw(t, "arrivals"), InProgress: rapid.IntRange(0, 9).Draw(t, "in progress"),
				StartUps: []time.Duration{time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "start-up"))},
			})
			now = now.Add(time.Duration(rapid.Int64Range(0, 2e11).Draw(t, "dt")))
		}
		b, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > StateBytes {
			t.Fatalf("%d bytes encoded", len(b))
		}
		var got State
		if err := got.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		if got != s {
			t.Fatal("a decoded state differs from the encoded one")
		}
		b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if err := got.UnmarshalBinary(b); err == nil {
			t.Fatal("a flipped bit went unnoticed")
		}
		if got != s {
			t.Fatal("a failed decoding changed the state")
		}
	})
}

func TestUnmarshalSaysWhatToDo(t *testing.T) {
	var s State
	b, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	b[0]++
	if err := s.UnmarshalBinary(b); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("version %d, want %d", stateVersion+1, stateVersion)) {
		t.Errorf("another version: %v", err)
	}
	if err := s.UnmarshalBinary(nil); err == nil {
		t.Error("no bytes at all were accepted")
	}
}

// FuzzUnmarshal: bytes with a valid checksum either fail or give a state that
// every later step can live with.
func FuzzUnmarshal(f *testing.F) {
	var s State
	observe(&s, noon, every(7, 300))
	b, err := s.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:len(b)-4], uint32(90))
	f.Add([]byte{stateVersion}, uint32(0))
	f.Fuzz(func(t *testing.T, body []byte, seconds uint32) {
		var s State
		if s.UnmarshalBinary(binary.LittleEndian.AppendUint32(body[:len(body):len(body)], crc32.ChecksumIEEE(body))) != nil {
			return
		}
		service := polder.Service{Scale: scale(polder.AutoKeepAlive)}
		now := time.Unix(0, s.window.last)
		for i := range 5 {
			d := Step(&s, service, Observation{Now: now, Arrivals: i % 2, InProgress: i % 3}, Terms{})
			if d.Desired < 0 || d.Desired > service.Scale.Max || d.Reason() == "" {
				t.Fatalf("decision %+v", d)
			}
			now = now.Add(time.Duration(seconds) * time.Second)
		}
		s.Resume(now.Add(time.Hour))
	})
}
