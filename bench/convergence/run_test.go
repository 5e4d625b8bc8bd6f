package convergence

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRun measures both shapes with few services on the real Envoy: every
// change is acknowledged and seen, and every figure is there.
func TestRun(t *testing.T) {
	o := DefaultOptions()
	o.Services, o.Changes, o.Envoys, o.FanOut, o.Tools = []int{2, 6}, 5, 4, 10, "../../.tools"
	var lines []string
	o.Progress = func(format string, _ ...any) { lines = append(lines, format) }
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Points) != 4 || len(report.Ratios) != 12 {
		t.Fatalf("%d points and %d ratios, want 4 and 12", len(report.Points), len(report.Ratios))
	}
	for _, p := range report.Points {
		if p.ColdStart <= 0 || p.EnvoyResident <= 0 || p.EnvoyAllocated <= 0 {
			t.Errorf("%s, %d services: figures are missing: %+v", p.Shape, p.Services, p)
		}
		for _, c := range p.Changes {
			unseen := slices.Contains([]string{"removed", "passed", "shut", "home"}, c.Kind)
			if c.Count != o.Changes || c.ToACK.P50 <= 0 || unseen != (c.ToEffect.P50 == 0) || c.Bytes <= 0 || c.BytesDown > c.Bytes || c.EnvoyCPU > c.EnvoyAllCPU {
				t.Errorf("%s, %d services, %s: figures are missing or do not add up: %+v", p.Shape, p.Services, c.Kind, c)
			}
		}
	}
	// Bytes do not depend on the machine: one service's endpoints are all that is sent.
	if small, large := report.Points[0].Changes[0], report.Points[2].Changes[0]; large.Bytes > small.Bytes*1.05 || large.Bytes > 1_000 {
		t.Errorf("a change of endpoints takes %.0f bytes with 2 services and %.0f with 6", small.Bytes, large.Bytes)
	}
	checkFlat(t, report.Points[0], report.Points[2])
	if f := report.FanOut; f == nil || f.Envoys != 4 || f.ToACK.P50 <= 0 || f.Bytes <= 0 {
		t.Errorf("fan-out: %+v", f)
	}
	if len(lines) == 0 {
		t.Error("no progress was told")
	}
	checkWriters(t, report)
}

// checkFlat holds what does not depend on the machine: what changes of hosts send, however
// many there are, and that a name which nobody owns is asked of nobody and not kept.
func checkFlat(t *testing.T, small, large Point) {
	t.Helper()
	most := map[string]float64{"route": 1_000, "host": 3_000, "removed": 1_000, "passed": 600, "permitted": 5_000, "shut": 3_000, "home": 1_500}
	for i, c := range large.Changes {
		limit, flat := most[c.Kind]
		if flat && (c.Bytes > small.Changes[i].Bytes*1.05 || c.Bytes > limit) {
			t.Errorf("%s takes %.0f bytes with %d services and %.0f with %d, want %.0f at most", c.Kind, small.Changes[i].Bytes, small.Services, c.Bytes, large.Services, limit)
		}
	}
	for _, p := range []Point{small, large} {
		if f := p.Unknown; f == nil || f.Connections == 0 || f.Bytes > 1 || f.EnvoyGrowth > int64(f.Connections)*100 {
			t.Errorf("%d services: names that nobody owns: %+v", p.Services, f)
		}
	}
}

func checkWriters(t *testing.T, report Report) {
	t.Helper()
	for name, write := range map[string]func(io.Writer) error{"text": report.WriteText, "html": report.WriteHTML, "svg": report.WriteSVG} {
		var out bytes.Buffer
		if err := write(&out); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, kind := range []string{"endpoints", "route", "host"} {
			if !strings.Contains(out.String(), kind) {
				t.Errorf("%s says nothing of %s", name, kind)
			}
		}
		if strings.Contains(out.String(), "NaN") {
			t.Errorf("%s has a figure that is none:\n%s", name, out.String())
		}
	}
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal(text, &again); err != nil || len(again.Points) != len(report.Points) {
		t.Errorf("JSON does not come back: %v", err)
	}
}

func TestDerive(t *testing.T) {
	point := func(services int, resident int64, effect time.Duration) Point {
		return Point{Shape: "polder", Services: services, EnvoyResident: resident, PolderBytes: 10 * int64(services),
			Changes: []Change{{Kind: "route", ToACK: Spread{P50: effect / 2}, ToEffect: Spread{P50: effect}}}}
	}
	r := Report{Points: []Point{point(10, 1_000, 4*time.Millisecond), point(110, 11_000, 5*time.Millisecond)}}
	r.derive()
	if got := r.Points[1].PerService; got != 110 {
		t.Errorf("%d bytes for each service, want 100 in Envoy and 10 in the control plane", got)
	}
	if len(r.Ratios) != 1 || r.Ratios[0].ToEffect != 1.25 || r.Ratios[0].ToACK != 1.25 {
		t.Errorf("ratios %+v, want 1.25", r.Ratios)
	}
}

func TestOptions(t *testing.T) {
	if err := DefaultOptions().Validate(); err != nil {
		t.Errorf("the defaults have faults: %v", err)
	}
	o := Options{Services: []int{10, 10, 1}, Envoys: -1}
	err := o.Validate()
	for _, want := range []string{"10 services after 10", "1 services: want", "0 changes", "0 workers", "-1 Envoys"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("faults %v do not tell %q", err, want)
		}
	}
}
