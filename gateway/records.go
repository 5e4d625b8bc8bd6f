package gateway

import (
	"sync/atomic"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/metrics"
)

// recordSet is which kinds of records of a service may be kept in this region
// now. The law decides; the zero value keeps none.
type recordSet map[polder.ServiceName]map[polder.Record]bool

// records is the present recordSet. Safe for concurrent use.
type records struct{ now atomic.Pointer[recordSet] }

func (r *records) set(s recordSet) { r.now.Store(&s) }

// mayKeep tells whether records of that kind about a service may be kept here.
func (r *records) mayKeep(service polder.ServiceName, kind polder.Record) bool {
	now := r.now.Load()
	return now != nil && (*now)[service][kind]
}

// recordsOf asks the law.
func (r *reconciler) recordsOf(s *service) map[polder.Record]bool {
	kinds := map[polder.Record]bool{}
	for _, kind := range polder.Records() {
		kinds[kind] = s.approved.MayKeep(kind)
	}
	return kinds
}

// mayTrace tells the activator whether it may remember a service's cold requests.
func (r *Region) mayTrace(service polder.ServiceName) bool {
	return r.records.mayKeep(service, polder.RecordTraces)
}

// named hides the services whose figures may not carry their names among the
// others. Without the law's word, that is all of them.
func (r *Region) named(s metrics.Service) metrics.Service {
	if !r.records.mayKeep(s.Name, polder.RecordMetrics) {
		s.Name = metrics.OtherServices
	}
	return s
}
