package gateway

import (
	"cmp"
	"context"
	"fmt"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/activator"
	"github.com/polder/polder/gateway/trace"
	"github.com/polder/polder/regions/law"
	"github.com/polder/polder/xds"
)

// connectTraces makes what exports spans, if the options name a collector.
func (r *Region) connectTraces(m *polder.Model) (err error) {
	o := r.options
	if o.Traces == "" {
		return nil
	}
	if _, ok := m.Region(r.tracesRegion()); !ok {
		return fmt.Errorf("the collector's region is %q, which is not in the configuration: it has %s", r.tracesRegion(), regionNames(m))
	}
	r.tracer, err = trace.New(trace.Options{Endpoint: o.Traces, Region: o.Region, Peer: o.Peer, Version: o.Version, Log: o.Log, Admit: r.admitSpan})
	return err
}

// tracesRegion is the region whose law the collector is under.
func (r *Region) tracesRegion() polder.RegionName {
	return cmp.Or(r.options.TracesRegion, r.options.Region)
}

// exportTraces sends spans until ctx ends.
func (r *Region) exportTraces(ctx context.Context) error {
	if r.tracer == nil {
		<-ctx.Done()
		return nil
	}
	return r.tracer.Run(ctx)
}

// mayExport tells whether a span of the service may go to a collector in a
// region. It fails closed: of a service that is not known to be served here, none
// may.
func (r *Region) mayExport(service polder.ServiceName, collector polder.RegionName) bool {
	approved, ok := r.served.of(service)
	return ok && approved.Verdict() == law.Serve && approved.Permission().MayKeep(polder.RecordTraces, collector)
}

// admitSpan tells whose requests a cluster's are, and whether the collector may
// have spans of them.
func (r *Region) admitSpan(cluster string) (polder.ServiceName, bool) {
	service, ok := xds.ClusterService(cluster)
	return service, ok && r.mayExport(service, r.tracesRegion())
}

// traceCold tells the collector of a cold request, where the law permits it.
func (r *Region) traceCold(c activator.ColdRequest) {
	if r.tracer == nil || !r.mayExport(c.Service, r.tracesRegion()) {
		return
	}
	request := trace.Request{
		ID: c.ID, Traceparent: c.Trace, Service: c.Service, Instance: c.Instance, Noticed: c.Noticed,
		Status: c.Status, Reason: string(c.Reason), Why: c.Why,
	}
	for _, step := range c.Phases.Steps() {
		request.Phases = append(request.Phases, trace.Phase{Name: step.Name, Took: step.Took})
	}
	r.tracer.Cold(request)
}
