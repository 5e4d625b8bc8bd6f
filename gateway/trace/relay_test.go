package trace_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/trace"
)

// registrar takes what a Tracer serves.
type registrar struct{ service collector.TraceServiceServer }

func (r *registrar) RegisterService(_ *grpc.ServiceDesc, service any) {
	r.service = service.(collector.TraceServiceServer)
}

func attribute(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

// TestRelay: of an Envoy's spans the collector gets those that may be told, as
// they join the caller's trace, and of these no more than is listed.
func TestRelay(t *testing.T) {
	s, endpoint := newSink(t, 100)
	tracer, err := trace.New(trace.Options{Endpoint: endpoint, Region: "fr", Peer: "fr-1", Version: "v1", Log: slog.New(slog.DiscardHandler),
		Admit: func(cluster string) (polder.ServiceName, bool) { return "shop", cluster == "service/shop" }})
	if err != nil {
		t.Fatal(err)
	}
	var on registrar
	tracer.Register(&on)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tracer.Run(ctx) }()
	span := func(id byte, cluster string) *spans.Span {
		return &spans.Span{TraceId: []byte("0123456789abcdef"), SpanId: []byte{id, 2, 3, 4, 5, 6, 7, 8}, ParentSpanId: []byte("parent!!"), Name: "ingress",
			Attributes: []*common.KeyValue{attribute("upstream_cluster", cluster), attribute("http.url", "https://shop.example.com/secret"), attribute("http.method", "GET"),
				attribute("peer.address", "192.0.2.1"), attribute("user_agent", "someone"), attribute("guid:x-request-id", "id")}}
	}
	in := &collector.ExportTraceServiceRequest{ResourceSpans: []*spans.ResourceSpans{{ScopeSpans: []*spans.ScopeSpans{{
		Spans: []*spans.Span{span(1, "service/shop"), span(2, "service/vault"), {Name: "to nobody"}, span(3, "service/shop")}}}}}}
	if _, err := on.service.Export(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	stop()
	wantEnd(t, ended)
	all := s.all()
	if len(all) != 2 {
		t.Fatalf("%d spans are told, want 2: %v", len(all), all)
	}
	for _, told := range all {
		if told.SpanId[0] == 2 || string(told.ParentSpanId) != "parent!!" || string(told.TraceId) != "0123456789abcdef" || told.Name != "request" {
			t.Errorf("told %v", told)
		}
		text := told.String()
		for _, want := range []string{"polder.service", "shop", "http.request.method", "GET", "polder.request_id"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %s in %s", want, text)
			}
		}
		for _, never := range []string{"secret", "192.0.2.1", "someone"} {
			if strings.Contains(text, never) {
				t.Errorf("%s in %s", never, text)
			}
		}
	}
}
