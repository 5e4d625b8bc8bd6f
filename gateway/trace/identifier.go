package trace

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"

	oteltrace "go.opentelemetry.io/otel/trace"
)

type requestKey struct{}

// withRequest lets a new trace have the request's identifier.
func withRequest(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// identifiers names traces after requests, so that one leads to the other, and
// spans by chance.
type identifiers struct{}

// NewIDs names a new trace and its first span.
func (i identifiers) NewIDs(ctx context.Context) (oteltrace.TraceID, oteltrace.SpanID) {
	var trace oteltrace.TraceID
	id, _ := ctx.Value(requestKey{}).(string)
	bytes, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || copy(trace[:], bytes) != len(trace) || len(bytes) != len(trace) || !trace.IsValid() {
		rand.Read(trace[:]) // never fails
	}
	return trace, i.NewSpanID(ctx, trace)
}

// NewSpanID names a span.
func (identifiers) NewSpanID(context.Context, oteltrace.TraceID) oteltrace.SpanID {
	var span oteltrace.SpanID
	rand.Read(span[:]) // never fails
	return span
}
