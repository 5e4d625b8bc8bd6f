package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/activator"
)

const one = "testdata/one.yaml"

// TestWhy asks why about real requests:
//
//  1. One that woke a service: where it went, phases that sum to its total, the
//     decision that started the instance.
//  2. One that found it awake, and a word that is neither request nor service.
//  3. One whose service cannot start: the reason that the caller got, and the
//     cause that only the operator gets.
//  4. A service: its cold requests, the latest first, and the present decision.
func TestWhy(t *testing.T) {
	u := startUp(t, one)
	first := u.requestID(t, "sleepy.example.com", http.StatusOK)
	warm := u.requestID(t, "sleepy.example.com", http.StatusOK) // at once: it falls asleep after some seconds
	cold := u.why(t, first)
	if len(cold.Requests) != 1 {
		t.Fatalf("%d requests have the ID %s", len(cold.Requests), first)
	}
	r := cold.Requests[0]
	wantPhases(t, r)
	if r.Service != "sleepy" || r.Region != "fr" || !strings.HasPrefix(string(r.Instance), "sleepy-") || r.Status != http.StatusOK ||
		r.Reason != "" || !strings.Contains(r.Why, "1 request in progress or waiting") {
		t.Errorf("the request that woke sleepy: %+v", r)
	}
	wantText(t, u, first, "instance "+string(r.Instance), "200 by the instance", r.Why, "queued", "first-byte", "█", "NOW")

	for _, asked := range []string{warm, "nonsense"} {
		if code, out, errs := run(t, "why", asked, "--state", u.state); code != exitNotThere || out != "" || !strings.Contains(errs, "straight to a ready instance") {
			t.Errorf("why %s: exit code %d, %s%s", asked, code, out, errs)
		}
	}

	refused := u.requestID(t, "broken.example.com", http.StatusServiceUnavailable)
	r = u.why(t, refused).Requests[0]
	wantPhases(t, r)
	if r.Reason != activator.StartFailed && r.Reason != activator.CrashLoop || r.Instance != "" || !strings.Contains(r.Cause, "exited with code 3") {
		t.Errorf("the request for broken: %+v", r)
	}
	wantText(t, u, refused, "to no instance", "503, "+string(r.Reason), "exited with code 3", "polder logs broken")

	eventually(t, "sleepy has fallen asleep", func() bool { return len(u.service("fr", "sleepy").Instances) == 0 })
	second := u.requestID(t, "sleepy.example.com", http.StatusOK)
	service := u.why(t, "sleepy")
	if n := len(service.Requests); n != 2 || service.Requests[0].ID != second || service.Requests[1].ID != first {
		t.Errorf("why sleepy tells of %d requests: %+v", n, service.Requests)
	}
	if len(service.Services) != 1 || service.Services[0].Region != "fr" || service.Services[0].Decision == "" {
		t.Errorf("why sleepy, now: %+v", service.Services)
	}
	eventually(t, "polder why tells what keeps sleepy warm, once the answered request no longer does", func() bool {
		code, out, _ := run(t, "why", "sleepy", "--state", u.state)
		return code == exitDone && strings.Contains(out, first) && strings.Contains(out, second) && strings.Contains(out, "scale.keep-alive is 3s")
	})
	u.wantMetrics(t, r.Reason)
}

// wantMetrics holds the region's metrics to what the calls above must have done;
// one of them failed, for that reason.
func (u *fleetUnderTest) wantMetrics(t *testing.T, failed activator.Reason) {
	t.Helper()
	const labels = `peer="fr-1",region="fr"`
	var text string
	wants := []string{
		`polder_cold_request_duration_seconds_count{outcome="answered",peer="fr-1",reason="none",region="fr"` + `} 2`,
		`polder_cold_request_duration_seconds_count{outcome="failed",peer="fr-1",reason="` + string(failed) + `",region="fr"` + `} 1`,
		`polder_cold_request_phase_seconds_count{` + labels[:len(`peer="fr-1"`)] + `,phase="ready",region="fr"} 2`,
		`polder_instance_starts_total{` + labels + `,service="sleepy"} 2`,
		`polder_requests_cold_total{` + labels + `,service="sleepy"} 2`,
		`polder_requests_failed_total{` + labels + `,service="sleepy"} 0`,
		`polder_nodes{` + labels + `} 1`,
		`polder_xds_rejections_total{` + labels + `,type="Cluster"} 0`,
	}
	defer func() {
		for _, line := range wants {
			if !strings.Contains(text, line+"\n") {
				t.Errorf("no line %s", line)
			}
		}
		if t.Failed() {
			t.Log(text)
		}
	}()
	eventually(t, "the metrics tell of the calls: "+strings.Join(wants, ", "), func() bool {
		text = u.metrics(t)
		return !slices.ContainsFunc(wants, func(line string) bool { return !strings.Contains(text, line+"\n") })
	})
}

// metrics are those of fr.
func (u *fleetUnderTest) metrics(t *testing.T) string {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", u.layout("fr").API())
		}}}
	response, err := client.Get("http://polder/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// requestID calls a host and returns the x-request-id of the answer.
func (u *fleetUnderTest) requestID(t *testing.T, host string, want int) string {
	t.Helper()
	code, _, header, err := u.call("fr", host)
	if err != nil || code != want || header.Get("x-request-id") == "" {
		t.Fatalf("%s: %d, %v, headers %v; want %d with x-request-id", host, code, err, header, want)
	}
	return header.Get("x-request-id")
}

func (u *fleetUnderTest) why(t *testing.T, asked string) whyAnswer {
	t.Helper()
	code, out, errs := run(t, "why", asked, "--state", u.state, "--output", "json")
	if code != exitDone {
		t.Fatalf("why %s: exit code %d\n%s%s", asked, code, out, errs)
	}
	var a whyAnswer
	strict(t, out, &a)
	return a
}

func wantPhases(t *testing.T, r gateway.ColdRequest) {
	t.Helper()
	var sum int64
	for _, p := range r.Phases {
		sum += p.Took
	}
	if len(r.Phases) != 8 || sum != r.Total || r.Total <= 0 {
		t.Errorf("phases of %s sum to %d µs of %d: %+v", r.ID, sum, r.Total, r.Phases)
	}
}

func wantText(t *testing.T, u *fleetUnderTest, asked string, says ...string) {
	t.Helper()
	code, out, errs := run(t, "why", asked, "--state", u.state)
	for _, s := range says {
		if code != exitDone || !strings.Contains(out, s) {
			t.Errorf("why %s: exit code %d, want %q in\n%s%s", asked, code, s, out, errs)
		}
	}
}
