package gateway

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/polder/polder"
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
// service more is there, or one less: law, translation, proof and publishing. Reading the file, and comparing its
// model with the one before it, is not.
func BenchmarkModelChange(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			r := still(b)
			r.ctx = b.Context()
			q := r.publisher.(*quiet)
			services := make([]polder.Service, n)
			for i := range services {
				services[i] = started(fmt.Sprintf("s%06d", i), time.Minute)
			}
			models := []*polder.Model{{Regions: testRegions, Services: services}, {Regions: testRegions, Services: services[:n-1]}}
			now := time.Now()
			adopt := func(i int) {
				r.adopt(models[i%2], now)
				r.tidyTable(now)
			}
			adopt(0)
			there, back := polder.Compare(models[0], models[1]), polder.Compare(models[1], models[0])
			r.compare = func(before, _ *polder.Model) polder.Difference { // as config does, which compares when it has read the file
				if before == models[0] {
					return there
				}
				return back
			}
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
