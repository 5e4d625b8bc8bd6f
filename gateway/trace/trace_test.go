package trace_test

import (
	"context"
	"encoding/hex"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"pgregory.net/rapid"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for something that is sure to happen.
const patience = 30 * time.Second

// sink is a collector.
type sink struct {
	collector.UnimplementedTraceServiceServer
	got chan *collector.ExportTraceServiceRequest
}

func (s *sink) Export(ctx context.Context, in *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	select {
	case s.got <- in:
		return &collector.ExportTraceServiceResponse{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// newSink runs a collector that takes as many batches as it has room for.
func newSink(t testing.TB, room int) (*sink, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{got: make(chan *collector.ExportTraceServiceRequest, room)}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, s)
	ended := make(chan struct{})
	go func() { defer close(ended); server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-ended })
	return s, "http://" + listener.Addr().String()
}

// run exports some requests, and returns when the tracer has ended.
func run(t testing.TB, endpoint string, requests ...trace.Request) *strings.Builder {
	t.Helper()
	log := new(strings.Builder)
	tracer, err := trace.New(trace.Options{Endpoint: endpoint, Region: "fr", Peer: "fr-1", Version: "v1", Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tracer.Run(ctx) }()
	for _, r := range requests {
		tracer.Cold(r)
	}
	stop()
	wantEnd(t, ended)
	return log
}

// wantEnd waits until Run has ended, and wants no error.
func wantEnd(t testing.TB, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Run does not end")
	}
}

// all returns the spans that have arrived.
func (s *sink) all() []*spans.Span {
	var list []*spans.Span
	for {
		select {
		case in := <-s.got:
			for _, r := range in.ResourceSpans {
				for _, scope := range r.ScopeSpans {
					list = append(list, scope.Spans...)
				}
			}
		default:
			return list
		}
	}
}

func request(took ...time.Duration) trace.Request {
	r := trace.Request{ID: "0c7e2f7c-5f3c-9f0f-8a3f-6ac1e1b0a0f4", Service: "shop", Instance: "shop-1", Noticed: time.Unix(1000, 0), Status: 200}
	for i, d := range took {
		r.Phases = append(r.Phases, trace.Phase{Name: string(rune('a' + i)), Took: d})
	}
	return r
}

// TestSpansSum: however long the phases are, a request's steps follow each other
// without a gap and fill it exactly.
func TestSpansSum(t *testing.T) {
	s, endpoint := newSink(t, 1000)
	rapid.Check(t, func(rt *rapid.T) {
		took := rapid.SliceOfN(rapid.Map(rapid.Int64Range(0, int64(time.Minute)), func(n int64) time.Duration { return time.Duration(n) }), 8, 8).Draw(rt, "phases")
		run(t, endpoint, request(took...))
		var root *spans.Span
		all := s.all()
		for _, span := range all {
			if span.Name == "cold request" {
				root = span
			}
		}
		if root == nil {
			rt.Fatalf("no span of the request among %d", len(all))
		}
		var sum time.Duration
		at := root.StartTimeUnixNano
		for i, d := range took {
			sum += d
			if d == 0 {
				continue
			}
			for _, step := range all {
				if step.Name == string(rune('a'+i)) {
					if step.StartTimeUnixNano != at || string(step.ParentSpanId) != string(root.SpanId) || string(step.TraceId) != string(root.TraceId) {
						rt.Fatalf("%s begins %d ns late, or is not the request's", step.Name, step.StartTimeUnixNano-at)
					}
					at = step.EndTimeUnixNano
				}
			}
		}
		if at != root.EndTimeUnixNano || at-root.StartTimeUnixNano != uint64(sum) {
			rt.Fatalf("steps end at %d, the request lasts %d, want %d", at-root.StartTimeUnixNano, root.EndTimeUnixNano-root.StartTimeUnixNano, sum)
		}
	})
}

// TestJoin: a request that is traced already stays in its trace, one whose caller
// is not sampled is not told, and any other begins a trace that is called as it is.
func TestJoin(t *testing.T) {
	const trunk, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for name, test := range map[string]struct {
		header, id string
		trace      string // "" for any
		parent     string
		none       bool
	}{
		"traced":                {header: "00-" + trunk + "-" + parent + "-01", trace: trunk, parent: parent},
		"not sampled":           {header: "00-" + trunk + "-" + parent + "-00", none: true},
		"not traced":            {id: "0c7e2f7c-5f3c-9f0f-8a3f-6ac1e1b0a0f4", trace: "0c7e2f7c5f3c9f0f8a3f6ac1e1b0a0f4"},
		"no header that counts": {header: strings.Repeat("x", 55), id: "0c7e2f7c-5f3c-9f0f-8a3f-6ac1e1b0a0f4", trace: "0c7e2f7c5f3c9f0f8a3f6ac1e1b0a0f4"},
		"no UUID":               {id: "mine"},
		"no identifier":         {},
		"nothing but zeros":     {id: "00000000-0000-0000-0000-000000000000"},
	} {
		t.Run(name, func(t *testing.T) {
			s, endpoint := newSink(t, 10)
			r := request(time.Millisecond)
			r.Traceparent, r.ID = test.header, test.id
			run(t, endpoint, r)
			all := s.all()
			if test.none {
				if len(all) > 0 {
					t.Errorf("%d spans of a caller who is not sampled", len(all))
				}
				return
			}
			for _, span := range all {
				if span.Name == "cold request" {
					id := hex.EncodeToString(span.TraceId)
					if test.trace != "" && id != test.trace || strings.Trim(id, "0") == "" || hex.EncodeToString(span.ParentSpanId) != test.parent {
						t.Errorf("trace %s below %x, want %s below %s", id, span.ParentSpanId, test.trace, test.parent)
					}
					return
				}
			}
			t.Error("no span of the request")
		})
	}
}

// TestCollectorThatTakesNothing: nobody waits for it, and a line in the log says
// how much was lost.
func TestCollectorThatTakesNothing(t *testing.T) {
	_, endpoint := newSink(t, 0)
	many := make([]trace.Request, 10_000)
	for i := range many {
		many[i] = request(time.Millisecond, time.Millisecond)
	}
	if log := run(t, endpoint, many...).String(); !strings.Contains(log, "spans are not taken by the collector") {
		t.Errorf("the log says %q", log)
	}
}

func TestEndpoints(t *testing.T) {
	for endpoint, good := range map[string]bool{
		"http://127.0.0.1:4317": true, "http://[::1]:4317": true, "https://collector.example.net:4317": true, "https://192.0.2.1:4317": true,
		"": false, "127.0.0.1:4317": false, "http://192.0.2.1:4317": false, "http://collector.example.net:4317": false, "http://localhost": false,
		"https://collector.example.net": false, "https://u:p@collector.example.net:4317": false, "https://collector.example.net:4317/v1": false,
		"grpc://127.0.0.1:4317": false, "https://%zz": false,
	} {
		_, err := trace.New(trace.Options{Endpoint: endpoint, Region: polder.RegionName("fr"), Log: slog.New(slog.DiscardHandler)})
		if good != (err == nil) {
			t.Errorf("%q: %v", endpoint, err)
		}
		if err != nil && !strings.Contains(err.Error(), "write it like") {
			t.Errorf("%q: %v does not say what to write", endpoint, err)
		}
	}
}
