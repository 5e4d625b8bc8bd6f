package gateway

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm/instance/sockets"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/proof"
)

func wayTo(peer string, hosts ...string) xds.Way {
	return xds.Way{Name: "pass/" + peer + "/nl", Home: peer, Targets: []polder.RegionName{"nl"}, Through: hosts}
}

func ledTo(peer string, hosts ...string) proof.Led {
	return proof.Led{Listener: proof.Key{Type: xds.TypeListener, Name: "public"}, Chain: "pass/" + peer + "/nl", Names: hosts}
}

// TestWaysAreRemembered writes to the memory of the ways, and lets the next Polder read
// it after each write.
func TestWaysAreRemembered(t *testing.T) {
	store, log := sockets.New(sockets.Options{}), slog.New(slog.DiscardHandler)
	open := func() *keptWays {
		t.Helper()
		k, err := openKeptWays(store, log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.close() })
		return k
	}
	now := time.Now()
	read := func() ([]xds.Way, []proof.Led) {
		t.Helper()
		ways, known, err := open().read(now)
		if err != nil {
			t.Fatal(err)
		}
		return ways.Tell(now), known
	}
	k := open()
	if ways, known := read(); len(ways)+len(known) > 0 {
		t.Fatalf("a new memory has %v, %v", ways, known)
	}
	k.add([]xds.Way{wayTo("nl-1", "lone.example")}) // before anything is published whole
	if ways, _ := read(); len(ways) > 0 {
		t.Fatalf("what was added to nothing is %v", ways)
	}
	// Larger and smaller than before, so that it lies before and behind.
	for _, n := range []int{1, 50, 2, 49, 51, 52, 3} {
		var hosts []string
		for i := range n {
			hosts = append(hosts, fmt.Sprintf("host-%02d.example", i))
		}
		ways, known := []xds.Way{wayTo("nl-1", hosts...), wayTo("nl-2", "other.example")}, []proof.Led{ledTo("nl-1", hosts...)}
		k.replace(ways, known)
		if got, also := read(); !reflect.DeepEqual(got, ways) || !reflect.DeepEqual(also, known) {
			t.Fatalf("of %d hosts:\n%v\n%v", n, got, also)
		}
		k.add([]xds.Way{wayTo("nl-2", "added.example")})
		k.add([]xds.Way{wayTo("nl-3", "new.example")})
		ways = []xds.Way{ways[0], wayTo("nl-2", "added.example", "other.example"), wayTo("nl-3", "new.example")}
		if got, also := read(); !reflect.DeepEqual(got, ways) || !reflect.DeepEqual(also, known) {
			t.Fatalf("of %d hosts, and more:\n%v\n%v", n, got, also)
		}
	}
	// The ages go on while nobody runs.
	left := wayTo("nl-1", "left.example")
	left.Kept, left.Left = true, time.Minute
	k.replace([]xds.Way{left}, nil)
	if ways, _ := read(); len(ways) != 1 || !ways[0].Kept || ways[0].Left < time.Minute {
		t.Errorf("a way that was left a minute ago: %+v", ways)
	}
	// Another Polder goes on where this one ended.
	next := open()
	if _, _, err := next.read(now); err != nil {
		t.Fatal(err)
	}
	next.add([]xds.Way{wayTo("nl-4", "next.example")})
	if ways, _ := read(); len(ways) != 2 {
		t.Errorf("two Polders one after the other told of %v", ways)
	}
	k.replace([]xds.Way{wayTo("nl-1", strings.Repeat("x", maxKeptWays))}, nil)
	if ways, _ := read(); len(ways) > 0 {
		t.Errorf("what is too large to be remembered is remembered in part: %v", ways)
	}
}

// TestTornWaysAreOldOrForgotten cuts and damages the memory at every byte: what is read
// is all that was written before, or nothing, and never a part.
func TestTornWaysAreOldOrForgotten(t *testing.T) {
	k, err := openKeptWays(sockets.New(sockets.Options{}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	now := time.Now()
	old := []xds.Way{wayTo("nl-1", "old.example"), wayTo("nl-2", "older.example")}
	k.replace(old, nil)
	before := *k
	k.replace([]xds.Way{wayTo("nl-3", "new.example")}, nil)
	// Killed before the head was written.
	head := binary.LittleEndian.AppendUint64([]byte(keptWaysMagic), uint64(before.begin))
	if _, err := k.file.WriteAt(binary.LittleEndian.AppendUint64(head, uint64(before.length)), 0); err != nil {
		t.Fatal(err)
	}
	if ways, _, err := k.read(now); err != nil || !reflect.DeepEqual(ways.Tell(now), old) {
		t.Errorf("killed while it wrote: %v, %v", ways.Tell(now), err)
	}
	whole := make([]byte, keptWaysHead+before.length)
	if _, err := k.file.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	for size := range whole {
		if err := k.file.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if _, err := k.file.WriteAt(whole[:size], 0); err != nil {
			t.Fatal(err)
		}
		if ways, _, err := k.read(now); size > 0 && err == nil || len(ways.Tell(now)) > 0 {
			t.Fatalf("of the first %d bytes of %d: %v, %v", size, len(whole), ways.Tell(now), err)
		}
	}
	for at := range whole[:keptWaysHead] {
		for bit := range 8 {
			whole[at] ^= 1 << bit
			if _, err := k.file.WriteAt(whole, 0); err != nil {
				t.Fatal(err)
			}
			// The last byte ends a line, and nothing is missing without it.
			ways, _, err := k.read(now)
			if told := ways.Tell(now); err == nil && !reflect.DeepEqual(told, old) || err != nil && len(told) > 0 {
				t.Fatalf("with bit %d of byte %d turned: %v, %v", bit, at, told, err)
			}
			whole[at] ^= 1 << bit
		}
	}
}
