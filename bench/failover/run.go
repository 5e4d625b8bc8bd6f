//go:build linux

package failover

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/bench/testbed"
	"github.com/polder/polder/loadtest"
)

const (
	// before and after are how long callers call around a loss; it heals after lost.
	before, lost, after = 2 * time.Second, 8 * time.Second, 4 * time.Second
	// patience is that of one caller, and wellLimit that until all is well again.
	patience, wellLimit = 20 * time.Second, 2 * time.Minute
	// near is where the service is called, and hit is the region that is lost: the
	// nearest of those where the service may be.
	near, hit polder.RegionName = "fr", "nl"
)

const services = `  anywhere:
    hosts: [anywhere.example.com]
    residency: { allow: [nl, pl] }
    run: { command: [./bin/billing], directory: %q, ready: /healthz }
`

// losses are what is measured. Each returns what heals it.
var losses = []struct {
	name string
	lose func(s *testbed.Site) (heal func())
}{
	{"one Envoy, killed", func(s *testbed.Site) func() {
		syscall.Kill(s.Region(hit)[0].Envoy(), syscall.SIGKILL)
		return func() {}
	}},
	{"one Envoy, hanging", func(s *testbed.Site) func() {
		pid := s.Region(hit)[0].Envoy()
		syscall.Kill(pid, syscall.SIGSTOP)
		return func() { syscall.Kill(pid, syscall.SIGCONT) }
	}},
	{"one machine", func(s *testbed.Site) func() { return loseMachine(s, s.Region(hit)[0]) }},
	{"the region", func(s *testbed.Site) func() {
		var heal []func()
		for _, p := range s.Region(hit) {
			heal = append(heal, loseMachine(s, p))
		}
		return func() {
			for _, h := range heal {
				h()
			}
		}
	}},
	{"the way there, one direction", func(s *testbed.Site) func() {
		return s.Shape(testbed.Link{From: string(near), To: string(hit), Loss: 1})
	}},
}

func loseMachine(s *testbed.Site, p *testbed.Peer) func() {
	release := p.Hold()
	clear := s.Shape(testbed.Link{From: p.Name, To: "*", Loss: 1}, testbed.Link{From: "*", To: p.Name, Loss: 1})
	p.Signal(syscall.SIGKILL)
	return func() { clear(); release() }
}

// Run measures.
func Run(ctx context.Context, o Options) (report Report, err error) {
	if err := o.Validate(); err != nil {
		return Report{}, err
	}
	report = Report{Began: time.Now().UTC(), Processors: runtime.NumCPU(), LoadBefore: loadAverage(), Peers: o.Peers}
	if o.Gossip != "" {
		if report.Sizes, err = readSizes(o.Gossip); err != nil {
			return Report{}, err
		}
	}
	dir, err := os.MkdirTemp("", "pdr")
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	site, err := newSite(o, dir)
	if err != nil {
		return Report{}, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- site.Run(running) }()
	err = measure(ctx, o, site, &report)
	stop()
	report.LoadAfter = loadAverage()
	return report, errors.Join(err, <-ended)
}

func newSite(o Options, dir string) (*testbed.Site, error) {
	t := testbed.DefaultOptions()
	for _, path := range []struct {
		into *string
		from string
	}{{&t.Polder, o.Polder}, {&t.Tools, o.Tools}, {&o.Samples, o.Samples}} {
		absolute, err := filepath.Abs(path.from)
		if err != nil {
			return nil, err
		}
		*path.into = absolute
	}
	t.Dir, t.Peers, t.Services = dir, o.Peers, fmt.Sprintf(services, filepath.Join(o.Samples, "billing"))
	return testbed.New(t)
}

func measure(ctx context.Context, o Options, site *testbed.Site, report *Report) error {
	if err := well(ctx, site); err != nil {
		return err
	}
	var err error
	if report.Rest, err = atRest(ctx, site.Peers); err != nil {
		return err
	}
	o.Progress("at rest each peer sends %.0f bytes a second", report.Rest.Bytes)
	for _, l := range losses {
		loss := Loss{Name: l.name}
		for range o.Rounds {
			round, err := lose(ctx, o, site, l.lose)
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			loss.Rounds = append(loss.Rounds, round)
			o.Progress("lost %s: %d of %d calls failed, the last one %d ms after it; from elsewhere after %d ms", l.name, round.Errors, round.Calls, round.LastError, round.Moved)
		}
		report.Losses = append(report.Losses, loss)
	}
	for _, what := range [][]*testbed.Peer{site.Region(hit)[:1], site.Region(hit)} {
		d, err := drain(ctx, o, site, what)
		if err != nil {
			return fmt.Errorf("drain: %w", err)
		}
		report.Drains = append(report.Drains, d)
		o.Progress("drained %s in %d ms: %d of %d calls failed", d.What, d.Took, d.Errors, d.Calls)
	}
	return nil
}

// drain drains peers under load, and lets them have callers again.
func drain(ctx context.Context, o Options, site *testbed.Site, peers []*testbed.Peer) (Drain, error) {
	calling, stop := context.WithCancel(ctx)
	defer stop()
	var results []loadtest.Result
	ended := make(chan error, 1)
	go func() { ended <- call(calling, o, site, &results) }()
	d := Drain{}
	each := func(verb string) error {
		for _, p := range peers {
			if said, err := exec.CommandContext(ctx, o.Polder, verb, p.Name, "--state", p.Layout.State).CombinedOutput(); err != nil {
				return fmt.Errorf("polder %s %s: %w: %s", verb, p.Name, err, said)
			}
		}
		return nil
	}
	err := rest(ctx, before)
	began := time.Now()
	err = errors.Join(err, each("drain"))
	d.Took = milliseconds(time.Since(began))
	err = errors.Join(err, rest(ctx, before), each("undrain"), rest(ctx, after))
	stop()
	err = errors.Join(err, <-ended)
	r := round(results, 0)
	d.Calls, d.Errors = r.Calls, r.Errors
	for _, p := range peers {
		d.What = strings.TrimPrefix(d.What+", "+p.Name, ", ")
	}
	return d, err
}

func well(ctx context.Context, site *testbed.Site) error {
	ctx, cancel := context.WithTimeout(ctx, wellLimit)
	defer cancel()
	return site.Await(ctx)
}

// lose measures one loss.
func lose(ctx context.Context, o Options, site *testbed.Site, strike func(*testbed.Site) func()) (Round, error) {
	calling, stop := context.WithCancel(ctx)
	defer stop()
	began := time.Now()
	var results []loadtest.Result
	ended := make(chan error, 1)
	go func() { ended <- call(calling, o, site, &results) }()
	err := rest(ctx, before)
	at := time.Since(began)
	heal := strike(site)
	err = errors.Join(err, rest(ctx, lost))
	heal()
	err = errors.Join(err, well(ctx, site), rest(ctx, after))
	stop()
	if err = errors.Join(err, <-ended); err != nil {
		return Round{}, err
	}
	return round(results, at), nil
}

// call calls through a gateway that lives, until ctx ends.
func call(ctx context.Context, o Options, site *testbed.Site, results *[]loadtest.Result) error {
	options := loadtest.DefaultOptions()
	options.Roots, options.Timeout, options.Grace, options.Connections = site.Roots, patience, patience, loadtest.ConnectionsFresh
	options.Examine = func(_ string, _ *http.Response, body []byte) string {
		var answer struct{ Region string }
		if json.Unmarshal(body, &answer) != nil {
			return ""
		}
		return answer.Region
	}
	options.Results = func(r loadtest.Result) error { *results = append(*results, r); return nil }
	_, err := loadtest.Run(ctx, loadtest.Plan{Targets: []loadtest.Target{{
		Name: "anywhere", URL: "https://anywhere.example.com/", Dial: site.Dial(near), Connect: site.Region(near)[0].Address.String() + ":443",
		Arrivals: loadtest.Constant{Rate: o.Rate, For: time.Hour},
	}}}, options)
	return err
}

// round sums up the calls around a loss.
func round(results []loadtest.Result, at time.Duration) Round {
	var r Round
	reasons := map[string]int{}
	for _, c := range results {
		if !c.Outcome.Sent() || c.Outcome == loadtest.Interrupted {
			continue
		}
		r.Calls++
		failed := c.Unsuccessful()
		since, took := c.Intended-at, c.Latency()
		switch {
		case failed:
			r.Errors++
			r.LastError = max(r.LastError, milliseconds(c.Done-at))
			reasons[cmp.Or(c.Error, fmt.Sprint("status ", c.Status))]++
		default:
			r.Slowest = max(r.Slowest, milliseconds(took))
			if c.Done > at && c.Note != string(hit) && (r.Moved == 0 || milliseconds(c.Done-at) < r.Moved) {
				r.Moved = milliseconds(c.Done - at)
			}
		}
		if ms := milliseconds(since); ms >= -plotBefore && ms <= plotAfter {
			r.Points = append(r.Points, Point{At: ms, Took: milliseconds(took), Failed: failed})
		}
	}
	for reason, n := range reasons {
		r.Reasons = append(r.Reasons, Count{reason, n})
	}
	slices.SortFunc(r.Reasons, func(a, b Count) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Error, b.Error)) })
	return r
}

func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// loadAverage is that of the last minute.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
