package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/regions"
)

func someRow(n int) polder.PeerRow {
	return polder.PeerRow{Peer: fmt.Sprintf("fr-%d", n), Region: "fr", Epoch: uint64(n + 1), Sequence: 1, Healthy: n%2 == 0}
}

func TestMessagesComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, regions.MaxPeers).Draw(t, "rows")
		var rows [][]byte
		for i := range n {
			rows = append(rows, sealedRow(someRow(i)))
		}
		var got [][]byte
		take := func(told told, _ polder.PeerRow) { got = append(got, told.sealed) }
		if err := readMessage(stateMessage(rows), take); err != nil {
			t.Fatal(err)
		}
		if len(got) != n {
			t.Fatalf("%d rows came back of %d", len(got), n)
		}
		for i := range rows {
			if !bytes.Equal(got[i], rows[i]) {
				t.Fatalf("row %d changed", i)
			}
		}
		if n > 0 {
			got = nil
			if err := readMessage(rowMessage(rows[0]), take); err != nil || len(got) != 1 || !bytes.Equal(got[0], rows[0]) {
				t.Fatalf("a row came back as %v, error %v", got, err)
			}
		}
	})
}

// A state is as useful as possible: rows in a newer format do not hide the
// others, and those before a fault have been taken.
func TestStateWithStrangeRows(t *testing.T) {
	newer := seal([]byte("fr-1 fr"), nil, append([]byte{99}, regions.Encode(someRow(1))[1:]...))
	mixed := stateMessage([][]byte{sealedRow(someRow(0)), newer, sealedRow(someRow(2))})
	var got []string
	take := func(_ told, r polder.PeerRow) { got = append(got, r.Peer) }
	if err := readMessage(mixed, take); !errors.Is(err, regions.ErrFormat) || fmt.Sprint(got) != "[fr-0 fr-2]" {
		t.Errorf("took %v, error %v", got, err)
	}
	got = nil
	if err := readMessage(mixed[:len(mixed)-1], take); err == nil || fmt.Sprint(got) != "[fr-0]" {
		t.Errorf("cut short: took %v, error %v", got, err)
	}
	got = nil
	if err := readMessage(stateMessage(make([][]byte, regions.MaxPeers+1)), take); err == nil || len(got) > 0 {
		t.Errorf("one row too many: took %v, error %v", got, err)
	}
}

// The largest state that can be is within what memberlist accepts, 20 MiB.
func TestFullStateFits(t *testing.T) {
	rows := make([][]byte, regions.MaxPeers)
	for i := range rows {
		rows[i] = make([]byte, maxSeal+regions.MaxRowBytes)
	}
	if n := len(stateMessage(rows)); n > maxState || maxState > 20<<20 {
		t.Errorf("a full state takes %d bytes, the bound is %d", n, maxState)
	}
}

func TestLife(t *testing.T) {
	l := life{region: "fr", epoch: 1 << 40}
	if got, err := readLife("fr-1", l.encode()); err != nil || got != l {
		t.Errorf("%+v, error %v", got, err)
	}
	if n := len((life{region: polder.RegionName(bytes.Repeat([]byte("x"), 63)), epoch: 1<<62 - 1}).encode()); n > 512 {
		t.Errorf("a life may take %d bytes; memberlist allows 512", n)
	}
	for name, b := range map[string][]byte{
		"nothing":        nil,
		"another format": append([]byte{format + 1}, l.encode()[1:]...),
		"another kind":   rowMessage(sealedRow(someRow(1))),
		"no region":      (life{epoch: 1}).encode(),
		"no epoch":       (life{region: "fr"}).encode(),
		"bad region":     (life{region: "fr nl", epoch: 1}).encode(),
	} {
		if got, err := readLife("fr-1", b); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
	if _, err := readLife("fr 1", l.encode()); err == nil {
		t.Error("a name that is no label was accepted")
	}
}

// Whatever arrives: no panic, only rows that pass the check, never more than the
// bound, and the table that takes them holds.
func FuzzMessage(f *testing.F) {
	row := sealedRow(someRow(1))
	f.Add(rowMessage(row))
	f.Add(stateMessage([][]byte{row, sealedRow(someRow(2))}))
	f.Add(stateMessage(nil))
	f.Add((life{"fr", 1}).encode())
	f.Add(question{nonce{1}, "nl-1", "fr-1"}.encode())
	f.Add(answerMessage([]byte("fr-1 fr"), []byte("signed"), statement{nonce{1}, "nl-1", "fr-1", life{"fr", 1}, "10.0.0.1:7946"}.encode()))
	f.Add([]byte{format, kindState, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		taken := 0
		err := readMessage(b, func(_ told, r polder.PeerRow) {
			taken++
			if fault := regions.Check(r); fault != nil {
				t.Fatalf("took a row that does not pass: %v", fault)
			}
		})
		if taken > regions.MaxPeers || err == nil && taken == 0 && b[1] != kindState {
			t.Fatalf("%d rows, error %v", taken, err)
		}
		switch kindOf(b) {
		case kindQuestion:
			if q, err := readQuestion(b); err == nil && !bytes.Equal(q.encode(), b) {
				t.Fatalf("a question has two forms: %+v", q)
			}
		case kindAnswer:
			if _, s, err := readAnswer(b); err == nil && regions.Check(polder.PeerRow{Peer: s.peer, Region: s.life.region, Epoch: s.life.epoch, Sequence: 1}) != nil {
				t.Fatalf("a statement that does not pass: %+v", s)
			}
		}
		if l, err := readLife("fr-1", b); err == nil && l.epoch == 0 {
			t.Fatal("a life without epoch")
		}
	})
}
