package main

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	spans "go.opentelemetry.io/proto/otlp/trace/v1"
)

// TestSpansOfEnvoyAndPolderAreOneTrace: who calls a sleeping service and traces
// the call has Envoy's span below its own, Polder's below Envoy's, and the phases
// below that.
//
//  1. A warm request of a caller who traces has Envoy's span.
//  2. A caller who does not trace has none of Envoy's; of its cold request Polder
//     tells, in a trace that is called as the request is.
//  3. A caller who says that it is not sampled has none at all, and neither has
//     anybody who calls a service whose policy keeps no traces.
//  4. No span says what was asked for, or who asked.
func TestSpansOfEnvoyAndPolderAreOneTrace(t *testing.T) {
	collected := newCollector(t)
	u := startUp(t, "testdata/traces.yaml", "--traces", collected.endpoint)
	const parent = "b7ad6b7169203331"
	call := func(host, trace, flags string) string {
		header := map[string]string{}
		if trace != "" {
			header["Traceparent"] = "00-" + trace + "-" + parent + "-" + flags
		}
		response, text := u.send(t, http.MethodGet, host, "/secret?who=me", "", header)
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %s", host, response.Status, text)
		}
		return strings.ReplaceAll(response.Header.Get("x-request-id"), "-", "")
	}
	trace := func(n int) string { return fmt.Sprintf("0af7651916cd43dd8448eb2%09d", n) }

	call("untold.example.com", trace(1), "01")
	call("silent.example.com", trace(2), "00")
	own := call("alone.example.com", "", "")
	call("told.example.com", trace(3), "01") // cold
	before := u.service("fr", "told").Totals.Direct
	eventually(t, "Envoy sends requests straight to the instance", func() bool {
		call("told.example.com", trace(4), "01")
		return u.service("fr", "told").Totals.Direct > before
	})

	eventually(t, "a cold request's spans are one trace", func() bool {
		envoys := spansBelow(collected.of(trace(3)), "request", parent)
		if len(envoys) != 1 {
			return false
		}
		polders := spansBelow(collected.of(trace(3)), "cold request", hex.EncodeToString(envoys[0].SpanId))
		return len(polders) == 1 && len(spansBelow(collected.of(trace(3)), "ready", hex.EncodeToString(polders[0].SpanId))) == 1
	})
	eventually(t, "a warm request's span is Envoy's", func() bool { return len(spansBelow(collected.of(trace(4)), "request", parent)) > 0 })
	eventually(t, "a caller who does not trace has Polder's spans", func() bool { return len(spansBelow(collected.of(own), "cold request", "")) == 1 })
	if got := spansBelow(collected.of(own), "request", ""); len(got) > 0 {
		t.Errorf("Envoy traces a request that nobody traces: %v", got)
	}
	for _, n := range []int{1, 2} {
		if got := collected.of(trace(n)); len(got) > 0 {
			t.Errorf("trace %d is told: %v", n, got)
		}
	}
	for _, s := range append(collected.of(trace(3)), collected.of(trace(4))...) {
		if text := s.String(); strings.Contains(text, "secret") || strings.Contains(text, "127.0.0.1") || strings.Contains(text, "Go-http-client") {
			t.Errorf("a span tells too much: %s", text)
		}
	}
}

// spansBelow are the spans of that name and parent.
func spansBelow(all []*spans.Span, name, parent string) (found []*spans.Span) {
	for _, s := range all {
		if s.Name == name && hex.EncodeToString(s.ParentSpanId) == parent {
			found = append(found, s)
		}
	}
	return found
}
