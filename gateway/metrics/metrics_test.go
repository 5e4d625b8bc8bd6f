package metrics

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/polder/polder"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew; read the diff before you commit it")

const page = "../../docs/metrics.md"

// full has a value for every metric.
func full(context.Context) (Reading, error) {
	return Reading{
		Services: []Service{{Name: "billing", Direct: 7, Activated: 2, Failed: 1, Cold: 2, Unanswered: map[string]uint64{"start-failed": 1}, Brief: map[string]uint64{"accepted": 4},
			Starts: 3, Crashes: 1, Open: 4, Waiting: 5, Starting: 1, Ready: 2, Draining: 3,
			Scored: []Scored{{Policy: "acting", Active: 9, Cold: 2, Warm: 600, Idle: 60, Starts: 2, Cost: 12}}}},
		Holding:   []Holding{{Class: "cold", Requests: 5, MaxRequests: 4096, HeldBytes: 1 << 20, MaxBytes: 1 << 28}},
		Forwarded: 1, Discovery: []Discovery{{Type: "Cluster", Pushed: 3, Accepted: 2, Rejected: 1}}, Rejected: 1, Nodes: 1, Restarts: 2,
		Peers: []Peers{{Region: "nl", Healthy: 2, Unhealthy: 1}}, Gossip: Gossip{Packets: 9, Bytes: 900, Dropped: map[string]uint64{"malformed": 1}},
		Faults: 1, Loaded: time.Unix(1_700_000_000, 0),
		DNS: DNS{Queries: map[string]uint64{"udp": 5}, Answers: map[string]uint64{"NXDOMAIN": 1}, Truncated: 1, Limited: map[string]uint64{"tcp": 2},
			Malformed: 1, Wakes: map[string]uint64{"heard": 3}},
	}, nil
}

func newMetrics(t *testing.T, read func(context.Context) (Reading, error)) *Metrics {
	t.Helper()
	m, err := New(Options{Region: "fr", Peer: "fr-1", Version: "v1.2.3", Read: read})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func ask(m *Metrics) (int, string) {
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Code, w.Body.String()
}

func TestMetricsTellTheReading(t *testing.T) {
	m := newMetrics(t, full)
	m.Cold(30*time.Millisecond, "", []Phase{{"ready", 20 * time.Millisecond}, {"first-byte", 10 * time.Millisecond}})
	m.Cold(time.Second, "start-failed", []Phase{{"ready", time.Second}})
	code, text := ask(m)
	for _, want := range []string{
		`polder_requests_total{path="direct",peer="fr-1",region="fr",service="billing"} 7`,
		`polder_requests_total{path="activator",peer="fr-1",region="fr",service="billing"} 2`,
		`polder_requests_unanswered_total{peer="fr-1",reason="start-failed",region="fr",service="billing"} 1`,
		`polder_instances{peer="fr-1",region="fr",service="billing",state="draining"} 3`,
		`polder_held_memory_limit_bytes{class="cold",peer="fr-1",region="fr"} 2.68435456e+08`,
		`polder_xds_rejections_total{peer="fr-1",region="fr",type="Cluster"} 1`,
		`polder_peers{health="unhealthy",peer="fr-1",peer_region="nl",region="fr"} 1`,
		`polder_config_loaded_seconds{peer="fr-1",region="fr"} 1.7e+09`,
		`polder_cold_request_duration_seconds_count{outcome="answered",peer="fr-1",reason="none",region="fr"} 1`,
		`polder_cold_request_duration_seconds_bucket{outcome="failed",peer="fr-1",reason="start-failed",region="fr",le="0.5"} 0`,
		`polder_cold_request_phase_seconds_sum{peer="fr-1",phase="ready",region="fr"} 0.02`,
	} {
		if code != http.StatusOK || !strings.Contains(text, want+"\n") {
			t.Errorf("%d, want the line %s", code, want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestNoHalfAnswer(t *testing.T) {
	m := newMetrics(t, func(context.Context) (Reading, error) { return Reading{}, errors.New("the region stops") })
	if code, text := ask(m); code != http.StatusInternalServerError || !strings.Contains(text, "the region stops") {
		t.Errorf("%d %s, want 500 and why", code, text)
	}
}

// TestLabelsAreBounded asks about more services than may have labels.
func TestLabelsAreBounded(t *testing.T) {
	const beyond = 3
	m := newMetrics(t, func(context.Context) (Reading, error) {
		var r Reading
		for i := range MaxServices + beyond {
			r.Services = append(r.Services, Service{
				Name: polder.ServiceName(fmt.Sprintf("s%05d", i)), Direct: 10, Ready: 1, Unanswered: map[string]uint64{"saturated": 2}, Brief: map[string]uint64{"page": 1}})
		}
		slices.Reverse(r.Services)
		return r, nil
	})
	_, text := ask(m)
	for _, want := range []string{
		`polder_requests_total{path="direct",peer="fr-1",region="fr",service="_others"} 30`,
		`polder_requests_unanswered_total{peer="fr-1",reason="saturated",region="fr",service="_others"} 6`,
		`polder_requests_told_total{answer="page",peer="fr-1",region="fr",service="_others"} 3`,
		`polder_requests_total{path="direct",peer="fr-1",region="fr",service="s01999"} 10`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("want the line %s", want)
		}
	}
	if strings.Contains(text, `service="s02000"`) || strings.Contains(text, "overflow") {
		t.Error("a service beyond the bound has labels of its own, or the library dropped some")
	}
	if n := strings.Count(text, "\npolder_instances{"); n != 4*(MaxServices+1) {
		t.Errorf("polder_instances has %d series", n)
	}
}

// TestGoldenPage keeps docs/metrics.md what the registry has.
func TestGoldenPage(t *testing.T) {
	m := newMetrics(t, full)
	m.Cold(time.Second, "", []Phase{{"ready", time.Second}})
	m.reading, _ = full(t.Context())
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := markdown(families)
	if *update {
		if err := os.WriteFile(page, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what the registry has: run make golden and read the diff", page)
	}
	if want := len(catalogue(Options{})) + 2; len(families) != want {
		t.Errorf("%d metrics have a value, %d exist", len(families), want)
	}
}

func markdown(families []*dto.MetricFamily) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<!-- Generated from the registry by `+"`make golden`"+`; do not edit. -->
# Metrics

Every region serves its metrics in Prometheus' format on its API socket, for the owner only, and on a loopback address if it is told to:

`+"```sh"+`
curl --unix-socket .polder/regions/fr/run/api.sock http://polder/metrics
polder run --region fr --metrics 127.0.0.1:9464
`+"```"+`

All have the labels `+"`region` and `peer`"+` of the Polder that tells them. Counters count since that Polder started. Labels carry names of the configuration and of fixed
lists only. The first %d services by name have labels of their own, the others are summed as `+"`service=%q`"+`. Requests are counted by Envoy's load reports, once a second.

| metric | | labels | |
| --- | --- | --- | --- |
`, MaxServices, OtherServices)
	for _, f := range families {
		var labels []string
		for _, l := range f.Metric[0].Label {
			if l.GetName() != "region" && l.GetName() != "peer" {
				labels = append(labels, "`"+l.GetName()+"`")
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	return b.String()
}
