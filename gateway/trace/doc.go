// Package trace exports what a cold request waited for as OpenTelemetry spans,
// over OTLP, to a collector that the operator names.
//
// A cold request is one span, from its arrival at the activator to the first
// byte of its answer, with a child for each phase that took any time. It joins
// the trace of the request's traceparent header; without one it begins a trace
// whose identifier is the request's own, where that is a UUID as Envoy makes it.
//
// Whether a request of a service may be told is asked for each one, before a
// span exists: the collector is in a region, and the owner's policy says where
// traces may be kept. The package itself knows no policy.
//
// Requests are queued, and sent in batches by Run. What does not fit, or is not
// taken in time, is dropped and counted: tracing never holds up a request.
// Cold may be called from any goroutine.
package trace
