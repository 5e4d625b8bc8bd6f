package activator

import (
	"net/http"
	"testing"
)

// TestTraceOf: a request is in the trace that its caller names, or in the one that
// Envoy has made a span of; what Envoy only writes because it must is no trace.
func TestTraceOf(t *testing.T) {
	const sampled, unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	for _, c := range []struct{ header, said, want, why string }{
		{"", "", "", "nobody says anything"},
		{sampled, "", sampled, "the caller's, past an Envoy that does not trace"},
		{unsampled, "", unsampled, "the caller's refusal, past an Envoy that does not trace"},
		{unsampled, "caller=", "", "Envoy's, which makes no span"},
		{sampled, "caller=", sampled, "Envoy's span"},
		{sampled, "caller=" + sampled, sampled, "Envoy's span below the caller's"},
		{unsampled, "caller=" + unsampled, unsampled, "the caller's refusal"},
		{unsampled, "caller=nonsense", "", "a caller who says nothing that counts"},
		{"nonsense", "caller=", "", "no trace"},
	} {
		h := http.Header{}
		if c.header != "" {
			h.Set("Traceparent", c.header)
		}
		if c.said != "" {
			h.Set("X-Polder-Trace", c.said)
		}
		if got := traceOf(h); got != c.want {
			t.Errorf("traceparent %q, %q: %q, want %q: %s", c.header, c.said, got, c.want, c.why)
		}
	}
}
