package instance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polder/polder"
	"github.com/polder/polder/internal/faketime"
)

// fakeProvider makes instances of nothing, which do what the test says. It is
// for the manager's own logic in fake time; real providers are tested with it
// elsewhere.
type fakeProvider struct {
	adoptable []Handle
	refuse    error         // of Start
	slow      time.Duration // that Start takes
	stubborn  bool          // instances end on SIGKILL only

	mu      sync.Mutex
	handles []*fakeHandle
	making  int // Starts under way
	most    int // at one time
}

func (p *fakeProvider) Start(ctx context.Context, o Order) (Handle, error) {
	p.mu.Lock()
	p.making++
	p.most = max(p.most, p.making)
	p.mu.Unlock()
	pass(p.slow)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.making--
	if p.refuse != nil {
		return nil, p.refuse
	}
	h := newFake(Identity{ID: o.ID, Service: o.Service.Name, Region: o.Region, Asked: o.Asked, Reason: o.Reason,
		Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(20000+len(p.handles)))})
	h.stubborn = p.stubborn
	p.handles = append(p.handles, h)
	return h, nil
}

func (p *fakeProvider) Adopt(context.Context) ([]Handle, error) {
	return p.adoptable, nil
}

// last is the handle that was made last.
func (p *fakeProvider) last() *fakeHandle {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.handles[len(p.handles)-1]
}

type fakeHandle struct {
	id       Identity
	stubborn bool
	ready    chan error // what AwaitReady is to say
	done     chan struct{}
	once     sync.Once
	died     *Died

	mu       sync.Mutex
	graces   []time.Duration // of stops
	released bool
	paging   Paging // what PageOut says
	locked   error  // and why nothing was paged out
}

func newFake(id Identity) *fakeHandle {
	return &fakeHandle{id: id, ready: make(chan error, 1), done: make(chan struct{})}
}

func (h *fakeHandle) Identity() Identity    { return h.id }
func (h *fakeHandle) Done() <-chan struct{} { return h.done }
func (h *fakeHandle) Died() *Died           { return h.died }

func (h *fakeHandle) AwaitReady(ctx context.Context) (time.Time, error) {
	select {
	case err := <-h.ready:
		return time.Now(), err
	case <-h.done:
		return time.Time{}, h.died
	case <-ctx.Done():
		return time.Time{}, fmt.Errorf("fake: %w", ctx.Err())
	}
}

func (h *fakeHandle) end(died *Died) {
	h.once.Do(func() {
		h.died = died
		close(h.done)
	})
}

func (h *fakeHandle) Stop(ctx context.Context, grace time.Duration) error {
	h.mu.Lock()
	h.graces = append(h.graces, grace)
	h.mu.Unlock()
	if h.stubborn {
		select {
		case <-h.done:
		case <-ctx.Done():
		case <-time.After(grace):
		}
	}
	h.end(&Died{Exit: "stopped"})
	return nil
}

func (h *fakeHandle) Pause() error  { return nil }
func (h *fakeHandle) Resume() error { return nil }

func (h *fakeHandle) PageOut() (before, after int64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.paging.Before, h.paging.After, h.locked
}

func (h *fakeHandle) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.released = true
}

// world is a manager in fake time.
type world struct {
	*testing.T
	*Manager
	provider *fakeProvider
	cancel   context.CancelFunc
	ended    chan error

	mu     sync.Mutex
	events []Event
}

// inFakeTime runs a test with a manager that serves.
func inFakeTime(t *testing.T, change func(*Options, *fakeProvider), test func(*world)) {
	faketime.Test(t, func(t *testing.T) {
		w := &world{T: t, provider: &fakeProvider{}, ended: make(chan error, 1)}
		o := Options{
			Region: "nl", Provider: w.provider, StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
			Timing: DefaultTiming(), Logs: DefaultLogLimits(),
			Events: func(e Event) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.events = append(w.events, e)
			},
		}
		if change != nil {
			change(&o, w.provider)
		}
		var err error
		if w.Manager, err = New(o); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		w.cancel = cancel
		go func() { w.ended <- w.Manager.Run(ctx) }()
		<-w.Adopted()
		test(w)
		cancel()
		if err := <-w.ended; err != nil {
			t.Error(err)
		}
	})
}

// sample is a service with room for instances.
func sample(name polder.ServiceName) polder.Service {
	return polder.Service{Name: name, Run: &polder.Run{Command: []string{"x"}}, Scale: polder.Scale{Max: 100}}
}

func (w *world) start(service polder.Service) (polder.InstanceID, *fakeHandle) {
	w.Helper()
	id, err := w.Start(w.Context(), service, "a test")
	if err != nil {
		w.Fatal(err)
	}
	return id, w.provider.last()
}

func (w *world) ready(service polder.Service) (polder.InstanceID, *fakeHandle) {
	w.Helper()
	id, h := w.start(service)
	h.ready <- nil
	synctest.Wait()
	return id, h
}

// told is all events so far, and forgets them.
func (w *world) told() []Event {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events = nil
	return events
}

// states checks the states told so far, of one instance.
func (w *world) states(id polder.InstanceID, want ...polder.InstanceState) []Event {
	w.Helper()
	var events []Event
	var got []polder.InstanceState
	for _, e := range w.told() {
		if e.ID == id {
			events, got = append(events, e), append(got, e.State)
		}
	}
	if !slices.Equal(got, want) {
		w.Errorf("states of %s: %v, want %v", id, got, want)
	}
	return events
}

// refused checks that the service may not be started, and says until when.
func (w *world) refused(service polder.Service) *Backoff {
	w.Helper()
	_, err := w.Start(w.Context(), service, "a test")
	b := (*Backoff)(nil)
	if !errors.As(err, &b) {
		w.Fatalf("error %v is no *Backoff", err)
	}
	return b
}

// pass lets fake time pass.
func pass(d time.Duration) { <-time.After(d) }
