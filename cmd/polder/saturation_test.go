package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/activator"
)

// TestSaturation calls services, on a real Envoy, more often than they take:
//
//  1. Five times as many callers of a sleeping service as all of its instances
//     take: each is answered by an instance, no instance is ever given more than
//     it takes, and as many are started as may be.
//  2. As many callers of the warm service, again and again: nothing fails, new
//     requests wait, and from then on no instance has more than it takes. Status,
//     why and metrics tell so.
//  3. Who finds the budget for waiting used up, or has waited as long as it says,
//     is refused with the reason and when to come again. The configuration says
//     how much that is, without a restart.
//  4. When the load is gone Envoy sends requests to the instances directly again.
func TestSaturation(t *testing.T) {
	u := startUp(t, "testdata/saturated.yaml")
	const callers = 40 // two instances take four each
	for _, a := range u.atOnce(callers, "narrow.example.com", "/work?for=100ms") {
		if a.status != http.StatusOK || a.body > "4" || len(a.body) != 1 {
			t.Fatalf("a burst from cold: got %+v", a)
		}
	}
	if got := u.service("fr", "narrow"); got.Totals.Starts != 2 || len(got.Instances) != 2 {
		t.Errorf("five times the capacity of two instances, and %d were started", got.Totals.Starts)
	}

	var now gateway.ServiceStatus
	eventually(t, "callers of busy instances wait", func() bool {
		round := u.atOnce(callers, "narrow.example.com", "/work?for=100ms")
		orderly := true
		for _, a := range round {
			if a.status != http.StatusOK {
				t.Fatalf("a burst of a warm service: got %+v", a)
			}
			orderly = orderly && a.body <= "4"
		}
		now = u.service("fr", "narrow")
		return orderly && now.Saturated != "" && now.Totals.Saturated > 0
	})
	var remembered []gateway.ColdRequest
	for _, r := range u.why(t, "narrow").Requests {
		if r.Class == activator.Saturation {
			remembered = append(remembered, r)
			wantPhases(t, r)
		}
	}
	if len(remembered) == 0 {
		t.Errorf("nobody is remembered to have waited for a busy instance")
	} else {
		wantText(t, u, remembered[0].ID, "200 by the instance, when it had room: all instances were busy")
	}
	if text := u.metrics(t); !strings.Contains(text, `polder_requests_saturated_total{peer="fr-1",region="fr",service="narrow"} `+fmt.Sprint(u.service("fr", "narrow").Totals.Saturated)+"\n") {
		t.Errorf("the metrics do not tell how many waited: %s", text)
	}

	u.editHold(t, "{ requests: 20, per-service: 8, wait: 3s }", `polder_held_requests_limit{class="saturated",peer="fr-1",region="fr"} 20`+"\n")
	if a := u.atOnce(1, "single.example.com", "/")[0]; a.status != http.StatusOK {
		t.Fatalf("single: got %+v", a)
	}
	stay := u.open(t, "single.example.com", "GET /stay HTTP/1.1\r\n", http.StatusOK)
	eventually(t, "the only instance is busy", func() bool { return u.service("fr", "single").Saturated != "" })
	reasons := map[activator.Reason]int{}
	for _, a := range u.atOnce(20, "single.example.com", "/") {
		reasons[activator.Reason(a.header.Get("x-polder-reason"))]++
		if a.status != http.StatusServiceUnavailable || a.header.Get("retry-after") == "" {
			t.Errorf("more than may wait: got %+v", a)
		}
	}
	if reasons[activator.ActivatorFull] == 0 || reasons[activator.Saturated] == 0 || reasons[activator.ActivatorFull]+reasons[activator.Saturated] != 20 {
		t.Errorf("refused because of %v", reasons)
	}
	stay.Close()
	eventually(t, "who stayed has left", func() bool {
		return u.atOnce(1, "single.example.com", "/")[0].status == http.StatusOK
	})

	eventually(t, "Envoy sends requests to the instances again", func() bool {
		return u.service("fr", "narrow").Saturated == "" && u.service("fr", "single").Saturated == ""
	})
	before := u.service("fr", "narrow").Totals.Direct
	eventually(t, "they are seen in the load reports", func() bool {
		u.atOnce(1, "narrow.example.com", "/work")
		return u.service("fr", "narrow").Totals.Direct > before
	})
}

// answered is one answer, or why there is none.
type answered struct {
	status int
	header http.Header
	body   string
	err    error
}

// atOnce sends so many requests at the same time.
func (u *fleetUnderTest) atOnce(n int, host, path string) []answered {
	u.t.Helper()
	_, port, _ := net.SplitHostPort(u.listen["fr"].HTTPS)
	list := make([]answered, n)
	var all sync.WaitGroup
	for i := range list {
		all.Go(func() {
			response, err := u.http.Get("https://" + host + ":" + port + path)
			if err != nil {
				list[i].err = err
				return
			}
			defer response.Body.Close()
			text, err := io.ReadAll(response.Body)
			list[i] = answered{response.StatusCode, response.Header, string(text), err}
		})
	}
	all.Wait()
	return list
}

// editHold changes what fr may hold for busy services, and waits until a metric
// says that it is in force.
func (u *fleetUnderTest) editHold(t *testing.T, saturated, metric string) {
	t.Helper()
	text, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), "saturated: {")
	_, after, ok2 := strings.Cut(rest, "}")
	if !ok || !ok2 {
		t.Fatal("the configuration holds nothing")
	}
	u.write(before + "saturated: " + saturated + after)
	eventually(t, metric, func() bool { return strings.Contains(u.metrics(t), metric) })
}
