package gateway

import (
	"github.com/polder/polder"
	"github.com/polder/polder/gateway/metrics"
)

// mayTrace tells the activator whether it may remember a service's cold requests.
func (r *Region) mayTrace(service polder.ServiceName) bool {
	return r.served.mayKeep(service, polder.RecordTraces)
}

// named hides the services whose figures may not carry their names among the
// others. Without the law's word, that is all of them.
func (r *Region) named(s metrics.Service) metrics.Service {
	if !r.served.mayKeep(s.Name, polder.RecordMetrics) {
		s.Name = metrics.OtherServices
	}
	return s
}
