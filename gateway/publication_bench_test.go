package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
)

// quiet publishes to no Envoy and starts nothing.
type quiet struct {
	publisher
	instances
	sent int
}

// Apply implements publisher.
func (q *quiet) Apply(set []xds.Resource, remove []xds.Key) int {
	q.sent += len(set) + len(remove)
	return 0
}

// Hold implements certificates.
func (*quiet) Hold(context.Context, map[polder.ServiceName][]polder.Host) map[polder.ServiceName]error {
	return nil
}

// Change implements certificates.
func (*quiet) Change(context.Context, map[polder.ServiceName][]polder.Host, []polder.ServiceName) map[polder.ServiceName]error {
	return nil
}

// BenchmarkModelChange brings a new model of n services into force, of which one
// service more is there, or one less: law, translation, proof and publishing. Once
// in 256 times the table of hosts is among it. Reading the file is not.
func BenchmarkModelChange(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			q := &quiet{}
			r := newReconciler(slog.New(slog.DiscardHandler), xds.Gateway{Region: "fr", Activator: "/activator.sock"},
				xds.NodeConfig{Region: "fr", TrustDomain: "polder", HTTPS: netip.MustParseAddrPort("127.0.0.1:8443"),
					HTTP: netip.MustParseAddrPort("127.0.0.1:8080"), Peer: netip.MustParseAddrPort("127.0.0.1:7443")}, q, q, func([]polder.ServiceName) {})
			r.instances, r.ctx = q, b.Context()
			r.served, r.kept = func(map[polder.ServiceName]law.Approved) {}, func(recordSet) {}
			r.asleep = func(polder.ServiceName) {}
			services := make([]polder.Service, n)
			for i := range services {
				services[i] = started(fmt.Sprintf("s%06d", i), time.Minute)
			}
			models := []*polder.Model{{Regions: testRegions, Services: services}, {Regions: testRegions, Services: services[:n-1]}}
			now := time.Now()
			adopt := func(i int) {
				before := r.model
				r.model = models[i%2]
				r.adoptModel(before, false, now)
				r.tidyTable(now)
			}
			adopt(0)
			q.sent = 0
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				adopt(i)
			}
			if refused := r.gate.Refused(); len(refused) > 0 || r.published == nil {
				b.Fatal("the proof refuses it: ", refused)
			}
			b.ReportMetric(float64(q.sent)/float64(i), "resources/op")
		})
	}
}
