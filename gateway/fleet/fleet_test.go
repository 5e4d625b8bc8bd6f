package fleet

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/polder/polder"
)

func TestPlanGivesEachRegionItsPorts(t *testing.T) {
	listens, err := plan(0, 3)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, l := range listens {
		for _, address := range []string{l.HTTPS, l.HTTP, l.Peer, l.Gossip} {
			if host, _, err := net.SplitHostPort(address); err != nil || host != loopback || seen[address] {
				t.Errorf("address %q, %v: want one of its own on %s", address, err, loopback)
			}
			seen[address] = true
		}
	}
}

func TestPlanNamesEveryPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	if _, err := plan(port, 1); err == nil || !strings.Contains(err.Error(), "HTTPS port of peer 1") || !strings.Contains(err.Error(), "--port") {
		t.Errorf("port %d is taken: %v, want an error that names it and the way out", port, err)
	}
}

func TestCheckPort(t *testing.T) {
	for _, c := range []struct {
		port, regions int
		ok            bool
	}{
		{0, 1000, true}, {8443, 3, true}, {1001, 1, true}, {65535, 1, true},
		{1000, 1, false}, {65535, 2, false}, {-1, 1, false}, {443, 3, false}, {70000, 1, false},
	} {
		if err := CheckPort(c.port, c.regions); (err == nil) != c.ok {
			t.Errorf("port %d with %d regions: %v, want ok %v", c.port, c.regions, err, c.ok)
		}
	}
}

// TestLogsAreBounded rotates what has grown too long, and nothing else.
func TestLogsAreBounded(t *testing.T) {
	f, err := New(Options{State: t.TempDir(), Log: slog.New(slog.DiscardHandler)}, []polder.Region{{Name: "fr"}, {Name: "nl"}})
	if err != nil {
		t.Fatal(err)
	}
	long, short := LogFile(f.members[0].Layout), LogFile(f.members[1].Layout)
	for _, m := range f.members {
		if err := m.Layout.Make(); err != nil {
			t.Fatal(err)
		}
	}
	write := func(file string, size int64) {
		if err := os.WriteFile(file, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(long, mostLog+1)
	write(short, mostLog)
	write(f.guard().LogFile, mostLog+1)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	f.keepLogs(ended) // looks once, then ends
	for file, want := range map[string]int64{long: 0, long + ".1": mostLog + 1, short: mostLog, f.guard().LogFile: 0} {
		if info, err := os.Stat(file); err != nil || info.Size() != want {
			t.Errorf("%s: %v, %v; want %d bytes", file, info, err, want)
		}
	}
	if _, err := os.Stat(short + ".1"); err == nil {
		t.Error("a log within its bound was rotated")
	}
}

// TestOnePeerServesOtherMachines holds that of several peers of a region, which have one
// configuration and one machine, a single one takes the address of listen.xds.
func TestOnePeerServesOtherMachines(t *testing.T) {
	f, err := New(Options{State: t.TempDir(), Peers: 3, Log: slog.New(slog.DiscardHandler)}, []polder.Region{{Name: "fr"}, {Name: "nl"}})
	if err != nil {
		t.Fatal(err)
	}
	serves := map[polder.RegionName][]string{}
	for _, m := range f.Members() {
		args := strings.Join(f.command(m).Args, " ")
		if !strings.Contains(args, "--xds off") {
			serves[m.Region.Name] = append(serves[m.Region.Name], m.Peer)
		}
	}
	for region, want := range map[polder.RegionName]string{"fr": "fr-1", "nl": "nl-1"} {
		if got := strings.Join(serves[region], " "); got != want {
			t.Errorf("region %s: listen.xds is left to %q, want %q", region, got, want)
		}
	}
}
