package main

import (
	"context"
	"encoding/hex"
	"net"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// collected is a collector of spans, and which traces it has seen.
type collected struct {
	collector.UnimplementedTraceServiceServer
	endpoint string

	mu     sync.Mutex // guards all below
	traces map[string]int
}

func newCollector(t *testing.T) *collected {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collected{endpoint: "http://" + listener.Addr().String(), traces: map[string]int{}}
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
				c.traces[hex.EncodeToString(span.TraceId)]++
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// await waits for the spans of a trace: the request, and at least one step.
func (c *collected) await(t *testing.T, trace string) {
	t.Helper()
	eventually(t, "the trace "+trace+" is collected", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.traces[trace] > 1
	})
}
