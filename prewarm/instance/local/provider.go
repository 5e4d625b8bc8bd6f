package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/prewarm/instance"
	"github.com/polder/polder/prewarm/instance/process"
)

// Options configure a Provider. All but Berths are needed.
type Options struct {
	Dir     string   // folder for records, of this Provider alone; made with mode 0700
	Environ []string // our own environment, of which only PATH, HOME, LANG and TZ are passed on
	Log     *slog.Logger
	Berths  *Berths // of services whose programs inherit their socket; nil gives each instance one of its own
}

// Provider starts processes. It implements instance.Provider.
type Provider struct {
	o         Options
	inherited map[string]string
	awaited   atomic.Int64 // instances that are not ready yet

	mu     sync.Mutex
	warned bool // that limits are not in force
}

// New makes a Provider and its folder.
func New(o Options) (*Provider, error) {
	if o.Dir == "" || o.Log == nil {
		return nil, errors.New("provider of processes: Dir and Log are needed")
	}
	dir, err := filepath.Abs(o.Dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("provider of processes: %w", err)
	}
	o.Dir = dir
	return &Provider{o: o, inherited: passedOn(o.Environ)}, nil
}

const recordSuffix = ".json"

// memo is what a record remembers beside the process.
type memo struct {
	instance.Identity
	Probe   probe  `json:"probe"`
	LogFile string `json:"log_file"`
}

// Start implements instance.Provider.
func (p *Provider) Start(ctx context.Context, o instance.Order) (instance.Handle, error) {
	h, err := p.start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("instance %s of service %s: %w", o.ID, o.Service.Name, err)
	}
	return h, nil
}

func (p *Provider) start(ctx context.Context, o instance.Order) (*handle, error) {
	run := o.Service.Run
	if run == nil || len(run.Command) == 0 {
		return nil, errors.New("the service has no run.command")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	settings := settings(p.inherited, o)
	path, err := program(run, settings["PATH"])
	if err != nil {
		return nil, err
	}
	place, err := p.takePlace(o.Service)
	if err != nil {
		return nil, err
	}
	m := memo{
		Identity: instance.Identity{ID: o.ID, Service: o.Service.Name, Region: o.Region, Address: place.address, Asked: o.Asked, Reason: o.Reason},
		Probe:    newProbe(place.address, o.Service),
		LogFile:  o.LogFile,
	}
	meta, err := json.Marshal(m)
	if err != nil {
		p.vacate(m.Identity, place)
		return nil, err
	}
	started, err := process.Start(process.Spec{
		Path: path, Args: run.Command[1:], Dir: run.Directory, Env: environment(settings, o, place.address),
		LogFile: o.LogFile, Files: place.files(), RecordFile: filepath.Join(p.o.Dir, string(o.ID)+recordSuffix),
		Label: fmt.Sprintf("instance %s", o.ID), Meta: meta, Limits: process.Limits{Memory: int64(run.Memory)},
	})
	if err != nil {
		p.vacate(m.Identity, place)
		return nil, err
	}
	p.reportLimits(started.Record(), o)
	return &handle{provider: p, memo: m, process: started, place: place}, nil
}

// takePlace finds where a new instance of the service shall listen.
func (p *Provider) takePlace(s polder.Service) (*place, error) {
	if s.Run.Listen == polder.ListenInherit && p.o.Berths != nil {
		if at, err := p.o.Berths.step(s.Name); at != nil || err != nil {
			return at, err
		}
	}
	return takePlace(s.Run.Listen)
}

// vacate gives up the place of an instance that is not, or no longer, there.
func (p *Provider) vacate(id instance.Identity, place *place) {
	place.leave()
	if p.o.Berths != nil {
		p.o.Berths.away(id.Service, id.Address)
	}
}

// reportLimits says once what limits mean on this machine.
func (p *Provider) reportLimits(r process.Record, o instance.Order) {
	p.mu.Lock()
	first := r.Unlimited != "" && !p.warned
	p.warned = p.warned || first
	p.mu.Unlock()
	if first {
		p.o.Log.Warn("instances run without the memory limits of their services",
			"region", o.Region, "service", o.Service.Name, "instance", o.ID, "reason", r.Unlimited)
	}
}

// program finds run.Command[0]: with a slash it is relative to the service's
// directory; without, it is on the instance's PATH or else in that directory.
func program(run *polder.Run, path string) (string, error) {
	name := run.Command[0]
	if strings.ContainsRune(name, '/') {
		return name, nil
	}
	for _, dir := range append(filepath.SplitList(path), run.Directory) {
		if file, err := filepath.Abs(filepath.Join(dir, name)); err == nil && dir != "" {
			if _, err := exec.LookPath(file); err == nil { // with a slash it only checks
				return file, nil
			}
		}
	}
	return "", fmt.Errorf("program %q is neither on PATH (%s) nor in its directory %s", name, path, run.Directory)
}

// passedOn picks what of our own environment instances are given.
func passedOn(environ []string) map[string]string {
	picked := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if slices.Contains([]string{"PATH", "HOME", "LANG", "TZ"}, name) {
			picked[name] = value
		}
	}
	return picked
}

// settings are what is inherited and, over it, the service's own environment.
func settings(inherited map[string]string, o instance.Order) map[string]string {
	all := maps.Clone(inherited)
	maps.Copy(all, o.Service.Run.Environment)
	return all
}

// environment is an instance's whole environment: its settings, and over them
// what says who and where it is.
func environment(settings map[string]string, o instance.Order, address netip.AddrPort) []string {
	all := maps.Clone(settings)
	all["HOST"], all["PORT"] = address.Addr().String(), strconv.Itoa(int(address.Port()))
	all["POLDER_SERVICE"], all["POLDER_REGION"], all["POLDER_INSTANCE"] = string(o.Service.Name), string(o.Region), string(o.ID)
	if o.Service.Run.Listen == polder.ListenInherit {
		all["LISTEN_FDS"], all["LISTEN_FDNAMES"], all["POLDER_LISTEN_FD"] = "1", "http", "3"
	}
	entries := make([]string, 0, len(all))
	for name, value := range all {
		entries = append(entries, name+"="+value)
	}
	slices.Sort(entries)
	return entries
}

// Adopt implements instance.Provider.
func (p *Provider) Adopt(ctx context.Context) ([]instance.Handle, error) {
	files, err := os.ReadDir(p.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("adopt instances: %w", err)
	}
	var found []instance.Handle
	var failed error
	for _, f := range files {
		file := filepath.Join(p.o.Dir, f.Name())
		switch {
		case strings.HasPrefix(f.Name(), "."): // half-written by an owner that was killed
			failed = errors.Join(failed, os.Remove(file))
		case strings.HasSuffix(f.Name(), recordSuffix):
			h, err := p.adopt(file)
			if err == nil {
				found = append(found, h)
			} else if !errors.Is(err, process.ErrGone) {
				failed = errors.Join(failed, err)
			}
		}
		if err := ctx.Err(); err != nil {
			return found, errors.Join(failed, err)
		}
	}
	return found, failed
}

func (p *Provider) adopt(file string) (*handle, error) {
	adopted, err := process.Adopt(file)
	if err != nil {
		if errors.Is(err, process.ErrGone) {
			p.o.Log.Info("an instance of an earlier Polder is gone", "record", filepath.Base(file))
		}
		return nil, err
	}
	if err := adopted.Resume(); err != nil { // an earlier Polder may have paused it
		adopted.Release()
		return nil, err
	}
	h := &handle{provider: p, process: adopted, place: &place{}}
	if err := json.Unmarshal(adopted.Record().Meta, &h.memo); err != nil {
		adopted.Release()
		return nil, fmt.Errorf("process record %s is not of an instance: %w", file, err)
	}
	if p.o.Berths != nil {
		p.o.Berths.stand(h.memo.Service, h.memo.Address)
	}
	return h, nil
}

// handle is a process with its place. It implements instance.Handle.
type handle struct {
	provider *Provider
	memo     memo
	process  *process.Process
	place    *place
}

func (h *handle) Identity() instance.Identity { return h.memo.Identity }

func (h *handle) Done() <-chan struct{} { return h.process.Done() }

// AwaitReady implements instance.Handle.
func (h *handle) AwaitReady(ctx context.Context) (listening time.Time, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	probed := make(chan struct{})
	go func() {
		defer close(probed)
		listening, err = h.memo.Probe.await(ctx, h.place.socket, &h.provider.awaited)
	}()
	select {
	case <-probed:
	case <-h.Done():
		cancel()
		<-probed
		return time.Time{}, h.Died()
	}
	if err == nil {
		h.place.leave()
	}
	return listening, err
}

// Computed implements instance.Computer.
func (h *handle) Computed() (time.Duration, error) { return h.process.Computed() }

// Died implements instance.Handle.
func (h *handle) Died() *instance.Died {
	lines, err := process.ReadLast(h.memo.LogFile, instance.LastLines)
	if err != nil {
		lines = []string{err.Error()}
	}
	return &instance.Died{Exit: h.process.Exit().String(), LastLines: lines}
}

// Stop implements instance.Handle.
func (h *handle) Stop(ctx context.Context, grace time.Duration) error {
	err := h.process.Stop(ctx, grace)
	h.provider.vacate(h.memo.Identity, h.place)
	return err
}

// Pause implements instance.Pauser.
func (h *handle) Pause() error { return h.process.Pause() }

// PageOut implements instance.Pauser.
func (h *handle) PageOut() (before, after int64, err error) { return h.process.PageOut() }

// Resume implements instance.Pauser.
func (h *handle) Resume() error { return h.process.Resume() }

// Release implements instance.Handle.
func (h *handle) Release() {
	h.process.Release()
	h.place.leave()
}
