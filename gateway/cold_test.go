package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/polder/polder/gateway/activator"
)

// TestColdPhasesSum: rounded to microseconds, the phases still sum to the total.
func TestColdPhasesSum(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		took := func(name string) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(rt, name))
		}
		p := activator.Phases{
			Queued: took("queued"), Decided: took("decided"), Started: took("started"), Listening: took("listening"),
			Ready: took("ready"), Published: took("published"), Forwarded: took("forwarded"), FirstByte: took("first byte"),
		}
		c := coldRequest(activator.ColdRequest{Phases: p})
		var sum int64
		for i, phase := range c.Phases {
			sum += phase.Took
			exact := p.Steps()[i].Took
			if off := time.Duration(phase.Took)*time.Microsecond - exact; phase.Took < 0 || off.Abs() >= time.Microsecond {
				rt.Fatalf("%s took %v, and is told as %d µs", phase.Phase, exact, phase.Took)
			}
		}
		if sum != c.Total || c.Total != p.Total().Microseconds() {
			rt.Fatalf("phases sum to %d µs, the total is %d µs of %v", sum, c.Total, p.Total())
		}
	})
}

// remembered is a region that remembers some cold requests, and nothing else.
type remembered struct {
	apiSource // nil: nothing else is asked
	cold      []activator.ColdRequest
}

func (r remembered) Cold(q ColdQuery) []ColdRequest { return choose(r.cold, q) }

func TestColdAPI(t *testing.T) {
	handler := api(remembered{cold: []activator.ColdRequest{
		{ID: "d", Service: "billing"}, {ID: "c", Service: "catalog", Reason: activator.StartFailed, Cause: "exit 3"},
		{ID: "b", Service: "billing"}, {ID: "a", Service: "billing"},
	}}, http.NotFoundHandler())
	for query, want := range map[string]string{
		"":                         "dcba",
		"?id=c":                    "c",
		"?service=billing":         "dba",
		"?service=billing&limit=2": "db",
		"?id=nobody":               "",
		"?id=c&service=billing":    "",
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/cold"+query, nil))
		var requests []ColdRequest
		if err := json.Unmarshal(w.Body.Bytes(), &requests); err != nil || requests == nil {
			t.Errorf("%q: %v: %s", query, err, w.Body)
		}
		got := ""
		for _, r := range requests {
			got += r.ID
		}
		if got != want {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=513", "?limit=all"} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/cold"+query, nil))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d, want 400", query, w.Code)
		}
	}
}
