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
	sent int       // resources, set or removed
	keys []xds.Key // of those that were sent last
}

// Apply implements publisher.
func (q *quiet) Apply(set []xds.Resource, remove []xds.Key) int {
	q.sent += len(set) + len(remove)
	q.keys = append(keysIn(set), remove...)
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
// service differs: law, translation, proof and publishing. Reading the file, and comparing its
// model with the one before it, is not.
func BenchmarkModelChange(b *testing.B) {
	for _, kind := range []struct {
		name    string
		service func(i int) polder.Service
		change  func(services []polder.Service) []polder.Service
	}{
		{"one more or less", func(i int) polder.Service { return started(fmt.Sprintf("s%06d", i), time.Minute) },
			func(services []polder.Service) []polder.Service { return services[:len(services)-1] }},
		{"endpoints of one that is passed on", func(i int) polder.Service { return routed(fmt.Sprintf("s%06d", i), uint16(20_000+i), "nl") },
			func(services []polder.Service) []polder.Service {
				return append(services[:len(services)-1:len(services)-1], routed(string(services[len(services)-1].Name), 80, "nl"))
			}},
		{"one more or less, all at one address", func(i int) polder.Service { return routed(fmt.Sprintf("s%06d", i), 80, "fr") },
			func(services []polder.Service) []polder.Service { return services[:len(services)-1] }},
		{"one is refused or permitted", func(i int) polder.Service { return started(fmt.Sprintf("s%06d", i), time.Minute) },
			func(services []polder.Service) []polder.Service {
				last := services[len(services)-1]
				last.Residency.Allow, last.Residency.Elsewhere = []polder.Place{"nl"}, polder.Refuse
				return append(services[:len(services)-1:len(services)-1], last)
			}},
	} {
		for _, n := range []int{10, 1000, 10_000} {
			b.Run(fmt.Sprintf("%s/services=%d", kind.name, n), func(b *testing.B) {
				services := make([]polder.Service, n)
				for i := range services {
					services[i] = kind.service(i)
				}
				changeModel(b, &polder.Model{Regions: testRegions, Services: services}, &polder.Model{Regions: testRegions, Services: kind.change(services)})
			})
		}
	}
}

// changeModel brings one of two models into force after the other.
func changeModel(b *testing.B, models ...*polder.Model) {
	r := still(b)
	r.ctx = b.Context()
	r.around = regionsAlive("fr", "nl")
	q := r.publisher.(*quiet)
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
}
