package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/polder/polder"
)

const inheriting = "testdata/berths.yaml"

// asleep waits until a service has no instance.
func (u *fleetUnderTest) asleep(service polder.ServiceName) {
	u.t.Helper()
	eventually(u.t, string(service)+" sleeps", func() bool { return len(u.service("fr", service).Instances) == 0 })
}

// TestInheritedSocket: a service whose program inherits its socket is reached
// without a hop even when it sleeps, and its callers wait in the kernel.
func TestInheritedSocket(t *testing.T) {
	u := startUp(t, inheriting)
	// Envoy leaves out what a cluster did before the first report that knows it.
	eventually(t, "the load reports know the cluster", func() bool {
		u.want("fr", "berth.example.com", "fr")
		return u.service("fr", "berth").Totals.Requests > 0
	})
	u.asleep("berth")
	before := u.service("fr", "berth").Totals
	u.want("fr", "berth.example.com", "fr")
	eventually(t, "the load reports tell of the call", func() bool { return u.service("fr", "berth").Totals.Requests > before.Requests })
	after := u.service("fr", "berth").Totals
	if after.Starts != before.Starts+1 || after.Direct != before.Direct+1 || after.Activated != before.Activated || after.Cold > before.Cold+1 {
		t.Errorf("a call to a sleeping service: %+v became %+v; want one start and one direct request, cold unless its ClientHello was early enough", before, after)
	}

	t.Run("a crowd wakes it once", func(t *testing.T) {
		var callers errgroup.Group
		for range 60 {
			callers.Go(func() error {
				code, _, header, err := u.call("fr", "crowded.example.com")
				if err == nil && code != http.StatusOK {
					err = fmt.Errorf("%d %v", code, header)
				}
				return err
			})
		}
		if err := callers.Wait(); err != nil {
			t.Error(err)
		}
		if totals := u.service("fr", "crowded").Totals; totals.Starts != 1 {
			t.Errorf("%+v, want one start", totals)
		}
	})

	t.Run("one that does not start is refused with a reason", func(t *testing.T) {
		for range 3 {
			code, _, header, err := u.call("fr", "broken.example.com")
			if err != nil || code != http.StatusServiceUnavailable || header.Get("x-polder-reason") == "" || header.Get("retry-after") == "" {
				t.Errorf("broken: got %d, %v, headers %v; want a labelled 503 with retry-after", code, err, header)
			}
		}
	})

	t.Run("outlives a crash of Polder", func(t *testing.T) {
		u.asleep("slow")
		eventually(t, "Envoy has a berth", func() bool { return u.berthOf("slow") != "" })
		address := u.berthOf("slow")
		var callers errgroup.Group
		call := func() error {
			code, _, header, err := u.call("fr", "slow.example.com")
			if err == nil && code != http.StatusOK {
				err = fmt.Errorf("%d %v", code, header)
			}
			return err
		}
		callers.Go(call)
		eventually(t, "it starts", func() bool { return len(u.service("fr", "slow").Instances) > 0 })
		old := u.mustStatus("fr").PID
		u.kill(old)
		for range 10 {
			callers.Go(call)
		}
		if err := callers.Wait(); err != nil {
			t.Error(err)
		}
		eventually(t, "the next Polder runs", func() bool { s, err := u.status("fr"); return err == nil && s.PID != old && s.Serving() })
		u.asleep("slow")
		eventually(t, "Envoy has the berth at "+address, func() bool { return u.berthOf("slow") == address })
	})
}

// berthOf is where Envoy sends the service's requests.
func (u *fleetUnderTest) berthOf(service string) string {
	u.t.Helper()
	for line := range strings.Lines(u.envoy("fr", "/clusters?filter="+service)) {
		if name, rest, ok := strings.Cut(strings.TrimSpace(line), "::"); ok && strings.Contains(name, service) && strings.HasPrefix(rest, "127.0.0.1:") {
			address, _, _ := strings.Cut(rest, "::")
			return address
		}
	}
	return ""
}

// TestCycles: services fall asleep, or are paused, and wake all the time while callers come at
// every moment of it. None gets an error.
func TestCycles(t *testing.T) {
	u := startUp(t, inheriting)
	report := u.underLoadAt(t, 0.35, []string{"berth.example.com", "port.example.com", "slow.example.com", "pauses.example.com", "pauses-at-berth.example.com"}, func() {
		eventually(t, "each has slept and woken", func() bool {
			for _, name := range []polder.ServiceName{"berth", "port", "slow"} {
				if u.service("fr", name).Totals.Starts < 3 {
					return false
				}
			}
			return u.service("fr", "pauses").Totals.Resumes >= 3 && u.service("fr", "pauses-at-berth").Totals.Resumes >= 3
		})
	})
	if report.Total.Errors > 0 {
		t.Errorf("callers got %d errors of %d: %+v", report.Total.Errors, report.Total.Sent, report.Total.Reasons)
	}
	for _, name := range []polder.ServiceName{"berth", "port", "slow", "pauses", "pauses-at-berth"} {
		totals := u.service("fr", name).Totals
		t.Logf("%s: %+v", name, totals)
		if totals.Crashes > 0 || totals.Failed > 0 {
			t.Errorf("%s: %+v", name, totals)
		}
	}
}
