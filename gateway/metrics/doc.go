// Package metrics tells monitoring what a region does, in Prometheus' format,
// through OpenTelemetry's instruments.
//
// Nearly everything is read when somebody asks: Metrics calls the function that
// it was given once for each question, and reports that Reading. Only cold
// requests are recorded as they happen, because their lengths are histograms.
//
// Labels are bounded. They carry names from the configuration (region, service)
// and from fixed lists (reason, phase, state, type, class, path); never a
// caller's words. Services beyond MaxServices are summed under OtherServices,
// and a histogram has no label for the service.
//
// All methods may be called from any goroutine. A Reading that fails makes the
// question fail with 500, never a half answer. The gateway serves the Handler on
// its API socket and, if it is told to, on a loopback address; docs/metrics.md
// lists every metric and is written from the registry.
package metrics
