package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polder/polder/bench/cold"
	"github.com/polder/polder/bench/live"
)

// TestBenchCold runs every part of the cold-start benchmark, a little of each,
// and holds it to what does not depend on the machine: nobody gets an error, and
// a sleeper is started once however many callers it has.
func TestBenchCold(t *testing.T) {
	page := filepath.Join(t.TempDir(), "cold.html")
	code, out, errs := run(t, "bench", "cold", "--programs", "go,go-inherit", "--rounds", "2", "--rtt", "0s,5ms", "--hellos", "1", "--warm", "500",
		"--callers", "120", "--sleepers", "4", "--cycles", "20", "--samples", "../../examples", "--sleeper", "../../examples/billing/bin/billing",
		"--tools", "../../.tools", "--output", "json", "--html", page)
	if code != exitDone {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	var r cold.Report
	strict(t, out, &r)
	if len(r.Starts) != 2 || len(r.Hellos) != 4 || len(r.Crowds) != 5 || r.Warm == nil {
		t.Fatalf("not all was measured: %s", out)
	}
	for _, s := range r.Starts {
		if s.Samples == 0 || s.Bare.P50 <= 0 || s.Through.P50 <= 0 || s.Outside.P50 <= 0 {
			t.Errorf("%+v", s)
		}
	}
	if w := r.Warm; w.Requests != 500 || len(w.Turns) != 2 || w.Polder <= 0 || w.Bare <= 0 {
		t.Errorf("warm requests: %+v", w)
	}
	for _, c := range r.Crowds {
		if c.Answered == 0 || c.Failed != 0 || c.Crashes != 0 || c.Starts > c.Wakes {
			t.Errorf("%+v", c)
		}
	}
	burst, many, late := r.Crowds[0], r.Crowds[1], r.Crowds[2]
	if burst.Answered != 120 || burst.Starts != 1 {
		t.Errorf("callers of one sleeper: %+v", burst)
	}
	if many.Answered != 4 || many.Starts != 4 || late.Answered != 10 || late.Starts != 10 {
		t.Errorf("sleepers at once: %+v, %+v", many, late)
	}
	if port, inherited := r.Crowds[3], r.Crowds[4]; port.Starts+inherited.Starts < 20 {
		t.Errorf("sleep and wake: %+v, %+v", port, inherited)
	}
	if text, err := os.ReadFile(page); err != nil || strings.Count(string(text), "<svg") != 4 {
		t.Errorf("page: %v", err)
	}
}

// TestBenchLive replays half an hour of a synthetic trace over two real regions,
// and holds it to what does not depend on the machine: both sides count the same
// minutes, nobody gets an error, and what callers call cold the regions do too.
func TestBenchLive(t *testing.T) {
	page := filepath.Join(t.TempDir(), "live.html")
	code, out, errs := run(t, "bench", "live", "--functions", "8", "--regions", "2", "--from", "100", "--to", "116", "--lead-in", "6", "--keep-alive", "4m",
		"--speed", "60", "--within", "1000", "--sleeper", "../../examples/billing/bin/billing", "--tools", "../../.tools", "--output", "json", "--html", page)
	if code != exitDone {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	var r live.Report
	strict(t, out, &r)
	if r.Trace != "synthetic" || r.Functions != 8 || r.Regions != 2 || len(r.Policies) != 2 {
		t.Fatalf("not what was asked for: %s", out)
	}
	fixed, auto := r.Policies[0], r.Policies[1]
	if fixed.Active == 0 || fixed.Active != auto.Active {
		t.Errorf("%d and %d minutes with calls", fixed.Active, auto.Active)
	}
	for _, p := range r.Policies {
		if p.Both+p.OnlySimulated != p.Simulated.Cold || p.Both+p.OnlyMeasured != p.Measured.Cold || len(p.MeasuredBy) != 16 || p.MeasuredBy[15] != p.Measured.Cold {
			t.Errorf("%+v", p)
		}
	}
	if r.Failed > 0 || r.Cold == 0 || uint64(r.Cold) > r.Counted {
		t.Errorf("%d failed; %d cold as callers saw, %d as the regions count: %v", r.Failed, r.Cold, r.Counted, r.Faults)
	}
	if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), "<svg") {
		t.Errorf("page: %v", err)
	}
}
