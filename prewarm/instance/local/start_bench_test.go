package local

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm/instance"
)

// BenchmarkStart reports the median start, in ms, of the test's sample program:
// bare, as a process whose port is asked every 50 µs; and by the provider, with
// a port and with an inherited socket. The difference is the provider's share
// of a cold start: record, log file, port, and how often it asks. The three
// take turns, so that they meet the same machine.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	p, err := New(Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	took := map[string][]time.Duration{}
	for n := 0; b.Loop(); n++ {
		for name, start := range map[string]func() (time.Duration, error){
			"bare":    func() (time.Duration, error) { return startBare(b) },
			"port":    func() (time.Duration, error) { return startBy(b, p, dir, n, polder.ListenPort) },
			"inherit": func() (time.Duration, error) { return startBy(b, p, dir, n, polder.ListenInherit) },
		} {
			d, err := start()
			if err != nil {
				b.Fatal(err)
			}
			took[name] = append(took[name], d)
		}
	}
	for name, all := range took {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, name+"-ms")
	}
}

func startBare(b *testing.B) (time.Duration, error) {
	place, err := reserve()
	if err != nil {
		return 0, err
	}
	defer place.leave()
	began := time.Now()
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{"INSTANCETEST=serve", "HOST=127.0.0.1", fmt.Sprintf("PORT=%d", place.address.Port())}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	untilConnected(b, place.address)
	took := time.Since(began)
	err = cmd.Process.Kill()
	_ = cmd.Wait()
	return took, err
}

func startBy(b *testing.B, p *Provider, dir string, n int, listen polder.RunListen) (time.Duration, error) {
	began := time.Now()
	h, err := p.Start(b.Context(), instance.Order{
		ID: polder.InstanceID(fmt.Sprintf("sample-%s-%d", listen, n)), LogFile: filepath.Join(dir, "log"),
		Service: polder.Service{Name: "sample", Run: &polder.Run{
			Command: []string{os.Args[0]}, Environment: map[string]string{"INSTANCETEST": "serve"}, Listen: listen,
		}},
	})
	if err != nil {
		return 0, err
	}
	_, err = h.AwaitReady(b.Context())
	took := time.Since(began)
	return took, errors.Join(err, h.Stop(b.Context(), 0))
}

func untilConnected(b *testing.B, at netip.AddrPort) {
	tick := time.NewTicker(50 * time.Microsecond)
	defer tick.Stop()
	for (probe{Address: at}).dial(b.Context()) != nil {
		<-tick.C
	}
}
