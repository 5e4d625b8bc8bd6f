package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"

	spans "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/polder/polder"
)

const (
	// mostRequests bounds the requests that wait to become spans, and mostQueued the
	// spans that wait to be sent; what comes then is dropped.
	mostRequests = 1024
	mostQueued   = 8192
	// sendEvery is the longest that a span waits for others.
	sendEvery = time.Second
	// sendLimit bounds one batch on its way, all tries together.
	sendLimit = 10 * time.Second
	// stopLimit bounds the sending of what remains at a stop.
	stopLimit = 3 * time.Second
)

// Options of a Tracer.
type Options struct {
	Endpoint string // of the collector: http://127.0.0.1:4317, or https:// and any host
	Region   polder.RegionName
	Peer     string
	Version  string // of Polder
	// Admit tells whose requests Envoy sends to a cluster, and whether the collector
	// may be told of them.
	Admit func(cluster string) (polder.ServiceName, bool)
	Log   *slog.Logger
}

// Tracer exports spans of cold requests, while it runs.
type Tracer struct {
	client   otlptrace.Client
	export   *watched
	resource *resource.Resource
	requests chan Request
	relayed  chan *spans.Span
	admit    func(cluster string) (polder.ServiceName, bool)
}

// Request is a cold request, as far as a trace tells of it.
type Request struct {
	ID          string // x-request-id
	Traceparent string // as the caller sent it; "" when it did not
	Service     polder.ServiceName
	Instance    polder.InstanceID
	Noticed     time.Time
	Phases      []Phase // in order of time
	Status      int
	Reason      string // why no instance answered; "" when one did
	Why         string // the decision that started the instance
}

// Phase is one step of a request.
type Phase struct {
	Name string
	Took time.Duration
}

// New returns a Tracer, or what is wrong with the endpoint. It sends nothing.
func New(o Options) (*Tracer, error) {
	client, err := dial(o.Endpoint)
	if err != nil {
		return nil, err
	}
	return &Tracer{
		client: client, export: newWatched(otlptrace.NewUnstarted(client), o.Endpoint, o.Log),
		relayed: make(chan *spans.Span, mostQueued), admit: o.Admit,
		resource: resource.NewSchemaless(
			attribute.String("service.name", "polder"), attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Peer), attribute.String("polder.region", string(o.Region))),
		requests: make(chan Request, mostRequests),
	}, nil
}

// dial makes the client; it connects when it is started.
func dial(endpoint string) (otlptrace.Client, error) {
	u, err := url.Parse(endpoint)
	if err == nil {
		err = check(u)
	}
	if err != nil {
		return nil, fmt.Errorf("the collector of traces is %q: %w; write it like https://collector.example.net:4317, or http://127.0.0.1:4317 for one on this machine", endpoint, err)
	}
	options := []otlptracegrpc.Option{
		otlptracegrpc.WithEndpoint(u.Host), otlptracegrpc.WithTimeout(sendLimit),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: true, InitialInterval: 100 * time.Millisecond, MaxInterval: time.Second, MaxElapsedTime: sendLimit}),
	}
	if u.Scheme == "http" {
		options = append(options, otlptracegrpc.WithInsecure())
	}
	return otlptracegrpc.NewClient(options...), nil
}

// check lets spans leave this machine encrypted only.
func check(u *url.URL) error {
	host, _, err := net.SplitHostPort(u.Host)
	switch {
	case err != nil:
		return err
	case u.Path != "" || u.RawQuery != "" || u.User != nil || u.Fragment != "":
		return errors.New("it has more than a host and a port")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return errors.New("its scheme is neither https nor http")
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return errors.New("spans are sent in clear only on this machine")
	}
	return nil
}

// Run sends spans until ctx ends, and then what remains, for a moment.
func (t *Tracer) Run(ctx context.Context) error {
	if err := t.export.start(ctx); err != nil {
		return err
	}
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(t.export, sdk.WithMaxQueueSize(mostQueued), sdk.WithBatchTimeout(sendEvery), sdk.WithExportTimeout(sendLimit)),
		sdk.WithSampler(sdk.ParentBased(sdk.AlwaysSample())), // a caller who is not traced stays so
		sdk.WithIDGenerator(identifiers{}), sdk.WithResource(t.resource),
	)
	tracer := provider.Tracer("polder")
	relaying := make(chan struct{})
	go func() { defer close(relaying); t.relay(ctx) }()
	for running := true; running; {
		select {
		case r := <-t.requests:
			makeSpans(tracer, r)
		case <-ctx.Done():
			running = false
		}
	}
	for range len(t.requests) {
		makeSpans(tracer, <-t.requests)
	}
	<-relaying
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := provider.Shutdown(last); err != nil {
		t.export.told(err)
		close(t.export.cut)
		<-t.export.ended
	}
	return nil
}

// Cold exports a cold request. It never waits.
func (t *Tracer) Cold(r Request) {
	select {
	case t.requests <- r:
	default:
		t.export.drop(1 + len(r.Phases))
	}
}

// makeSpans makes the spans of one request.
func makeSpans(tracer oteltrace.Tracer, r Request) {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": r.Traceparent})
	ctx = withRequest(ctx, r.ID)
	ctx, span := tracer.Start(ctx, "cold request", oteltrace.WithTimestamp(r.Noticed), oteltrace.WithSpanKind(oteltrace.SpanKindServer))
	if !span.IsRecording() {
		span.End()
		return
	}
	span.SetAttributes(attribute.String("polder.service", string(r.Service)), attribute.String("polder.request_id", r.ID),
		attribute.String("polder.instance", string(r.Instance)), attribute.String("polder.why", r.Why), attribute.Int("http.response.status_code", r.Status))
	if r.Reason != "" {
		span.SetAttributes(attribute.String("polder.reason", r.Reason))
		span.SetStatus(codes.Error, r.Reason)
	}
	at := r.Noticed
	for _, p := range r.Phases {
		if p.Took > 0 {
			_, step := tracer.Start(ctx, p.Name, oteltrace.WithTimestamp(at))
			step.End(oteltrace.WithTimestamp(at.Add(p.Took)))
		}
		at = at.Add(p.Took)
	}
	span.End(oteltrace.WithTimestamp(at))
}
