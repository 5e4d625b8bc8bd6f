package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/gateway/envoy"
)

// TestReplace replaces the program of a region again and again under open-loop
// load on a service that is warm, one that falls asleep all the time and one
// that is called for the first time. No caller gets an error, and neither Envoy
// nor an instance notices.
func TestReplace(t *testing.T) {
	u := startUp(t, three)
	u.want("fr", "billing.example.com", "fr")
	before := u.mustStatus("fr")
	report := u.underLoad(t, []string{"billing.example.com", "dozy.example.com", "vault.example.com"}, func() {
		last := before
		for range 3 {
			if err := syscall.Kill(last.PID, syscall.SIGUSR2); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the next program runs, with everything that ran", func() bool {
				now, err := u.status("fr")
				if err != nil || !now.Started.After(last.Started) || !now.Serving() {
					return false
				}
				last = now
				return true
			})
			u.want("fr", "vault.example.com", "fr")
		}
	})
	if report.Total.Errors > 0 {
		t.Errorf("callers got %d errors of %d: %+v", report.Total.Errors, report.Total.Sent, report.Total.Reasons)
	}
	t.Logf("%d calls; dozy was started %d times since the last replacement", report.Total.Sent, u.service("fr", "dozy").Totals.Starts)
	after := u.mustStatus("fr")
	if after.PID != before.PID || after.Envoy.PID != before.Envoy.PID || instanceOf(after, "billing") != instanceOf(before, "billing") {
		t.Errorf("pid %d, Envoy %d, billing %q became pid %d, Envoy %d, billing %q", before.PID, before.Envoy.PID, instanceOf(before, "billing"),
			after.PID, after.Envoy.PID, instanceOf(after, "billing"))
	}
	pids := u.pids()
	u.stop()
	u.wantGone(pids)
}

func instanceOf(s gateway.Status, name polder.ServiceName) polder.InstanceID {
	service, _ := find(s, name)
	if len(service.Instances) != 1 {
		return ""
	}
	return service.Instances[0].Instance
}

// TestReplaceEnvoy puts another Envoy in the place of the one that runs, and
// then replaces Polder: the old Envoy serves until its successor does, and no
// caller gets an error.
func TestReplaceEnvoy(t *testing.T) {
	u := newFleet(t, three)
	u.tools = t.TempDir()
	binary := copied(t, filepath.Join("../../.tools", "envoy-"+envoy.Version, "envoy"), filepath.Join(u.tools, "envoy-"+envoy.Version, "envoy"))
	u.start()
	u.want("fr", "billing.example.com", "fr")
	report := u.underLoad(t, []string{"billing.example.com", "dozy.example.com"}, func() {
		before := u.mustStatus("fr")
		if err := os.Chtimes(binary, time.Time{}, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(before.PID, syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another Envoy serves, and the old one is gone", func() bool {
			now, err := u.status("fr")
			return err == nil && now.Envoy.PID != before.Envoy.PID && now.Serving() && !alive(before.Envoy.PID)
		})
		u.want("fr", "dozy.example.com", "fr")
	})
	if report.Total.Errors > 0 {
		t.Errorf("callers got %d errors of %d: %+v", report.Total.Errors, report.Total.Sent, report.Total.Reasons)
	}
}

func copied(t *testing.T, from, to string) string {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, text, 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestColdRequestsOutlivePolder replaces, and kills, a region's Polder while
// callers of sleeping services are held by it and more are on their way. Whoever
// waits is answered by the next one.
func TestColdRequestsOutlivePolder(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"replaced": syscall.SIGUSR2, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			u := newFleet(t, three)
			const sleepers = 12
			text, err := os.ReadFile(u.config)
			if err != nil {
				t.Fatal(err)
			}
			samples, err := filepath.Abs("../../examples/billing")
			if err != nil {
				t.Fatal(err)
			}
			for n := range sleepers {
				text = fmt.Appendf(text, `
  sleeper-%d:
    hosts: [sleeper-%d.example.com]
    residency: { allow: [fr] }
    run: { command: [sh, -c, "sleep 0.3; exec ./bin/billing"], directory: %s }
`, n, n, samples)
			}
			u.write(string(text))
			u.start()
			before := u.mustStatus("fr")
			var callers errgroup.Group
			call := func(n int) {
				callers.Go(func() error {
					host := fmt.Sprintf("sleeper-%d.example.com", n)
					began := time.Now()
					code, _, header, err := u.call("fr", host)
					if took := time.Since(began); took > 10*time.Second {
						t.Logf("%s waited for %v", host, took)
					}
					if err == nil && code != http.StatusOK {
						err = fmt.Errorf("%d %v", code, header)
					}
					if err != nil {
						return fmt.Errorf("%s: %w", host, err)
					}
					return nil
				})
			}
			for n := range sleepers / 2 {
				call(n)
			}
			eventually(t, "all of them are held", func() bool {
				waiting, there := 0, 0
				now, err := u.status("fr")
				for _, s := range now.Services {
					if strings.HasPrefix(string(s.Service), "sleeper-") {
						waiting, there = waiting+s.Waiting, there+len(s.Instances)
					}
				}
				return err == nil && waiting+there >= sleepers/2
			})
			if err := syscall.Kill(before.PID, sig); err != nil {
				t.Fatal(err)
			}
			for n := range sleepers / 2 {
				call(sleepers/2 + n)
			}
			if err := callers.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
