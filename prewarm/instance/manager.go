package instance

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polder/polder"
)

// Options configure a Manager. All fields but Keep and Events are needed.
type Options struct {
	Region   polder.RegionName
	Provider Provider
	StateDir string // logs are kept below; one Manager at a time may use it
	Log      *slog.Logger
	Events   func(Event) // see the package's comment; nil for none
	Keep     bool        // instances run on when Run's context ends, for the next Polder; otherwise they are stopped
	Timing   Timing
	Logs     LogLimits
}

// Timing are the durations that a Manager works with; all must be positive.
type Timing struct {
	Start      time.Duration // deadline of a start; a service's longer Timeout extends it
	Grace      time.Duration // from asking an instance to finish to killing it
	Shutdown   time.Duration // to stop all instances when Run's context ends; then they are killed
	Stable     time.Duration // an instance that was ready for so long counts as one that holds
	FirstDelay time.Duration // before the next start, after one failure
	MaxDelay   time.Duration // the same after many
}

// DefaultTiming is what production uses.
func DefaultTiming() Timing {
	return Timing{
		Start:      time.Minute,
		Grace:      10 * time.Second,
		Shutdown:   30 * time.Second,
		Stable:     10 * time.Second,
		FirstDelay: time.Second,
		MaxDelay:   time.Minute,
	}
}

// ErrHandOver, as the cause with which Run's context ends, leaves instances
// running for the next Polder, as Options.Keep does.
var ErrHandOver = errors.New("instances are handed over to the next Polder")

// ErrNotServing is returned by Start before Adopted and after Run's context ended.
var ErrNotServing = errors.New("the instance manager is not serving")

// Full is the error of Start for a service that has as many instances as it may.
type Full struct {
	Service polder.ServiceName
	Max     int
}

func (f *Full) Error() string {
	return fmt.Sprintf("service %s: has all the %d instances that its scale.max allows in one region", f.Service, f.Max)
}

// spawns bounds how many instances are being made at one time: a thousand
// sleepers that wake together do not get up faster by stepping on each other.
const spawns = 16

// Manager owns the instances of one region. See the package's comment.
type Manager struct {
	// Fixed after construction.
	o       Options
	slots   chan struct{} // taken while a provider makes an instance
	adopted chan struct{} // closed when the table shows what was running
	release chan struct{} // closed when instances are to be left running
	news    chan struct{} // one token: there are events to tell

	lives sync.WaitGroup // one for each entry of the table

	mu       sync.Mutex // guards all below
	serving  bool
	ran      bool
	leaving  bool // release is closed
	table    map[polder.InstanceID]*entry
	breakers map[polder.ServiceName]*breaker // of services that failed
	events   []Event                         // to be told, in order; at most four for each instance, and one for each pause and resumption
	life     context.Context                 // of instances' work; ends when a shutdown has lasted too long
}

// entry is an instance in the table.
type entry struct {
	// Fixed after construction.
	start  context.Context // ends when the start is given up
	giveUp context.CancelFunc
	stop   chan struct{} // closed by Stop
	rest   sync.Mutex    // held while it is paused or resumed
	logs   string
	adopt  bool
	limit  time.Duration // of the start

	// Guarded by Manager.mu.
	instance   polder.Instance
	phases     Phases
	handle     Handle      // nil while it is being made
	told       bool        // its address is known, and its first event was announced
	stopping   bool        // stop is closed
	pageOut    *time.Timer // runs while it is paused
	stopReason string
}

// New checks the options and makes a Manager, which does nothing before Run.
func New(o Options) (*Manager, error) {
	t := o.Timing
	for name, d := range map[string]time.Duration{
		"Start": t.Start, "Grace": t.Grace, "Shutdown": t.Shutdown, "Stable": t.Stable, "FirstDelay": t.FirstDelay, "MaxDelay": t.MaxDelay,
	} {
		if d <= 0 {
			return nil, fmt.Errorf("instance manager: Timing.%s is %v: it must be positive", name, d)
		}
	}
	if o.Region == "" || o.Provider == nil || o.StateDir == "" || o.Log == nil {
		return nil, errors.New("instance manager: Region, Provider, StateDir and Log are needed")
	}
	if o.Logs.Bytes <= 0 || o.Logs.Files <= 0 {
		return nil, fmt.Errorf("instance manager: Logs is %+v: both must be positive", o.Logs)
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	return &Manager{
		o:        o,
		slots:    make(chan struct{}, spawns),
		adopted:  make(chan struct{}),
		release:  make(chan struct{}),
		news:     make(chan struct{}, 1),
		table:    map[polder.InstanceID]*entry{},
		breakers: map[polder.ServiceName]*breaker{},
	}, nil
}

// Adopted is closed when the table shows what was running and Start may be
// called. The adopted instances become ready in their own time.
func (m *Manager) Adopted() <-chan struct{} { return m.adopted }

// Run adopts what an earlier Manager left running, serves until ctx ends, and
// then stops all instances in parallel or, with Keep or the cause ErrHandOver, leaves them running. It
// returns when all its work has ended; the end of ctx is no error. A Manager
// runs once.
func (m *Manager) Run(ctx context.Context) error {
	lock, err := m.begin()
	if err != nil {
		return fmt.Errorf("instances of region %s: %w", m.o.Region, err)
	}
	defer lock.Close()
	life, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	m.mu.Lock()
	m.life = life
	m.mu.Unlock()

	var own sync.WaitGroup
	ended := make(chan struct{})
	own.Go(func() { m.tell(ended) })
	own.Go(func() { m.keepLogs(ended) })
	defer own.Wait()
	defer close(ended)

	m.adopt(ctx)
	<-ctx.Done()
	m.leave(kill, m.o.Keep || errors.Is(context.Cause(ctx), ErrHandOver))
	return nil
}

// begin takes the state for this Manager alone.
func (m *Manager) begin() (*os.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ran {
		return nil, errors.New("Run was called twice")
	}
	m.ran = true
	if err := os.MkdirAll(m.o.StateDir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(m.o.StateDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("another Polder is using %s (%w): stop it, or give this one a state folder of its own", m.o.StateDir, err)
	}
	return lock, nil
}

// adopt fills the table with what runs, and opens the door for Start.
func (m *Manager) adopt(ctx context.Context) {
	found, err := m.o.Provider.Adopt(ctx)
	if err != nil {
		m.o.Log.Error("some instances could not be adopted", "region", m.o.Region, "error", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, handle := range found {
		id := handle.Identity()
		e := m.enter(polder.Instance{ID: id.ID, Service: id.Service, Region: id.Region, Started: id.Asked, Reason: id.Reason}, m.o.Timing.Start, true)
		m.o.Log.Info("instance adopted", "region", m.o.Region, "service", id.Service, "instance", id.ID, "address", id.Address)
		m.lives.Go(func() { m.watch(e, handle) })
	}
	m.serving = true
	close(m.adopted)
}

// enter puts a new instance into the table. The caller holds mu.
func (m *Manager) enter(i polder.Instance, limit time.Duration, adopt bool) *entry {
	i.State = polder.Starting
	e := &entry{
		stop: make(chan struct{}), logs: m.logFile(i.Service, i.ID), adopt: adopt, limit: limit,
		instance: i, phases: Phases{Asked: i.Started},
	}
	e.start, e.giveUp = context.WithTimeout(m.life, limit)
	m.table[i.ID] = e
	return e
}

// Start asks for one more instance of the service and returns its ID at once;
// what becomes of it is told by events. The reason is kept with the instance.
// A service that failed lately gets a *Backoff, one that has all instances
// that it may have a *Full. ctx is for the call only.
func (m *Manager) Start(ctx context.Context, service polder.Service, reason string) (polder.InstanceID, error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("start an instance of service %s: %w", service.Name, err)
	}
	if service.Run == nil {
		return "", fmt.Errorf("service %s has no run: it is only routed and cannot be started", service.Name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.serving {
		return "", fmt.Errorf("start an instance of service %s: %w", service.Name, ErrNotServing)
	}
	now := time.Now()
	if m.count(service.Name) >= service.Scale.Max {
		return "", &Full{Service: service.Name, Max: service.Scale.Max}
	}
	b := m.breakers[service.Name]
	if b != nil && m.proved(b, now) {
		delete(m.breakers, service.Name)
		b = nil
	}
	if b != nil {
		if err := b.allow(now); err != nil {
			return "", err
		}
	}
	e := m.enter(polder.Instance{ID: m.newID(service.Name), Service: service.Name, Region: m.o.Region, Started: now, Reason: reason},
		max(m.o.Timing.Start, service.Timeout), false)
	if b != nil {
		b.started(e.instance.ID)
	}
	order := Order{ID: e.instance.ID, Region: m.o.Region, Service: service, Asked: now, Reason: reason, LogFile: e.logs}
	m.lives.Go(func() { m.spawn(e, order) })
	return e.instance.ID, nil
}

// count counts the instances of a service that start or are ready.
func (m *Manager) count(service polder.ServiceName) (n int) {
	for _, e := range m.table {
		if e.instance.Service == service && !e.stopping {
			n++
		}
	}
	return n
}

// proved tells whether an instance that was started after the last failure
// has held.
func (m *Manager) proved(b *breaker, now time.Time) bool {
	for _, e := range m.table {
		if e.instance.Service == b.service && m.held(e, now) && e.instance.Started.After(b.last) {
			return true
		}
	}
	return false
}

// held tells whether the instance has been up for long enough to trust it.
func (m *Manager) held(e *entry, now time.Time) bool {
	return !e.instance.Ready.IsZero() && now.Sub(e.instance.Ready) >= m.o.Timing.Stable
}

// newID makes an ID that is not in use, and in all likelihood never was.
func (m *Manager) newID(service polder.ServiceName) polder.InstanceID {
	for {
		id := polder.InstanceID(string(service) + "-" + strings.ToLower(rand.Text()[:10])) // 50 bits
		if m.table[id] == nil {
			return id
		}
	}
}

// Stop ends an instance, for a reason that goes with its Stopped event. It
// returns at once. An instance that is being stopped keeps its first reason.
func (m *Manager) Stop(id polder.InstanceID, reason string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.table[id]
	if e == nil {
		return fmt.Errorf("stop instance %s: region %s has no such instance", id, m.o.Region)
	}
	m.stopEntry(e, reason)
	return nil
}

// stopEntry is Stop for a caller that holds mu.
func (m *Manager) stopEntry(e *entry, reason string) {
	if e.stopping {
		return
	}
	e.stopping, e.stopReason = true, reason
	e.giveUp()
	close(e.stop)
	e.instance.State = polder.Draining
	if e.told {
		m.announce(e.event())
	}
}

// Instances returns all that start, are ready or are being stopped, sorted by
// service and time of start. One that is still being made has no address.
func (m *Manager) Instances() []polder.Instance {
	m.mu.Lock()
	all := make([]polder.Instance, 0, len(m.table))
	for _, e := range m.table {
		all = append(all, e.instance)
	}
	m.mu.Unlock()
	slices.SortFunc(all, func(a, b polder.Instance) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// leave ends the life of all instances here, or with keep our part in it, and
// returns when it has.
func (m *Manager) leave(kill func(), keep bool) {
	m.mu.Lock()
	m.serving = false
	if keep {
		m.leaving = true
		close(m.release)
	}
	for _, e := range m.table {
		if keep {
			e.giveUp()
		} else {
			m.stopEntry(e, "Polder stops")
		}
	}
	m.mu.Unlock()
	limit := time.AfterFunc(m.o.Timing.Shutdown, kill)
	defer limit.Stop()
	m.lives.Wait()
}
