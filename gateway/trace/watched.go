package trace

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// tellEvery is how often failures to send are logged.
const tellEvery = time.Minute

// watched is the exporter, with a log of its own for what the library would
// write to standard error.
type watched struct {
	// Fixed after construction.
	exporter *otlptrace.Exporter
	endpoint string
	log      *slog.Logger
	cut      chan struct{} // closed by Run: nothing is sent any more
	ended    chan struct{} // closed when the library has let go of the exporter

	mu     sync.Mutex // guards all below
	lost   int        // spans since the last line
	logged time.Time
}

func newWatched(e *otlptrace.Exporter, endpoint string, log *slog.Logger) *watched {
	return &watched{exporter: e, endpoint: endpoint, log: log, cut: make(chan struct{}), ended: make(chan struct{})}
}

func (w *watched) start(ctx context.Context) error { return w.exporter.Start(ctx) }

// ExportSpans sends spans. A failure ends here: they are lost.
func (w *watched) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-w.cut:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := w.exporter.ExportSpans(ctx, spans); err != nil {
		w.drop(len(spans))
		w.told(err)
	}
	return nil
}

// drop counts spans that are lost.
func (w *watched) drop(spans int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost += spans
}

// Shutdown ends the exporter, after the last batch.
func (w *watched) Shutdown(context.Context) error {
	defer close(w.ended)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // nothing is on its way
	defer cancel()
	if err := w.exporter.Shutdown(ctx); err != nil {
		w.told(err)
	}
	return nil
}

// told logs a failure, and how many spans were lost since the last one told.
func (w *watched) told(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.logged) >= tellEvery {
		w.log.Warn("spans are not taken by the collector", "endpoint", w.endpoint, "reason", err, "lost", w.lost)
		w.logged, w.lost = now, 0
	}
}
