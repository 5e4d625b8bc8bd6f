package trace

import (
	"context"
	"errors"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resources "go.opentelemetry.io/proto/otlp/resource/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// mostRelayed bounds the spans of one batch.
const mostRelayed = 512

// toldOf are the attributes of Envoy's spans that are handed on, and how
// OpenTelemetry's conventions for HTTP call them. The address and the program of
// the caller, and what was asked for, are not among them.
var toldOf = map[string]string{
	"http.method": "http.request.method", "http.status_code": "http.response.status_code",
	"guid:x-request-id": "polder.request_id", "response_flags": "polder.envoy_flags",
}

// relay is the service that Envoys export their spans to.
type relay struct {
	collector.UnimplementedTraceServiceServer
	*Tracer
}

// Register lets Envoys of the region tell of their spans.
func (t *Tracer) Register(on grpc.ServiceRegistrar) {
	collector.RegisterTraceServiceServer(on, relay{Tracer: t})
}

// Export takes an Envoy's spans, and never waits: what there is no room for is lost.
func (r relay) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	for _, from := range in.GetResourceSpans() {
		for _, scope := range from.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				told, ok := r.told(s)
				if !ok {
					continue
				}
				select {
				case r.relayed <- told:
				default:
					r.export.drop(1)
				}
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// told is what the collector may have of an Envoy's span. A request that was sent
// to nobody is nobody's, and is not told.
func (t *Tracer) told(s *spans.Span) (*spans.Span, bool) {
	var kept []*common.KeyValue
	cluster := ""
	for _, a := range s.GetAttributes() {
		if a.GetKey() == "upstream_cluster" {
			cluster = a.GetValue().GetStringValue()
		}
		if name, ok := toldOf[a.GetKey()]; ok {
			kept = append(kept, &common.KeyValue{Key: name, Value: a.GetValue()})
		}
	}
	service, ok := t.admit(cluster)
	if !ok {
		return nil, false
	}
	return &spans.Span{
		TraceId: s.GetTraceId(), SpanId: s.GetSpanId(), ParentSpanId: s.GetParentSpanId(), TraceState: s.GetTraceState(), Flags: s.GetFlags(),
		Name: "request", Kind: s.GetKind(), StartTimeUnixNano: s.GetStartTimeUnixNano(), EndTimeUnixNano: s.GetEndTimeUnixNano(),
		Attributes: append(kept, word("polder.service", string(service))), Status: s.GetStatus(),
	}, true
}

func word(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

// relay hands spans on until ctx ends, and then what remains.
func (t *Tracer) relay(ctx context.Context) {
	var last time.Time // at which what remains is given up, once ctx has ended
	for {
		var batch []*spans.Span
		select {
		case s := <-t.relayed:
			batch = append(batch, s)
		case <-ctx.Done():
		}
		t.gather(ctx, &batch)
		if len(batch) > 0 {
			t.hand(ctx, batch)
		}
		if ctx.Err() != nil && (len(t.relayed) == 0 || !last.IsZero() && time.Now().After(last)) {
			return
		}
		if ctx.Err() != nil && last.IsZero() {
			last = time.Now().Add(stopLimit)
		}
	}
}

// gather takes what else comes within sendEvery, or is there when ctx has ended.
func (t *Tracer) gather(ctx context.Context, batch *[]*spans.Span) {
	enough := time.NewTimer(sendEvery)
	defer enough.Stop()
	for len(*batch) < mostRelayed {
		if ctx.Err() != nil && len(t.relayed) == 0 {
			return
		}
		select {
		case s := <-t.relayed:
			*batch = append(*batch, s)
		case <-enough.C:
			return
		case <-ctx.Done():
		}
	}
}

// hand sends a batch. What the collector does not take is lost.
func (t *Tracer) hand(ctx context.Context, batch []*spans.Span) {
	limit := sendLimit
	if ctx.Err() != nil {
		limit = stopLimit
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	var about []*common.KeyValue
	for _, a := range t.resource.Attributes() {
		about = append(about, word(string(a.Key), a.Value.AsString()))
	}
	err := t.client.UploadTraces(ctx, []*spans.ResourceSpans{{
		Resource:   &resources.Resource{Attributes: about},
		ScopeSpans: []*spans.ScopeSpans{{Scope: &common.InstrumentationScope{Name: "polder.envoy"}, Spans: batch}},
	}})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.export.drop(len(batch))
		t.export.told(err)
	}
}
