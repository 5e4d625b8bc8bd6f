package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/loadtest"
	"github.com/polder/polder/loadtest/trace"
	"github.com/polder/polder/regions/law"
)

// loadFlags are the flags of polder load.
type loadFlags struct {
	trace, entry, path       string
	functions, from, minutes int
	speed, rate, maxRate     float64
	duration                 time.Duration
	services                 []string
	seed                     uint64
	html, root, compare      string
	results                  string
	options                  loadtest.Options
	state                    *string
}

func loadCommand() *cobra.Command {
	f := loadFlags{options: loadtest.DefaultOptions()}
	c := &cobra.Command{
		Use:   "load",
		Short: "Send open-loop load to a running polder up and report what callers saw",
		Long: `Sends requests on a schedule that does not wait for replies: a slice of a recorded
trace (--trace, a file of the Azure Functions 2019 data set, calls per minute, or of the
2021 one, single calls that keep their times; as .csv, .gz, .xz, .zip or .tar), or a
constant rate. Latency counts from the time at which a
request should have left. Ctrl-C ends it early, with the report of what was sent.`,
		Example: `  polder load --rate 200 --duration 30s --service billing --entry nl
  polder load --trace day.csv.xz --functions 50 --minutes 60 --speed 60
  polder load --rate 50 --output json >before.json
  polder load --rate 50 --compare before.json`,
		Args: cobra.NoArgs,
	}
	output := outputFlag(c)
	f.state = stateFlag(c)
	s := c.Flags()
	s.StringVar(&f.root, "root", "", "PEM `file` with the authority to trust (default that of the state folder)")
	s.StringVar(&f.trace, "trace", "", "trace `file` to replay")
	s.IntVar(&f.functions, "functions", 50, "functions of the trace to replay, dealt out to the services")
	s.IntVar(&f.from, "from", 0, "first `minute` of the trace")
	s.IntVar(&f.minutes, "minutes", 60, "minutes of the trace; 0 takes all to its end")
	s.Float64Var(&f.speed, "speed", 60, "how many times faster than recorded")
	s.Float64Var(&f.maxRate, "max-rate", 60, "leave out functions with more calls a minute than this; 0 leaves out none")
	s.Float64Var(&f.rate, "rate", 10, "without a trace: requests a second to each service")
	s.DurationVar(&f.duration, "duration", 10*time.Second, "without a trace: for how long")
	s.StringSliceVar(&f.services, "service", nil, "`services` to load (default all that callers may reach)")
	s.StringVar(&f.entry, "entry", "", "`region` whose entrypoint is called (default all in turn)")
	s.StringVar(&f.path, "path", "/", "path to request")
	s.Uint64Var(&f.seed, "seed", 1, "of everything that is drawn")
	s.DurationVar(&f.options.Timeout, "timeout", f.options.Timeout, "for one request")
	s.IntVar(&f.options.InProgress, "in-progress", f.options.InProgress, "requests under way at once")
	s.StringVar(&f.html, "html", "", "also write the report as a page with plots to this `file`")
	s.StringVar(&f.results, "results", "", "also write every single request, as CSV, to this `file` while the run goes on")
	s.StringVar(&f.compare, "compare", "", "show what changed since the run whose JSON report is in this `file`")
	c.MarkFlagsMutuallyExclusive("trace", "rate")
	c.MarkFlagsMutuallyExclusive("trace", "duration")
	complete(c, "service", completeServices(f.state))
	complete(c, "entry", completeRegions(f.state))
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := f.check(); err != nil {
			return &exitError{exitUsage, err}
		}
		return runLoad(c, f, *output)
	}
	return c
}

// check finds what cannot be meant, before anything is asked or read.
func (f loadFlags) check() error {
	switch {
	case !(f.rate > 0):
		return fmt.Errorf("--rate is %g, want more than 0", f.rate)
	case f.duration <= 0:
		return fmt.Errorf("--duration is %v, want more than 0s", f.duration)
	case !(f.speed > 0):
		return fmt.Errorf("--speed is %g, want more than 0", f.speed)
	case !(f.maxRate >= 0):
		return fmt.Errorf("--max-rate is %g, want 0 or more", f.maxRate)
	case f.functions < 1:
		return fmt.Errorf("--functions is %d, want 1 or more", f.functions)
	case f.from < 0:
		return fmt.Errorf("--from is %d, want 0 or more", f.from)
	case f.minutes < 0:
		return fmt.Errorf("--minutes is %d, want 0 or more", f.minutes)
	case !strings.HasPrefix(f.path, "/"):
		return fmt.Errorf("--path is %q, want one that begins with a slash", f.path)
	case f.options.Timeout <= 0 || f.options.Timeout > time.Hour:
		return fmt.Errorf("--timeout is %v, want more than 0s and at most 1h", f.options.Timeout)
	case f.options.InProgress < 1 || f.options.InProgress > loadtest.MaxInProgress:
		return fmt.Errorf("--in-progress is %d, want 1 to %d", f.options.InProgress, loadtest.MaxInProgress)
	}
	return nil
}

func runLoad(c *cobra.Command, f loadFlags, output format) error {
	before, err := f.earlier()
	if err != nil {
		return err
	}
	statuses, err := askAll(c.Context(), *f.state)
	if err != nil {
		return err
	}
	plan, err := f.plan(statuses)
	if err != nil {
		return err
	}
	if f.options.Roots, err = f.roots(statuses[0]); err != nil {
		return err
	}
	f.options.Progress = progressLine(c.ErrOrStderr())
	report, err := f.run(c.Context(), plan)
	if err != nil {
		return err
	}
	if f.html != "" {
		if err := writePage(f.html, report); err != nil {
			return err
		}
	}
	if err := writeReport(c.OutOrStdout(), before, report, output); err != nil {
		return err
	}
	if report.Total.Errors > 0 {
		return fmt.Errorf("%d of %d requests were not answered as they should", report.Total.Errors, report.Total.Scheduled)
	}
	return nil
}

// run sends the load, and writes every result down if a file for them is named.
func (f loadFlags) run(ctx context.Context, plan loadtest.Plan) (loadtest.Report, error) {
	if f.results == "" {
		return loadtest.Run(ctx, plan, f.options)
	}
	file, err := os.Create(f.results)
	if err != nil {
		return loadtest.Report{}, fmt.Errorf("results: %w", err)
	}
	w := loadtest.NewResultWriter(file)
	f.options.Results = w.Write
	report, err := loadtest.Run(ctx, plan, f.options)
	return report, errors.Join(err, w.Close(), file.Close())
}

// writeReport writes the report, or what changed since an earlier one.
func writeReport(w io.Writer, before *loadtest.Report, report loadtest.Report, output format) error {
	switch {
	case before == nil && output == formatJSON:
		return report.WriteJSON(w)
	case before == nil:
		return report.WriteText(w)
	case output == formatJSON:
		return printJSON(w, loadtest.Compare(*before, report))
	}
	return loadtest.Compare(*before, report).WriteText(w)
}

// earlier reads the report to compare with; nil when there is none.
func (f loadFlags) earlier() (*loadtest.Report, error) {
	if f.compare == "" {
		return nil, nil
	}
	file, err := os.Open(f.compare)
	if err != nil {
		return nil, fmt.Errorf("report to compare with: %w", err)
	}
	defer file.Close()
	before, err := loadtest.ReadReport(file, f.compare)
	return &before, err
}

// target is a service behind an entrypoint.
type target struct{ name, host, connect, port string }

// targets lists the services with the entrypoints to call them through.
func (f loadFlags) targets(statuses []gateway.Status) ([]target, error) {
	var entries []gateway.Status
	for _, s := range statuses {
		if f.entry == "" || string(s.Region) == f.entry {
			entries = append(entries, s)
		}
	}
	if len(entries) == 0 {
		return nil, &exitError{exitNotThere, fmt.Errorf("no region %q runs; see polder status", f.entry)}
	}
	for _, name := range f.services {
		if !slices.Contains(namesOf(entries), name) {
			return nil, noSuchService(polder.ServiceName(name), entries)
		}
	}
	var targets []target
	for i, service := range entries[0].Services {
		name := string(service.Service)
		if len(service.Hosts) == 0 || len(f.services) > 0 && !slices.Contains(f.services, name) {
			continue
		}
		for n := range entries { // the first entrypoint, in turn, that lets callers in
			entry := entries[(i+n)%len(entries)]
			if admits(entry, name) {
				_, port, _ := strings.Cut(entry.Listen.HTTPS, ":")
				targets = append(targets, target{name, callable(service.Hosts[0]), entry.Listen.HTTPS, port})
				break
			}
		}
	}
	if len(targets) == 0 {
		return nil, &exitError{exitNotThere, errors.New("no service can be called through these entrypoints; see polder status")}
	}
	return targets, nil
}

func admits(s gateway.Status, name string) bool {
	for _, service := range s.Services {
		if string(service.Service) == name {
			return service.Verdict == law.Serve || service.Verdict == law.Pass
		}
	}
	return false
}

func (f loadFlags) plan(statuses []gateway.Status) (loadtest.Plan, error) {
	targets, err := f.targets(statuses)
	if err != nil {
		return loadtest.Plan{}, err
	}
	arrivals, description, err := f.arrivals(len(targets))
	if err != nil {
		return loadtest.Plan{}, err
	}
	plan := loadtest.Plan{Description: description}
	for i, t := range targets {
		if arrivals[i] == nil {
			continue
		}
		plan.Targets = append(plan.Targets, loadtest.Target{
			Name: t.name, URL: "https://" + t.host + ":" + t.port + f.path, Connect: t.connect, Arrivals: arrivals[i],
		})
	}
	return plan, nil
}

// arrivals gives a schedule to each of n targets.
func (f loadFlags) arrivals(n int) ([]loadtest.Arrivals, string, error) {
	schedules := make([]loadtest.Arrivals, n)
	if f.trace == "" {
		for i := range schedules {
			schedules[i] = loadtest.Constant{Rate: f.rate, For: f.duration}
		}
		return schedules, schedules[0].String() + " to each service", nil
	}
	functions, eligible, err := f.replay(schedules)
	if err != nil {
		return nil, "", err
	}
	window := fmt.Sprintf("from minute %d", f.from)
	if f.minutes > 0 {
		window += fmt.Sprintf(" to %d", f.from+f.minutes)
	}
	return schedules, fmt.Sprintf("%d of %d functions that are called in %s, %s, at %g times their speed",
		functions, eligible, f.trace, window, f.speed), nil
}

// replay deals functions of the trace out to schedules, and tells how many, of how
// many that could have been taken. Single calls keep their times; counts by the minute are spread over it.
func (f loadFlags) replay(schedules []loadtest.Arrivals) (taken, eligible int, err error) {
	file, err := trace.Open(f.trace)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	format, err := file.Format()
	if err != nil {
		return 0, 0, err
	}
	selection := trace.Selection{From: f.from, Minutes: f.minutes, Seed: f.seed, MaxRate: f.maxRate}
	if format == trace.Invocations2021 {
		picked, err := trace.SelectInvocations(trace.ReadInvocations(file, file.Name()), f.functions, selection)
		if err != nil {
			return 0, 0, err
		}
		for i, sequences := range trace.Assign(picked.Functions, len(schedules)) {
			if len(sequences) > 0 {
				schedules[i] = loadtest.ReplayCalls{Sequences: sequences, Window: time.Duration(picked.Minutes) * time.Minute, Speed: f.speed}
			}
		}
		return len(picked.Functions), picked.Eligible, nil
	}
	slice, err := trace.Select(trace.Read(file, file.Name()), f.functions, selection)
	if err != nil {
		return 0, 0, err
	}
	for i, functions := range trace.Assign(slice.Functions, len(schedules)) {
		if len(functions) > 0 {
			schedules[i] = loadtest.Replay{Functions: functions, Spread: loadtest.Poisson, Speed: f.speed, Seed: f.seed}
		}
	}
	return len(slice.Functions), slice.Eligible, nil
}

func (f loadFlags) roots(s gateway.Status) (*x509.CertPool, error) {
	file := f.root
	if file == "" {
		layout, err := gateway.NewLayout(*f.state, s.Region)
		if err != nil {
			return nil, err
		}
		file = layout.RootFile()
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("authority to trust: %w; name its PEM file with --root", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("authority to trust: %s holds no certificate", file)
	}
	return pool, nil
}

func writePage(path string, r loadtest.Report) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(r.WriteHTML(file), file.Close())
}

// progressLine shows how far a run is: on a terminal one line that changes.
func progressLine(w io.Writer) func(loadtest.Progress) {
	file, ok := w.(*os.File)
	terminal := ok && isatty.IsTerminal(file.Fd())
	return func(p loadtest.Progress) {
		text := fmt.Sprintf("%v of %v: %d of %d sent (%.0f/s), %d errors, %d cold, p99 %v",
			p.Elapsed.Round(time.Second), p.Length.Round(time.Second), p.Sent, p.Planned, p.SentRate, p.Errors, p.ColdStarts, time.Duration(p.Latency.P99)*time.Microsecond)
		if terminal {
			fmt.Fprintf(w, "\r\x1b[K%s", text)
			if p.Done == p.Planned {
				fmt.Fprintln(w)
			}
			return
		}
		fmt.Fprintln(w, text)
	}
}
