package main

import (
	"context"
	"encoding/hex"
	"net"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// collected is a collector of spans, and what it has been told.
type collected struct {
	collector.UnimplementedTraceServiceServer
	endpoint string

	mu     sync.Mutex // guards all below
	traces map[string][]*spans.Span
}

func newCollector(t *testing.T) *collected {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collected{endpoint: "http://" + listener.Addr().String(), traces: map[string][]*spans.Span{}}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return c
}

// Export takes spans.
func (c *collected) Export(_ context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range in.ResourceSpans {
		for _, scope := range r.ScopeSpans {
			for _, span := range scope.Spans {
				id := hex.EncodeToString(span.TraceId)
				c.traces[id] = append(c.traces[id], span)
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// of returns a trace as far as it is known.
func (c *collected) of(trace string) []*spans.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*spans.Span(nil), c.traces[trace]...)
}

// await waits for the spans of a trace: the request, and at least one step.
func (c *collected) await(t *testing.T, trace string) {
	t.Helper()
	eventually(t, "the trace "+trace+" is collected", func() bool { return len(c.of(trace)) > 1 })
}
