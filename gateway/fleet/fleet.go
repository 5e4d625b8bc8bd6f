package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/sync/errgroup"

	"github.com/polder/polder"
	"github.com/polder/polder/gateway"
	"github.com/polder/polder/prewarm/instance/process"
)

const (
	// stopGrace is how long a region may take to stop before it is killed.
	stopGrace = 45 * time.Second
	// healthy is how long a region must run for its next end to count as the first.
	healthy = 30 * time.Second
	// pauseFirst and pauseMax bound the pause before a region is started again.
	pauseFirst = 200 * time.Millisecond
	pauseMax   = 10 * time.Second
	// mostLog is how long a log may become before it is rotated, in bytes; one
	// older part is kept. keepEvery is how often that is looked at.
	mostLog   = 8 << 20
	keepEvery = 10 * time.Second
	// TetherFD is the file descriptor of the pipe that ties a process to the fleet.
	TetherFD = 3
)

// Options of a Fleet.
type Options struct {
	Program string   // path of the polder command
	Config  string   // file or folder, absolute
	State   string   // state folder, absolute
	Peers   int      // of each region; 0 means 1
	Extra   []string // arguments that every region gets beside its own
	Port    int      // of the first region's HTTPS entrypoint; 0 takes free ports
	Log     *slog.Logger
	// Output is handed every line that a peer logs, with its name (Layout.Name).
	// It may be nil.
	Output func(name string, line []byte)
}

// Fleet is every region of one configuration on this machine, with one peer or
// more each.
type Fleet struct {
	options Options
	members []Member
	tether  *os.File // read end, given to every process
	hold    *os.File // write end, kept by us alone
}

// Member is one peer of the fleet.
type Member struct {
	Region polder.Region
	Peer   string
	Listen polder.Listen
	Layout gateway.Layout
}

// New plans a fleet for the regions: which ports each one gets. It starts
// nothing. Ports that are in use by others are an error that names them all.
func New(o Options, regions []polder.Region) (*Fleet, error) {
	peers := max(1, o.Peers)
	listens, err := plan(o.Port, peers*len(regions))
	if err != nil {
		return nil, err
	}
	f := &Fleet{options: o}
	for _, region := range regions {
		layout, err := gateway.NewLayout(o.State, region.Name)
		if err != nil {
			return nil, err
		}
		for n := range peers {
			peer := fmt.Sprintf("%s-%d", region.Name, n+1)
			f.members = append(f.members, Member{Region: region, Peer: peer, Listen: listens[len(f.members)], Layout: layout.Of(peer)})
		}
	}
	return f, nil
}

// Members lists the peers, by region, with the addresses that they will listen on.
func (f *Fleet) Members() []Member { return f.members }

// Run starts every region and keeps it running until ctx ends. Then it stops
// them all, and returns when none of their processes is left.
func (f *Fleet) Run(ctx context.Context) error {
	release, err := gateway.Hold(f.options.State)
	if err != nil {
		return err
	}
	defer release()
	if f.tether, f.hold, err = os.Pipe(); err != nil {
		return fmt.Errorf("pipe to the regions: %w", err)
	}
	defer f.tether.Close()
	if err := f.sweepOld(ctx); err != nil {
		return err
	}
	guard, stopGuard := context.WithCancel(context.WithoutCancel(ctx))
	defer stopGuard()
	guarded := make(chan error, 1)
	go func() { guarded <- f.keep(guard, f.guard(), nil) }()
	var keeping sync.WaitGroup
	keeping.Go(func() { f.keepLogs(guard) })

	group, inner := errgroup.WithContext(ctx)
	for _, m := range f.members {
		group.Go(func() error { return f.keep(inner, f.command(m), f.output(m)) })
	}
	err = group.Wait()
	f.hold.Close() // the guard sweeps, finds nothing, and ends
	stopGuard()
	keeping.Wait()
	return errors.Join(err, <-guarded)
}

// keepLogs bounds the logs of all processes until ctx ends.
func (f *Fleet) keepLogs(ctx context.Context) {
	ticker := time.NewTicker(keepEvery)
	defer ticker.Stop()
	for {
		for _, file := range f.logs() {
			if _, err := process.Rotate(file, mostLog); err != nil {
				f.options.Log.Warn("a log grows", "file", file, "reason", err)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (f *Fleet) logs() []string {
	files := []string{f.guard().LogFile}
	for _, m := range f.members {
		files = append(files, LogFile(m.Layout))
	}
	return files
}

// sweepOld ends what an earlier fleet with this state folder left running: its
// guard first, which would take our processes for what it has to end.
func (f *Fleet) sweepOld(ctx context.Context) error {
	guard, err := process.Adopt(f.guard().RecordFile)
	if err == nil {
		err = kill(ctx, guard)
	}
	if err != nil && !errors.Is(err, process.ErrGone) {
		return fmt.Errorf("guard of an earlier polder up: %w", err)
	}
	for _, m := range f.members {
		if err := os.MkdirAll(m.Layout.Dir(), 0o700); err != nil {
			return fmt.Errorf("region %s: %w", m.Region.Name, err)
		}
		p, err := process.Adopt(recordOf(m.Layout))
		if errors.Is(err, process.ErrGone) {
			continue
		}
		if err != nil {
			return fmt.Errorf("region %s: %w", m.Region.Name, err)
		}
		f.options.Log.Info("stopping the region that an earlier polder up left running", "region", m.Region.Name, "peer", m.Peer, "pid", p.PID())
		if err := p.Stop(ctx, stopGrace); err != nil {
			return err
		}
	}
	return nil
}

// kill ends a process without asking it.
func kill(ctx context.Context, p *process.Process) error {
	if err := p.Signal(syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		return err
	}
	return p.Stop(ctx, sweepGrace)
}

// command is how one region is run.
func (f *Fleet) command(m Member) process.Spec {
	args := []string{
		"run", "--region", string(m.Region.Name), "--name", m.Peer, "--config", f.options.Config, "--state", f.options.State,
		"--https", m.Listen.HTTPS, "--http", m.Listen.HTTP, "--peer", m.Listen.Peer, "--gossip", m.Listen.Gossip,
		"--dns", gateway.Off, "--tether", fmt.Sprint(TetherFD), "--peers", fmt.Sprint(max(1, f.options.Peers)),
	}
	if !f.leads(m) { // listen.xds is one address, and this is one machine
		args = append(args, "--xds", gateway.Off)
	}
	for _, other := range f.members {
		if other.Peer != m.Peer {
			args = append(args, "--join", other.Listen.Gossip)
		}
	}
	return process.Spec{
		Path: f.options.Program, Args: append(args, f.options.Extra...), Env: os.Environ(),
		LogFile: LogFile(m.Layout), RecordFile: recordOf(m.Layout),
		Label: "region " + m.Layout.Name(), Files: []*os.File{f.tether},
	}
}

// leads tells whether the peer is the first of its region: the one that serves its
// Envoys on other machines.
func (f *Fleet) leads(m Member) bool {
	for _, other := range f.members {
		if other.Region.Name == m.Region.Name {
			return other.Peer == m.Peer
		}
	}
	return false
}

func (f *Fleet) guard() process.Spec {
	return process.Spec{
		Path: f.options.Program, Args: []string{"guard", "--state", f.options.State, "--tether", fmt.Sprint(TetherFD)},
		Env: os.Environ(), LogFile: filepath.Join(f.options.State, "guard.log"),
		RecordFile: filepath.Join(f.options.State, "guard.json"), Label: "guard", Files: []*os.File{f.tether},
	}
}

// output follows a region's log; it returns when ctx ends.
func (f *Fleet) output(m Member) func(ctx context.Context) {
	if f.options.Output == nil {
		return nil
	}
	return func(ctx context.Context) {
		err := process.TailLast(ctx, LogFile(m.Layout), 0, func(line []byte) { f.options.Output(m.Layout.Name(), line) })
		if err != nil && ctx.Err() == nil {
			f.options.Log.Warn("cannot follow the region's log", "region", m.Region.Name, "peer", m.Peer, "reason", err)
		}
	}
}

// keep runs one process until ctx ends, again and again.
func (f *Fleet) keep(ctx context.Context, spec process.Spec, follow func(context.Context)) error {
	if follow != nil {
		following, stop := context.WithCancel(context.WithoutCancel(ctx))
		ended := make(chan struct{})
		go func() { defer close(ended); follow(following) }()
		defer func() { stop(); <-ended }()
	}
	pauses := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(pauseFirst), backoff.WithMaxInterval(pauseMax), backoff.WithMaxElapsedTime(0))
	for ctx.Err() == nil {
		started := time.Now()
		p, err := process.Start(spec)
		if err != nil {
			return err
		}
		select {
		case <-p.Done():
			if time.Since(started) > healthy {
				pauses.Reset()
			}
			pause := pauses.NextBackOff()
			f.options.Log.Warn("process ended and is started again", "process", spec.Label, "exit", p.Exit().String(), "pause", pause, "log", spec.LogFile)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		case <-ctx.Done():
			return p.Stop(context.WithoutCancel(ctx), stopGrace)
		}
	}
	return nil
}

// LogFile is where a region of a fleet writes its log.
func LogFile(l gateway.Layout) string { return filepath.Join(l.Dir(), "polder.log") }

func recordOf(l gateway.Layout) string { return filepath.Join(l.Dir(), "polder.json") }

// Curl gives a line for a shell that calls a host through a member's entrypoint.
func (m Member) Curl(rootFile, host string) string {
	ip, port, found := strings.Cut(m.Listen.HTTPS, ":")
	if !found {
		return ""
	}
	return fmt.Sprintf("curl --cacert %s --resolve %s:%s:%s https://%s:%s/", rootFile, host, port, ip, host, port)
}
