package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/polder/polder"
)

const (
	// readTimeout bounds the reading for one question.
	readTimeout = 5 * time.Second
	// mostSeries bounds the series of one instrument, far above what the bounded
	// labels can reach: reasons times services.
	mostSeries = 16 * (MaxServices + 1)
)

// buckets are the upper bounds of the histograms of lengths, in seconds: Polder's
// own part is some milliseconds, programs take up to a minute.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// Options of Metrics.
type Options struct {
	Region  polder.RegionName
	Peer    string
	Version string
	Read    func(context.Context) (Reading, error) // called for each question, from any goroutine
}

// Metrics holds the instruments of one region.
type Metrics struct {
	// Fixed after construction.
	options  Options
	registry *prometheus.Registry
	handler  http.Handler
	observed []observed
	cold     metric.Float64Histogram
	phase    metric.Float64Histogram

	turn    chan struct{} // capacity 1: holds whose question is answered
	reading Reading       // only for whoever has the turn
}

// New makes the instruments. It starts nothing.
func New(o Options) (*Metrics, error) {
	m := &Metrics{options: o, registry: prometheus.NewRegistry(), turn: make(chan struct{}, 1)}
	reader, err := exporter.New(exporter.WithRegisterer(m.registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo(),
		exporter.WithResourceAsConstantLabels(attribute.NewAllowKeysFilter("region", "peer")))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	meter := sdk.NewMeterProvider(sdk.WithReader(reader), sdk.WithCardinalityLimit(mostSeries), sdk.WithResource(
		resource.NewSchemaless(attribute.String("region", string(o.Region)), attribute.String("peer", o.Peer)))).Meter("polder")
	m.cold, err = meter.Float64Histogram("polder.cold_request.duration", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(buckets...),
		metric.WithDescription("From the arrival of a cold request at the activator to the first byte of its answer, by `outcome` (answered or failed) and `reason` (none, or why it failed)"))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	m.phase, err = meter.Float64Histogram("polder.cold_request.phase", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(buckets...),
		metric.WithDescription("Length of each step of a cold request that was answered, by `phase` (see cold-start.md)"))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	if err := m.observeAll(meter); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return m, nil
}

// ServeHTTP answers with all metrics, one question at a time.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		http.Error(w, "others ask for the metrics all the time", http.StatusServiceUnavailable)
		return
	}
	reading, err := m.options.Read(ctx)
	if err != nil {
		http.Error(w, fmt.Sprintf("reading the metrics: %v", err), http.StatusInternalServerError)
		return
	}
	reading.Services = bounded(reading.Services)
	m.reading = reading
	m.handler.ServeHTTP(w, r)
}

// Phase is one step of a cold request.
type Phase struct {
	Name string // of a fixed list
	Took time.Duration
}

// Cold records a cold request. The reason, of a fixed list, says why no instance
// answered; "" when one did.
func (m *Metrics) Cold(total time.Duration, reason string, phases []Phase) {
	ctx := context.Background()
	outcome := "failed"
	if reason == "" {
		reason = "none"
		outcome = "answered"
		for _, p := range phases {
			m.phase.Record(ctx, p.Took.Seconds(), metric.WithAttributes(attribute.String("phase", p.Name)))
		}
	}
	m.cold.Record(ctx, total.Seconds(), metric.WithAttributes(attribute.String("outcome", outcome), attribute.String("reason", reason)))
}

// observed is an instrument that is read when somebody asks.
type observed struct {
	instrument metric.Int64Observable
	tell       func(r *Reading, value value)
}

// value takes one number of an instrument, with its labels in pairs.
type value func(n int64, labels ...string)

// observeAll makes the instruments of the catalogue, and one callback for
// all of them.
func (m *Metrics) observeAll(meter metric.Meter) error {
	var all []metric.Observable
	var faults []error
	for _, c := range catalogue(m.options) {
		var o metric.Int64Observable
		var err error
		if c.counts {
			o, err = meter.Int64ObservableCounter(c.name, metric.WithDescription(c.help), metric.WithUnit(c.unit))
		} else {
			o, err = meter.Int64ObservableGauge(c.name, metric.WithDescription(c.help), metric.WithUnit(c.unit))
		}
		faults = append(faults, err)
		m.observed = append(m.observed, observed{o, c.tell})
		all = append(all, o)
	}
	_, err := meter.RegisterCallback(m.tell, all...)
	return errors.Join(append(faults, err)...)
}

// tell tells the reading to the library. Called by the handler, which has the turn.
func (m *Metrics) tell(_ context.Context, to metric.Observer) error {
	for _, o := range m.observed {
		o.tell(&m.reading, func(n int64, labels ...string) {
			attributes := make([]attribute.KeyValue, 0, len(labels)/2)
			for i := 0; i < len(labels); i += 2 {
				attributes = append(attributes, attribute.String(labels[i], labels[i+1]))
			}
			to.ObserveInt64(o.instrument, n, metric.WithAttributes(attributes...))
		})
	}
	return nil
}
