package main

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/polder/polder/gateway"
)

// TestWhyAtTheBerth calls sleeping services whose programs inherit their sockets.
// Their requests never pass Polder. It knows the start that they waited for, its
// phases and its reason, of every service; and where the policy permits a line for
// each request, it finds each by its identifier, with phases that sum to what
// Envoy says of it.
func TestWhyAtTheBerth(t *testing.T) {
	u := newFleet(t, inheriting)
	text, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	before, after, _ := strings.Cut(string(text), "crowded.example.com]\n    residency: { allow: [fr] }")
	u.write(before + "crowded.example.com]\n    residency: { allow: [fr], telemetry: { access-log: allowed } }" + after)
	u.start()
	for _, service := range []string{"slow", "crowded"} {
		id := u.requestID(t, service+".example.com", http.StatusOK)
		var wake, request gateway.ColdRequest
		eventually(t, "the wake of "+service+" is remembered", func() bool {
			for _, r := range u.why(t, service).Requests {
				switch {
				case r.Berth && r.ID == "":
					wake = r
				case r.Berth && r.ID == id:
					request = r
				}
			}
			return wake.Instance != "" && (service == "slow" || request.Instance != "")
		})
		wantPhases(t, wake)
		if took := phase(wake, "listening") + phase(wake, "ready"); took < 500_000 || !strings.Contains(wake.Why, "start") {
			t.Errorf("the program needs a second, and its wake %+v says otherwise", wake)
		}
		wantText(t, u, service, "at the socket", string(wake.Instance))
		if service == "slow" {
			continue // its policy permits no line of a request
		}
		wantPhases(t, request)
		if request.Instance != wake.Instance || request.Status != http.StatusOK || request.Total < phase(request, "ready") || phase(request, "ready")+phase(request, "listening") < 500_000 {
			t.Errorf("the request is remembered as %+v, its wake as %+v", request, wake)
		}
		wantText(t, u, id, "200 by the instance, at whose inherited socket it waited", "first-byte")
		warm := u.requestID(t, service+".example.com", http.StatusOK)
		if code, _, _ := run(t, "why", warm, "--state", u.state); code != exitNotThere {
			t.Errorf("a warm request is remembered: exit code %d", code)
		}
	}
}

// phase is the length of one of a request's phases, in microseconds.
func phase(r gateway.ColdRequest, name string) int64 {
	for _, p := range r.Phases {
		if p.Phase == name {
			return p.Took
		}
	}
	return -1
}
