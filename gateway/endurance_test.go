package gateway

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/authority"
	"github.com/polder/polder/xds"
	"github.com/polder/polder/xds/server"
)

var (
	endure     = flag.Duration("endure", 0, "how long TestEndurance changes things; 0 for some hundred changes")
	endureRate = flag.Float64("endure-rate", 10, "changes a second meanwhile")
)

// strain is what must not grow while a region runs.
type strain struct {
	heap       int64 // reachable here, bytes
	goroutines int
	streams    int
	envoy      int64 // allocated by Envoy, bytes
}

func (s strain) String() string {
	return fmt.Sprintf("%.2f MB here, %d goroutines, %d streams, Envoy %.2f MB", float64(s.heap)/1e6, s.goroutines, s.streams, float64(s.envoy)/1e6)
}

// TestEndurance changes endpoints, routes and hosts of a real Envoy, and whom it refuses, again and
// again: memory on both sides, goroutines and streams stay what they were. Between
// two measurements everything is back where it began.
//
//	go test ./gateway -run Endurance -timeout 2h -args -endure 1h
func TestEndurance(t *testing.T) {
	const fleetSize, cycle = 50, 300
	address := netip.MustParseAddrPort("127.0.0.1:9")
	service := func(i int) polder.Service {
		name := fmt.Sprintf("s%04d", i)
		return polder.Service{Name: polder.ServiceName(name), Hosts: []polder.Host{polder.Host(name + ".example.com")}, Timeout: time.Minute,
			Residency: polder.Residency{Allow: []polder.Place{"fr"}, Failover: polder.Failover{Class: polder.FailoverClosed}},
			Endpoints: map[polder.RegionName][]netip.AddrPort{"fr": {address}}}
	}
	var services []polder.Service
	for i := range fleetSize {
		services = append(services, service(i))
	}
	ca, err := authority.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := &settlement{place: newPlace(t, "fr", ca, nil), t: t, keys: map[polder.ServiceName][]xds.Key{}}
	p.server = server.New(server.Options{Log: slog.New(slog.DiscardHandler), Secret: p.secret})
	p.change(services, nil, false)
	p.startEnvoy(t)

	// round makes the changes of one cycle, each acknowledged, and ends where it began.
	round := func(next func() bool) bool {
		for i := range cycle {
			if !next() {
				return false
			}
			s := service(i % fleetSize)
			switch i % 8 {
			case 0: // another endpoint
				s.Endpoints = map[polder.RegionName][]netip.AddrPort{"fr": {netip.AddrPortFrom(address.Addr(), 10)}}
				p.change([]polder.Service{s}, nil, false)
			case 1: // other routes
				s.Timeout = 2 * time.Minute
				p.change([]polder.Service{s}, nil, false)
			case 2: // a new host
				p.change([]polder.Service{service(fleetSize + i)}, nil, false)
			case 3: // that goes again
				p.change(nil, []polder.ServiceName{service(fleetSize + i - 1).Name}, i%50 == 3)
			case 4, 5: // as it was
				p.change([]polder.Service{service((i - 4) % fleetSize)}, nil, false)
			case 6: // refused, and diverted from the table
				s.Residency.Allow, s.Residency.Elsewhere = []polder.Place{"nl"}, polder.Refuse
				p.change([]polder.Service{s}, nil, false)
			case 7: // permitted again
				p.change([]polder.Service{service((i - 1) % fleetSize)}, nil, false)
			}
		}
		p.change(services, nil, true)
		return true
	}
	always := func() bool { return true }
	round(always)
	before := p.strain(t)
	if *endure == 0 {
		round(always)
	} else {
		tick := time.NewTicker(time.Duration(float64(time.Second) / *endureRate))
		defer tick.Stop()
		end := time.After(*endure)
		paced := func() bool {
			select {
			case <-tick.C:
				return true
			case <-end:
				return false
			}
		}
		for n := 1; round(paced); n++ {
			t.Logf("%d changes: %s", n*cycle, p.strain(t))
		}
		p.change(services, nil, true)
	}
	after := p.strain(t)
	t.Logf("before: %s; after: %s", before, after)
	if after.heap > before.heap+before.heap/10+512<<10 {
		t.Errorf("the control plane's memory grew from %d to %d bytes", before.heap, after.heap)
	}
	if after.envoy > before.envoy+before.envoy/4+4<<20 {
		t.Errorf("Envoy's memory grew from %d to %d bytes", before.envoy, after.envoy)
	}
	if after.goroutines > before.goroutines+5 || after.streams != before.streams {
		t.Errorf("goroutines went from %d to %d, streams from %d to %d", before.goroutines, after.goroutines, before.streams, after.streams)
	}
	for _, node := range p.server.Nodes() {
		for _, r := range node.Rejections {
			t.Errorf("rejected %s %s: %s", r.Type, r.Name, r.Reason)
		}
	}
}

func (p *place) strain(t *testing.T) strain {
	t.Helper()
	response, err := p.admin.Get("http://envoy/memory")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), `"allocated": "`)
	digits, _, _ := strings.Cut(rest, `"`)
	allocated, err := strconv.ParseInt(digits, 10, 64)
	if !found || err != nil {
		t.Fatalf("Envoy says of its memory %q", text)
	}
	p.admin.CloseIdleConnections()
	// What lies in pools, as gRPC's buffers do, survives one collection: how much of it there
	// is depends on what was sent last.
	runtime.GC()
	debug.FreeOSMemory()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return strain{int64(stats.HeapAlloc), runtime.NumGoroutine(), len(p.server.Nodes()), allocated}
}
